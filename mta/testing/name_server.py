"""A name server in front of Zones: UDP and TCP on any reactor, fake or real; and how the resolver asks it over a fake network."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from mta.dns.channel import MESSAGE_LIMIT_OCTETS, Broken, Channel, ReactorNetwork, Received
from mta.testing.zones import Zones


class NameServer:
    """`start` gives the port, the same for UDP and TCP."""

    def __init__(self, reactor: Any, zones: Zones) -> None:
        self._reactor = reactor
        self.zones = zones

    def start(self, port: int, interface: str = "") -> int:
        self._reactor.listenTCP(port, Factory.forProtocol(lambda: _OverTcp(self)), interface=interface)
        self._reactor.listenUDP(port, _OverUdp(self), interface=interface)
        return port

    def answer(self, octets: bytes, send: Any, *, udp: bool) -> None:
        """`send` is called with the answer, when it is time."""
        found = self.zones.respond(octets, udp=udp)
        if found is not None:
            self._reactor.callLater(found[1], send, found[0])


class _OverUdp(DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        def send(octets: bytes) -> None:
            if self.transport is not None:
                self.transport.write(octets, addr)

        self._server.answer(datagram, send, udp=True)


class _OverTcp(Protocol):
    """Messages with their length in front (RFC 1035 section 4.2.2)."""

    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2 and len(self._buffer) >= 2 + (size := int.from_bytes(self._buffer[:2], "big")):
            octets, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            self._server.answer(octets, self._send, udp=False)

    def _send(self, octets: bytes) -> None:
        if self.transport is not None:
            self.transport.write(len(octets).to_bytes(2, "big") + octets)


class FakeChannels(ReactorNetwork):
    """mta.dns's ways to name servers over a FakeReactor: TCP as always, UDP without sockets of the system."""

    def __init__(self, process: Any) -> None:
        super().__init__(process)
        self._process = process

    def udp(self, address: str, port: int, received: Received, broken: Broken) -> Channel:
        return _FakeChannel(self._process, (address, port), received)


class _FakeChannel(DatagramProtocol):
    """Nobody says that a port is closed: the question waits for its time-out."""

    def __init__(self, process: Any, there: tuple[str, int], received: Received) -> None:
        self._received = received
        self._port = process.listenUDP(0, self, maxPacketSize=MESSAGE_LIMIT_OCTETS)
        self._port.connect(*there)

    def send(self, message: bytes) -> None:
        self._port.write(message)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._received(datagram)

    def close(self) -> None:
        self._port.stopListening()
