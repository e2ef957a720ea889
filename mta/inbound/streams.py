"""Clear-text connections without a turn of the reactor for each of their packets.

Twisted's own transport costs a lock-step client's reply two epoll calls and a turn of the reactor, and each event some
5 µs of log context: more than all of our parsing. Here all clear connections stand in an epoll set of their own; the reactor
watches that set as one descriptor, and what is ready is dealt with in one turn. A write goes out at once when it can.

The listening sockets stand in the same set, and connections are kept as bare descriptors: a socket object of Python's costs each
connection four system calls that nobody needs.

Only clear text is done here. At STARTTLS (or at once, for implicit TLS) the socket is handed to Twisted's tcp.Server, and
everything that is hard about TLS stays where it is well kept.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IListeningPort, IPushProducer, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

READ_OCTETS = 65536
# What the kernel takes for a client that does not read. By itself it lets this grow to 4 MB a connection, which 2,000 of them would make
# 8 GB of; all replies of the longest pipelined transaction are some 30 KB.
SEND_BUFFER_OCTETS = 65536
PRODUCER_BOUND_OCTETS = 65536  # unsent replies beyond which the producer is paused
EVENTS_A_TURN = 128  # law 13
ACCEPTS_A_TURN = 20

_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR
_WOULD_BLOCK = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})
_DONE = Failure(ConnectionDone())
_log = Logger()


@implementer(IReadDescriptor)
class ClearStreams:
    """The set of clear-text connections. One a process; `adopt` it to a listening port."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.streams: dict[int, ClearStream] = {}
        self.set = select.epoll()
        self._doors: dict[int, Door] = {}
        self._ending: list[tuple[ClearStream, Failure]] = []
        self._dealing = False

    def start(self) -> None:
        self.reactor.addReader(self)

    def stop(self) -> None:
        self.reactor.removeReader(self)
        self._doors.clear()
        self.set.close()

    def adopt(self, port: IListeningPort) -> None:
        """Connections of this port are kept here. A port that is not Twisted's TCP port is left as it is."""
        if isinstance(port, tcp.Port):
            some: Any = port
            # its connections inherit both
            some.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_OCTETS)
            some.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            some.stopReading()
            descriptor = some.socket.fileno()
            self._doors[descriptor] = Door(self, some)
            self.set.register(descriptor, _IN)

    def drop(self, descriptor: int) -> None:
        """A connection that failed before its protocol had it, or while it was told: nothing of it stays open."""
        stream = self.streams.get(descriptor)
        if stream is not None:
            stream.abortConnection()
        else:
            os.close(descriptor)

    def shut(self, door: Door) -> None:
        """Its port was closed: the set forgot the descriptor by itself, which may be somebody else's already."""
        for descriptor in [number for number, each in self._doors.items() if each is door]:
            del self._doors[descriptor]

    # --- IReadDescriptor ------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self.set.fileno()

    def logPrefix(self) -> str:
        return "smtp"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""

    def doRead(self) -> None:
        self._dealing = True
        streams = self.streams
        try:
            for descriptor, events in self.set.poll(0, EVENTS_A_TURN):
                stream = streams.get(descriptor)
                if stream is None:
                    door = self._doors.get(descriptor)
                    if door is not None:
                        door.open()
                    continue
                try:
                    stream.ready(events)
                except Exception:  # noqa: BLE001 - one connection's fault must not end another
                    _log.failure("a connection failed")
                    self.end(stream, Failure())
        finally:
            self._dealing = False
            if self._ending:
                self._bury()

    def end(self, stream: ClearStream, reason: Failure) -> None:
        """Close it when what is being dealt with has been dealt with: a protocol never loses its transport in mid-call."""
        self._ending.append((stream, reason))
        if not self._dealing and len(self._ending) == 1:
            self.reactor.callLater(0, self._bury)

    def _bury(self) -> None:
        while self._ending:
            ending, self._ending = self._ending, []
            for stream, reason in ending:
                stream.bury(reason)


class Door:
    """A listening socket of the set."""

    __slots__ = ("_accept", "_address", "_number", "_port", "_streams")

    def __init__(self, streams: ClearStreams, port: Any) -> None:
        self._streams = streams
        self._port = port
        self._accept = port.socket._accept  # (descriptor, address): without the object around it
        self._address: Any = IPv6Address if port.addressFamily == socket.AF_INET6 else IPv4Address
        self._number = 0

    def open(self) -> None:
        """Somebody waits. Never raises."""
        port = self._port
        if not port.connected or port.disconnecting:
            self._streams.shut(self)
            return
        for _ in range(ACCEPTS_A_TURN):
            try:
                descriptor, peer = self._accept()
            except BlockingIOError:
                return
            except OSError:
                port.doRead()  # Twisted knows what to do when descriptors have run out
                return
            try:
                self._enter(descriptor, peer)
            except Exception:  # noqa: BLE001 - one connection's fault must not close the door
                _log.failure("a connection could not be taken")
                self._streams.drop(descriptor)

    def _enter(self, descriptor: int, peer: tuple[Any, ...]) -> None:
        protocol = self._port.factory.buildProtocol(self._address("TCP", *peer))
        if protocol is None:
            os.close(descriptor)
            return
        self._number += 1
        protocol.makeConnection(ClearStream(self._streams, descriptor, protocol, peer, self._port, self._number))


class ClearStream:
    """One connection: the part of ITCPTransport that a server needs."""

    __slots__ = ("_closing", "_number", "_out", "_peer", "_port", "_producer", "_reading", "_streams", "connected", "descriptor",
                 "protocol")  # fmt: skip

    def __init__(
        self, streams: ClearStreams, descriptor: int, protocol: Any, peer: Any, port: Any, number: int
    ) -> None:
        self._streams = streams
        self._peer = peer
        self._port = port
        self._number = number
        self._out = b""
        self._producer: IPushProducer | None = None
        self._reading = True
        self._closing = False
        self.connected = True
        self.protocol = protocol
        self.descriptor = descriptor
        os.set_blocking(descriptor, False)
        streams.streams[descriptor] = self
        streams.set.register(descriptor, _IN)

    def ready(self, events: int) -> None:
        """The set says that there is something."""
        if events & _OUT:
            self._write_more()
        if events & _IN and self._reading and self.connected:
            self._read()
        elif events & _GONE:  # also while reading is paused: a client that is gone is gone
            self._lose(ConnectionLost())

    def _read(self) -> None:
        try:
            data = os.read(self.descriptor, READ_OCTETS)
        except OSError as error:
            if error.errno not in _WOULD_BLOCK:
                self._lose(ConnectionLost(str(error)))
            return
        if data:
            if not self._closing:
                self.protocol.dataReceived(data)
        else:
            self._end(_DONE)

    def _lose(self, why: Exception) -> None:
        self._end(Failure(why))

    def _end(self, reason: Failure) -> None:
        if self.connected:
            self.connected = False
            self._streams.end(self, reason)

    def bury(self, reason: Failure) -> None:
        """Called by the set, once."""
        descriptor = self.descriptor
        if self._streams.streams.pop(descriptor, None) is None:
            return
        os.close(descriptor)  # the set forgets it by itself
        protocol, self.protocol, self._producer = self.protocol, None, None
        protocol.connectionLost(reason)

    # --- what the protocol calls ----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not self.connected or self._closing or not data:
            return
        if not self._out:
            try:
                sent = os.write(self.descriptor, data)
            except OSError as error:
                if error.errno not in _WOULD_BLOCK:
                    self._lose(ConnectionLost(str(error)))
                    return
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self._out += data
        self._interest()
        if len(self._out) > PRODUCER_BOUND_OCTETS and self._producer is not None:
            self._producer.pauseProducing()

    def _write_more(self) -> None:
        try:
            sent = os.write(self.descriptor, self._out)
        except OSError as error:
            if error.errno not in _WOULD_BLOCK:
                self._lose(ConnectionLost(str(error)))
            return
        self._out = self._out[sent:]
        if self._out:
            return
        if self._closing:
            self._end(_DONE)
            return
        self._interest()
        if self._producer is not None:
            self._producer.resumeProducing()

    def _interest(self) -> None:
        wanted = (_IN if self._reading else 0) | (_OUT if self._out else 0)
        self._streams.set.modify(self.descriptor, wanted)

    def loseConnection(self) -> None:
        """Close when what was written has gone out."""
        if self.connected and not self._closing:
            self._closing = True
            if not self._out:
                self._end(_DONE)

    def abortConnection(self) -> None:
        self._lose(ConnectionLost("aborted"))

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        if self._reading and self.connected:
            self._reading = False
            self._interest()

    def resumeProducing(self) -> None:
        if not self._reading and self.connected:
            self._reading = True
            self._interest()

    def startTLS(self, context_factory: Any) -> None:
        """Hand the socket to Twisted. What was written in clear and has not gone out goes first."""
        streams = self._streams
        del streams.streams[self.descriptor]
        streams.set.unregister(self.descriptor)
        self.connected = False
        protocol = self.protocol
        skt = socket.socket(fileno=self.descriptor)
        server = tcp.Server(skt, protocol, self._peer, self._port, self._number, streams.reactor)
        protocol.transport = server
        if self._out:
            server.write(self._out)
        if self._producer is not None:
            server.registerProducer(self._producer, True)
        if not self._reading:
            server.pauseProducing()
        server.startTLS(context_factory)
