"""Clear-text streams on real sockets: order, flow, ends, and the hand-over to Twisted."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.threads import deferToThread

from mta.inbound.streams import ClearStreams

reactor: Any = _reactor


class Recorder(Protocol):
    """Keeps what it hears; `ended` fires with the reason of the end."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended: Deferred[str] = Deferred()
        self.paused = 0
        self.resumed = 0

    def connectionMade(self) -> None:
        self.factory.made.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self.factory.deal(self, data)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(reason.type.__name__)

    def pauseProducing(self) -> None:
        self.paused += 1

    def resumeProducing(self) -> None:
        self.resumed += 1


class Server:
    def __init__(self) -> None:
        self.factory: Any = ServerFactory()
        self.factory.protocol = Recorder
        self.factory.made = []
        self.factory.deal = lambda protocol, data: None
        self.streams = ClearStreams(reactor)
        self.streams.start()
        self.port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.streams.adopt(self.port)

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port.getHost().port), 5)
        client.settimeout(5)
        return client


@pytest_twisted.async_yield_fixture
async def server():
    made = Server()
    yield made
    for stream in list(made.streams.streams.values()):
        stream.abortConnection()
    await turn()
    await made.port.stopListening()
    made.streams.stop()


def turn(seconds: float = 0.02) -> Deferred[None]:
    later: Deferred[None] = Deferred()
    reactor.callLater(seconds, later.callback, None)
    return later


async def until(probe: Any) -> Any:
    for _ in range(500):
        if probe():
            return probe()
        await turn(0.01)
    raise AssertionError("it did not happen")


@pytest_twisted.ensureDeferred
async def test_what_is_written_arrives_in_order_however_slowly_it_is_read(server: Server) -> None:
    whole = bytes(range(256)) * 160_000  # 40 MB: more than any socket buffer

    def deal(protocol: Any, _: bytes) -> None:
        protocol.transport.registerProducer(protocol, True)
        for start in range(0, len(whole), 3_000_000):
            protocol.transport.write(whole[start : start + 3_000_000])
        protocol.transport.unregisterProducer()
        protocol.transport.loseConnection()

    server.factory.deal = deal
    client = await deferToThread(server.connect)
    client.sendall(b"go")
    await until(lambda: server.factory.made and server.factory.made[0].paused)

    def read_all() -> bytes:
        pieces = []
        while piece := client.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)

    got = await deferToThread(read_all)
    client.close()
    assert got == whole
    assert await server.factory.made[0].ended == "ConnectionDone"


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_gone_is_noticed_while_reading_is_paused(server: Server) -> None:
    server.factory.deal = lambda protocol, _: protocol.transport.pauseProducing()
    client = await deferToThread(server.connect)
    client.sendall(b"x")
    protocol = await until(lambda: server.factory.made and server.factory.made[0])
    await until(lambda: protocol.heard)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
    client.close()
    assert await protocol.ended == "ConnectionLost"


@pytest_twisted.ensureDeferred
async def test_paused_reading_goes_on_when_resumed(server: Server) -> None:
    server.factory.deal = lambda protocol, _: protocol.transport.pauseProducing()
    client = await deferToThread(server.connect)
    client.sendall(b"one")
    protocol = await until(lambda: server.factory.made and server.factory.made[0])
    await until(lambda: protocol.heard)
    client.sendall(b"two")
    await turn(0.05)
    assert protocol.heard == b"one"
    protocol.transport.resumeProducing()
    await until(lambda: protocol.heard == b"onetwo")
    protocol.transport.resumeProducing()
    client.close()
    assert await protocol.ended == "ConnectionDone"


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_loses_only_its_own_connection(server: Server) -> None:
    def deal(protocol: Any, data: bytes) -> None:
        if data == b"bad":
            raise RuntimeError("ours")
        protocol.transport.write(b"fine")

    server.factory.deal = deal
    bad, good = await deferToThread(server.connect), await deferToThread(server.connect)
    await until(lambda: len(server.factory.made) == 2)
    bad.sendall(b"bad")
    good.sendall(b"good")
    assert await deferToThread(good.recv, 10) == b"fine"
    assert await deferToThread(bad.recv, 10) == b""
    for client in (bad, good):
        with contextlib.suppress(OSError):
            client.close()


@pytest_twisted.ensureDeferred
async def test_after_the_end_nothing_is_written_and_nothing_raises(server: Server) -> None:
    client = await deferToThread(server.connect)
    protocol = await until(lambda: server.factory.made and server.factory.made[0])
    transport = protocol.transport
    client.close()
    await protocol.ended
    transport.write(b"late")
    transport.loseConnection()
    transport.abortConnection()
    transport.pauseProducing()
    transport.resumeProducing()
    assert not server.streams.streams


@pytest_twisted.ensureDeferred
async def test_a_connection_that_nobody_can_be_made_for_is_closed_and_the_next_is_served(server: Server) -> None:
    build = server.factory.buildProtocol

    def fails(_: Any) -> Any:
        server.factory.buildProtocol = build
        raise RuntimeError("ours")

    server.factory.buildProtocol = fails
    refused = await deferToThread(server.connect)
    assert await deferToThread(refused.recv, 10) == b""
    refused.close()
    client = await deferToThread(server.connect)
    protocol = await until(lambda: server.factory.made and server.factory.made[0])
    client.close()
    assert await protocol.ended == "ConnectionDone"
