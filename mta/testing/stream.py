"""A TCP connection that is none: two transports, and a link between them for each direction.

Octets come in order, cut anywhere, as late as the link says. What the other side does not read stops the writer, as windows do. A link may
lose the connection or fall silent in the midst of the octets. TLS is a word here: each side says it, and after both have said it
the handshake is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IHandshakeListener, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.testing.said_tls import ClientSide, NoTls

if TYPE_CHECKING:
    from mta.testing.fake_reactor import FakeReactor
    from mta.testing.network import Link

WINDOW_OCTETS = 65536  # written and not yet read, before the writer is told to pause


class _Sign:
    """What travels between octets."""


class _Hello(_Sign):
    """TLS begins; `side` is what the other one gets to know."""

    def __init__(self, side: object) -> None:
        self.side = side


_END = _Sign()  # FIN
_RESET = _Sign()  # RST


class Handle:
    """What is asked of a TLS connection."""

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def get_cipher_bits(self) -> int:
        return 256


def address_of(host: str, port: int) -> IPv4Address | IPv6Address:
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


@implementer(ITCPTransport, IConsumer)
class Stream:
    """One end. `disconnecting` and `connected` as Twisted's transports have them."""

    def __init__(self, reactor: FakeReactor, here: tuple[str, int], there: tuple[str, int], link: Link) -> None:
        self._reactor = reactor
        self._here, self._there = here, there
        self.link = link  # of what goes out
        self.other: Stream | None = None
        self.protocol: Any = None
        self.connector: Any = None  # of a client
        self.connected = False
        self.disconnecting = False
        self._closed = False
        self.octets_sent = 0
        self._unread = 0  # octets written that the other side has not read
        self._link_free = 0.0  # when the last octet has left
        self._arrives = 0.0  # when the last octet comes there
        self._inbox: deque[bytes | _Sign] = deque()
        self._reading = True
        self._silent = False  # what is written goes nowhere
        self._ended = False  # nothing more will be written
        self._producer: Any = None
        self._streaming = self._producer_paused = False
        self._tls = ""  # "", "waiting", "up"
        self._side: object = None  # ours
        reactor.streams.add(self)

    # --- what the network calls -----------------------------------------------------------------------------------

    def begin(self, protocol: Any, other: Stream) -> None:
        self.protocol, self.other = protocol, other
        self.connected = True
        protocol.makeConnection(self)
        self._read()

    def vanish(self, *, told: bool) -> None:
        """The process ends at once. `told`: its kernel resets the connection; else the machine has lost its power."""
        self._forget()
        if told:
            self._send(_RESET)

    def _arrived(self, item: bytes | _Sign) -> None:
        if self._closed:
            if isinstance(item, bytes) and self._reactor.machine.up:
                self._send(_RESET)  # nobody reads here any more
            return
        if item is _RESET:
            self._inbox.clear()
            self._lose(ConnectionLost("Connection reset by peer"))
            return
        self._inbox.append(item)  # which may be before this side knows that it is connected
        self._read()

    def _read(self) -> None:
        while self._inbox and self.connected and self._reading:
            item = self._inbox[0]
            if isinstance(item, _Hello) and not self._tls:
                return  # until this side begins too
            self._inbox.popleft()
            if isinstance(item, bytes):
                self._take(item)
            elif isinstance(item, _Hello):
                self._shake_hands(item.side)
            elif item is _END:
                self._other_ended()

    def _take(self, octets: bytes) -> None:
        if self.other is not None:
            self.other.was_read(len(octets))
        if self._tls == "waiting":
            self._lose(SSL.Error([("SSL routines", "", "wrong version number")]))
        elif not self.disconnecting:
            self.protocol.dataReceived(octets)

    def _other_ended(self) -> None:
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._lose(ConnectionDone())

    def was_read(self, octets: int) -> None:
        """The other side has taken them."""
        self._unread -= octets
        if self._unread <= WINDOW_OCTETS // 2 and self._producer_paused and self._producer is not None:
            self._producer_paused = False
            self._soon(self._ask_producer)

    def _ask_producer(self) -> None:
        if self._producer is not None and self.connected and not self._producer_paused:
            self._producer.resumeProducing()

    # --- the way of octets ----------------------------------------------------------------------------------------

    def _send(self, item: bytes | _Sign) -> None:
        """On its way, in order; `link` says when it comes, and whether."""
        clock, link = self._reactor.clock, self.link
        self._silent = self._silent or link.dead
        if self._silent:
            return
        if not isinstance(item, bytes):
            self._put(item, 0)
            return
        for piece in link.cut(item, self._reactor.random):
            room = link.octets_left(self.octets_sent)
            if room is None or len(piece) <= room:
                self.octets_sent += len(piece)
                self._put(piece, len(piece))
                continue
            self.octets_sent += room
            if room:
                self._put(piece[:room], room)
            self._silent = True
            if link.lost_after is not None and self.octets_sent >= link.lost_after:
                clock.later(max(link.latency, self._arrives - clock.seconds()), self._broken)
            return

    def _put(self, item: bytes | _Sign, octets: int) -> None:
        clock, link, other = self._reactor.clock, self.link, self.other
        now = clock.seconds()
        self._link_free = max(now, self._link_free) + (octets / link.octets_per_second)
        self._arrives = max(self._link_free + link.wait(self._reactor.random), self._arrives)
        if other is not None:
            clock.later(self._arrives - now, other._arrived, item)

    def _broken(self) -> None:
        """The link lost the connection: both sides hear of it."""
        for end in (self, self.other):
            if end is not None:
                end._lose(ConnectionLost("Connection reset by peer"))

    def _soon(self, function: Callable[..., Any], *args: Any) -> None:
        self._reactor.callLater(0, function, *args)

    def _lose(self, why: Exception) -> None:
        if self.connected:
            self._forget()
            if not self._reactor.life.over:
                self.protocol.connectionLost(Failure(why))
                if self.connector is not None:
                    self.connector.connectionLost(Failure(why))

    def _forget(self) -> None:
        self.connected, self._closed = False, True
        self._inbox.clear()
        self._producer = None
        self._reactor.streams.discard(self)

    # --- ITransport -----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not data or not self.connected or self.disconnecting or self._ended or self._reactor.life.over:
            return
        self._unread += len(data)
        self._send(bytes(data))
        if self._unread > WINDOW_OCTETS and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when what was written has gone out."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if not self._ended:
                self._ended = True
                self._send(_END)
            self._close_when_gone()

    def _close_when_gone(self) -> None:
        """What fits into the window is the kernel's; the rest keeps the connection open here."""
        if not self.connected:
            return
        if self._unread <= WINDOW_OCTETS:
            self._soon(self._lose, ConnectionDone())
        else:
            self._reactor.callLater(max(self.link.latency, 0.01), self._close_when_gone)

    def loseWriteConnection(self) -> None:
        if self.connected and not self._ended:
            self._ended = True
            self._send(_END)

    def abortConnection(self) -> None:
        if self.connected and not self._reactor.life.over:
            self.disconnecting = True
            self._reading = False
            self._inbox.clear()
            self._send(_RESET)
            self._soon(self._lose, ConnectionAborted())

    def getPeer(self) -> IPv4Address | IPv6Address:
        return address_of(*self._there)

    def getHost(self) -> IPv4Address | IPv6Address:
        return address_of(*self._here)

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """A link that is dead tells nobody."""

    # --- producers ------------------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        self._producer, self._streaming, self._producer_paused = producer, streaming, False
        if not self.connected:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._streaming = False

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        if not self._reading and self.connected and not self.disconnecting:
            self._reading = True
            self._soon(self._read)

    def stopProducing(self) -> None:
        self.loseConnection()

    # --- TLS ------------------------------------------------------------------------------------------------------

    @property
    def TLS(self) -> bool:
        return self._tls == "up"

    def startTLS(self, contextFactory: object, normal: bool = True) -> None:  # noqa: N803 - Twisted's
        if isinstance(contextFactory, NoTls):
            self.abortConnection()
            return
        self._tls, self._side = "waiting", contextFactory
        self._send(_Hello(contextFactory))
        self._soon(self._read)

    def getHandle(self) -> Handle:
        return Handle()

    def _shake_hands(self, other: object) -> None:
        if isinstance(self._side, ClientSide) and not self._side.accepts(other):
            self._send(_RESET)
            self._lose(SSL.Error([("SSL routines", "", "certificate verify failed")]))
            return
        self._tls = "up"
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()
