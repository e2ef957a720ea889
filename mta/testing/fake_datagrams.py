"""UDP of a fake network: datagrams come late, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IListeningPort, IUDPTransport
from zope.interface import implementer

if TYPE_CHECKING:
    from mta.testing.fake_reactor import FakeReactor


@implementer(IUDPTransport, IListeningPort)
class FakeDatagrams:
    """One bound port. Once `connect`ed it takes datagrams from there alone."""

    def __init__(self, reactor: FakeReactor, number: int, protocol: Any, octets_max: int) -> None:
        self.reactor, self.number, self.protocol = reactor, number, protocol
        self._octets_max = octets_max
        self._only: tuple[str, int] | None = None
        self._open = True

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        there = addr or self._only
        if there is None:
            raise ValueError("to whom?")
        network, machine = self.reactor.network, self.reactor.machine
        link = network.between(machine.address, there[0])
        if link.dead or (link.loss and network.random.random() < link.loss):
            return
        network.clock.later(link.wait(network.random), self._carry, bytes(packet), there)

    def _carry(self, packet: bytes, there: tuple[str, int]) -> None:
        target = self.reactor.network.machines.get(there[0])
        if target is not None and target.up and there[1] in target.datagrams:
            target.datagrams[there[1]].arrived(packet, (self.reactor.machine.address, self.number))

    def arrived(self, packet: bytes, sender: tuple[str, int]) -> None:
        if self._open and self._only in {None, sender}:
            self.protocol.datagramReceived(packet[: self._octets_max], sender)

    def connect(self, host: str, port: int) -> None:
        self._only = (host, port)

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", self.reactor.machine.address, self.number)

    def startListening(self) -> None:
        """It does."""

    def stopListening(self) -> None:
        if self._open:
            self._open = False
            self.reactor.machine.datagrams.pop(self.number, None)
            self.protocol.doStop()

    def loseConnection(self) -> None:
        self.stopListening()

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Nobody broadcasts here."""

    def getBroadcastAllowed(self) -> bool:
        return False
