"""Messages to a name server and back, over UDP and TCP. What they say is not known here.

Each question has a UDP socket of its own, connected to the server: its source port is drawn at random by the system, it hears that
one address and port alone (RFC 5452 section 9.2), and a port that nobody listens at says so at once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

MESSAGE_LIMIT_OCTETS = 65535
READS_AT_ONCE = 32  # a flood must not hold the reactor's turn

Received = Callable[[bytes], None]
Broken = Callable[[str], None]  # with the reason; no more messages come


class Channel(Protocol):
    """A way to one server, open for one question."""

    def send(self, message: bytes) -> None:
        """Goes out as soon as the way is open. What goes wrong is told by `Broken`, at once or later."""

    def close(self) -> None:
        """Neither `Received` nor `Broken` are called any more. Idempotent."""


class Network(Protocol):
    """Opens channels; never raises."""

    def udp(self, address: str, port: int, received: Received, broken: Broken) -> Channel: ...

    def tcp(self, address: str, port: int, received: Received, broken: Broken) -> Channel: ...


class ReactorNetwork:
    """A Network on a reactor: IReactorFDSet and IReactorTCP."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def udp(self, address: str, port: int, received: Received, broken: Broken) -> Channel:
        return _Udp(self._reactor, address, port, received, broken)

    def tcp(self, address: str, port: int, received: Received, broken: Broken) -> Channel:
        return _Tcp(self._reactor, address, port, received, broken)


@implementer(IReadDescriptor)
class _Udp:
    """Twisted's own datagram port writes two lines of log for each that is opened."""

    def __init__(self, reactor: Any, address: str, port: int, received: Received, broken: Broken) -> None:
        self._reactor, self._received, self._broken = reactor, received, broken
        self._to = (address, port)
        self._socket: socket.socket | None = None

    def send(self, message: bytes) -> None:
        family = socket.AF_INET6 if ":" in self._to[0] else socket.AF_INET
        opened = None
        try:
            opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            opened.connect(self._to)
            opened.send(message)
        except OSError as error:
            if opened is not None:
                opened.close()
            self._broken(error.strerror or str(error))
            return
        self._socket = opened
        self._reactor.addReader(self)

    def close(self) -> None:
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def logPrefix(self) -> str:
        return "dns"

    def doRead(self) -> None:
        for _ in range(READS_AT_ONCE):
            if self._socket is None:  # closed by whoever received the last one
                return
            try:
                message = self._socket.recv(MESSAGE_LIMIT_OCTETS)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # ICMP: nobody listens there, no way there
                self.close()
                self._broken(error.strerror or str(error))
                return
            self._received(message)

    def connectionLost(self, reason: Failure) -> None:
        """By the reactor, when it ends or the descriptor broke."""
        if self._socket is not None:
            self.close()
            self._broken(reason.getErrorMessage())


class _Tcp(ClientFactory):
    """RFC 7766 section 8: each message behind its length."""

    noisy = False

    def __init__(self, reactor: Any, address: str, port: int, received: Received, broken: Broken) -> None:
        self._reactor, self._received, self._broken = reactor, received, broken
        self._to = (address, port)
        self._connector: Any = None
        self._message = b""
        self._closed = False

    def send(self, message: bytes) -> None:
        self._message = message
        self._connector = self._reactor.connectTCP(*self._to, self)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._connector is not None:
                self._connector.disconnect()

    def buildProtocol(self, addr: Any) -> _Stream:
        return _Stream(self._message, self.received)

    def received(self, message: bytes) -> None:
        if not self._closed:
            self._received(message)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._ended(reason)

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        self._ended(reason)

    def _ended(self, reason: Failure) -> None:
        if not self._closed:
            self._closed = True
            self._broken(reason.getErrorMessage().rstrip("."))


class _Stream(Int16StringReceiver):
    def __init__(self, message: bytes, received: Received) -> None:
        self._message, self._handed_on = message, received

    def connectionMade(self) -> None:
        self.sendString(self._message)  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        self._handed_on(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The factory hears of it."""
