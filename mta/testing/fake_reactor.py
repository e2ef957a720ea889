"""The reactor that one process of a fake network sees: time, TCP, UDP, and threads that take no time.

It ends with its process: from then on no call, no octet and no datagram of it happens.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import error
from twisted.internet.interfaces import (
    IConnector,
    IListeningPort,
    IReactorFromThreads,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.testing.fake_clock import Call, FakeClock, Life
from mta.testing.fake_datagrams import FakeDatagrams
from mta.testing.stream import Stream, address_of

if TYPE_CHECKING:
    from mta.testing.network import Link, Machine

FIRST_FREE_PORT = 32768


@implementer(IReactorTime, IReactorTCP, IReactorUDP, IReactorFromThreads)
class FakeReactor:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.network = machine.network
        self.clock: FakeClock = machine.network.clock
        self.random: random.Random = machine.network.random
        self.life = Life()
        self.streams: set[Stream] = set()
        self._free_port = FIRST_FREE_PORT + self.random.randrange(8192)

    def end(self, *, told: bool) -> None:
        """See Machine.end."""
        self.life.over = True
        for stream in sorted(self.streams, key=lambda each: each.getHost().port):
            stream.vanish(told=told)

    # --- time -----------------------------------------------------------------------------------------------------

    def seconds(self) -> float:
        return self.clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> Call:  # noqa: A002 - IReactorTime's
        return self.clock.call_later(self.life, delay, callable, args, kw)

    def getDelayedCalls(self) -> list[Call]:
        return self.clock.waiting(self.life)

    def callWhenRunning(self, callable: Callable[..., Any], *args: Any, **kw: Any) -> None:  # noqa: A002 - IReactorCore's
        self.callLater(0, callable, *args, **kw)

    # --- threads --------------------------------------------------------------------------------------------------

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kw: Any) -> None:  # noqa: A002 - IReactorFromThreads'
        self.callLater(0, callable, *args, **kw)

    def getThreadPool(self) -> ThreadsAtOnce:
        return ThreadsAtOnce()

    def addReader(self, reader: object) -> None:
        """There are no descriptors here."""

    def removeReader(self, reader: object) -> None:
        """There are no descriptors here."""

    # --- TCP ------------------------------------------------------------------------------------------------------

    def free_port(self) -> int:
        self._free_port += 1
        return self._free_port

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> FakePort:
        number = port or self.free_port()
        if number in self.machine.listening:
            raise error.CannotListenError(interface or self.machine.address, number, OSError("Address already in use"))
        listening = FakePort(self, number, factory)
        self.machine.listening[number] = listening
        factory.doStart()
        return listening

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Connector:  # noqa: N803 - IReactorTCP's
        connector = Connector(self, (host, port), factory, timeout)
        factory.doStart()
        factory.startedConnecting(connector)
        connector.begin()
        return connector

    # --- UDP ------------------------------------------------------------------------------------------------------

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> FakeDatagrams:  # noqa: N803 - IReactorUDP's
        number = port or self.free_port()
        if number in self.machine.datagrams:
            raise error.CannotListenError(interface or self.machine.address, number, OSError("Address already in use"))
        bound = FakeDatagrams(self, number, protocol, maxPacketSize)
        self.machine.datagrams[number] = bound
        protocol.makeConnection(bound)
        return bound


@implementer(IListeningPort)
class FakePort:
    """An IListeningPort."""

    def __init__(self, reactor: FakeReactor, number: int, factory: Any) -> None:
        self.reactor, self.number, self.factory = reactor, number, factory

    def startListening(self) -> None:
        """It does."""

    def stopListening(self) -> None:
        if self.reactor.machine.listening.get(self.number) is self:
            del self.reactor.machine.listening[self.number]
            self.factory.doStop()

    def loseConnection(self) -> None:
        self.stopListening()

    def getHost(self) -> Any:
        return address_of(self.reactor.machine.address, self.number)


@implementer(IConnector)
class Connector:
    """An IConnector: SYN there, SYN-ACK back, or what comes in their place."""

    def __init__(self, reactor: FakeReactor, there: tuple[str, int], factory: Any, timeout: float) -> None:
        self._reactor, self._there, self._factory = reactor, there, factory
        self._timeout = timeout
        self._calls: list[Call] = []
        self.state = "disconnected"
        self.stream: Stream | None = None

    def begin(self) -> None:
        self.state = "connecting"
        network, here = self._reactor.network, self._reactor.machine
        target = network.machines.get(self._there[0])
        if target is None:
            self._after(0.0, self._fail, error.NoRouteError())
            return
        self._after(self._timeout, self._fail, error.TCPTimedOutError())
        way = network.between(here.address, target.address)
        if not way.dead:
            self._after(way.wait(network.random), self._knock, target, network.between(target.address, here.address))

    def _after(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        self._calls.append(self._reactor.callLater(seconds, function, *args))

    def _knock(self, target: Machine, back: Link) -> None:
        if not target.up or back.dead:
            return  # until the time-out
        port = target.listening.get(self._there[1])
        answer = back.wait(self._reactor.random)
        if port is None:
            self._after(answer, self._fail, error.ConnectionRefusedError())
            return
        here = (self._reactor.machine.address, self._reactor.free_port())
        there = (target.address, port.number)
        between = self._reactor.network.between
        mine = Stream(self._reactor, here, there, between(here[0], there[0]))
        theirs = Stream(port.reactor, there, here, between(there[0], here[0]))
        self._after(answer, self._connected, mine, theirs)
        mine.other, theirs.other = theirs, mine
        self.stream = mine
        protocol = port.factory.buildProtocol(address_of(*here))
        if protocol is None:
            theirs.vanish(told=True)
        else:
            theirs.begin(protocol, mine)

    def _connected(self, mine: Stream, theirs: Stream) -> None:
        self._stop_calls()
        self.state = "connected"
        protocol = self._factory.buildProtocol(mine.getPeer())
        if protocol is None:
            mine.vanish(told=True)
        else:
            mine.connector = self
            mine.begin(protocol, theirs)

    def _fail(self, why: error.ConnectError) -> None:
        self._stop_calls()
        if self.state == "connecting":
            self.state = "disconnected"
            if self.stream is not None:  # the other side thinks that it is connected
                self.stream.vanish(told=True)
            self._factory.clientConnectionFailed(self, Failure(why))
            self._factory.doStop()

    def _stop_calls(self) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls.clear()

    def connectionLost(self, reason: Failure) -> None:
        self.state = "disconnected"
        self._factory.clientConnectionLost(self, reason)
        self._factory.doStop()

    def stopConnecting(self) -> None:
        self._fail(error.UserError())

    def disconnect(self) -> None:
        if self.state == "connecting":
            self.stopConnecting()
        elif self.stream is not None:
            self.stream.loseConnection()

    def connect(self) -> None:
        self.begin()

    def getDestination(self) -> Any:
        return address_of(*self._there)


class ThreadsAtOnce:
    """A thread pool whose work is done when it is asked for."""

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], Any] | None, work: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        try:
            success, result = True, work(*args, **kw)
        except Exception:  # noqa: BLE001 - whoever asked is told
            success, result = False, Failure()
        if done is not None:
            done(success, result)

    def callInThread(self, work: Callable[..., Any], *args: Any, **kw: Any) -> None:
        self.callInThreadWithCallback(None, work, *args, **kw)
