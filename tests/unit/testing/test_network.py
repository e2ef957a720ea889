"""Connections and datagrams of the fake network."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.testing.network import Network
from mta.testing.said_tls import NoTls
from mta.testing.stream import WINDOW_OCTETS


@implementer(IHandshakeListener)
class End(Protocol):
    """Remembers what it hears, and when."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.heard: list[tuple[float, bytes]] = []
        self.lost: Failure | None = None
        self.secure = False

    @property
    def octets(self) -> bytes:
        return b"".join(octets for _, octets in self.heard)

    @property
    def wire(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        self.heard.append((self.network.clock.seconds(), data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def handshakeCompleted(self) -> None:
        self.secure = True


class Pair:
    """A client and a server, connected."""

    def __init__(self, server: End | None = None, **links: Any) -> None:
        self.network = network = Network(1, **links)
        self.here, self.there = network.machine("here"), network.machine("there")
        self.process, self.other_process = self.here.boot(), self.there.boot()
        self.server = server or End(network)
        self.server.network = network
        self.other_process.listenTCP(25, Factory.forProtocol(lambda: self.server))
        self.client = End(network)
        connect(self, 25)

    def wait(self, seconds: float = 10.0) -> None:
        self.network.clock.run(seconds)
        assert self.network.clock.faults == []


def connect(pair: Pair, port: int, timeout: float = 30.0) -> list[Any]:
    results: list[Any] = []
    endpoint = TCP4ClientEndpoint(pair.process, pair.there.address, port, timeout)
    endpoint.connect(Factory.forProtocol(lambda: pair.client)).addBoth(results.append)
    return results


def test_octets_come_in_order_and_late() -> None:
    pair = Pair(latency=0.5, slicing=True, jitter=0.3)
    pair.wait()
    said = b"".join(b"%d " % number for number in range(5000))
    at = pair.network.clock.seconds()
    pair.client.wire.write(said)
    pair.wait()
    assert pair.server.octets == said
    assert len(pair.server.heard) > 5
    assert pair.server.heard[0][0] >= at + 0.5


def test_the_same_seed_cuts_the_same_pieces() -> None:
    def pieces() -> list[int]:
        pair = Pair(slicing=True)
        pair.wait()
        pair.client.wire.write(b"x" * 20000)
        pair.wait()
        return [len(octets) for _, octets in pair.server.heard]

    assert pieces() == pieces()


def test_a_narrow_link_takes_its_time() -> None:
    pair = Pair(octets_per_second=1000.0)
    pair.wait()
    at = pair.network.clock.seconds()
    pair.client.wire.write(b"x" * 5000)
    pair.wait()
    assert pair.server.heard[-1][0] == pytest.approx(at + 5.02)


def test_nobody_listens_or_nobody_is_there() -> None:
    pair = Pair()
    pair.wait()
    refused = connect(pair, 26)
    pair.wait(1)
    assert refused[0].check(error.ConnectionRefusedError)
    pair.there.up = False
    silent = connect(pair, 25, timeout=30)
    pair.wait(29)
    assert silent == []
    pair.wait(2)
    assert silent[0].check(error.TCPTimedOutError)
    pair.network.machines.pop(pair.there.address)
    unknown = connect(pair, 25)
    pair.wait(1)
    assert unknown[0].check(error.NoRouteError)


def test_a_close_comes_behind_what_was_written() -> None:
    pair = Pair()
    pair.wait()
    pair.server.wire.write(b"bye")
    pair.server.wire.loseConnection()
    pair.wait()
    assert pair.client.octets == b"bye"
    assert pair.client.lost is not None
    assert pair.client.lost.check(error.ConnectionDone)
    assert pair.server.lost is not None
    assert pair.server.lost.check(error.ConnectionDone)


def test_an_abort_resets_the_other_side() -> None:
    pair = Pair()
    pair.wait()
    pair.server.wire.abortConnection()
    pair.wait()
    assert pair.client.lost is not None
    assert pair.client.lost.check(error.ConnectionLost)


def test_half_a_connection_can_be_closed() -> None:
    @implementer(IHalfCloseableProtocol)
    class Half(End):
        ended = False

        def readConnectionLost(self) -> None:
            self.ended = True

        def writeConnectionLost(self) -> None:
            """Nothing."""

    server = Half(Network())
    pair = Pair(server)
    pair.wait()
    pair.client.wire.write(b"question")
    pair.client.wire.loseWriteConnection()
    pair.wait()
    assert server.ended
    assert server.lost is None
    server.wire.write(b"answer")
    pair.wait()
    assert pair.client.octets == b"answer"


@pytest.mark.parametrize("how", ["silent_after", "lost_after"])
def test_a_link_fails_in_the_midst_of_the_octets(how: str) -> None:
    pair = Pair()
    pair.wait()
    pair.network.link("here", "there", both_ways=False, **{how: 1000})
    pair.client.wire.write(b"x" * 3000)
    pair.wait(3600)
    assert len(pair.server.octets) == 1000
    if how == "silent_after":
        assert pair.server.lost is pair.client.lost is None
        pair.server.wire.write(b"the other way is open")
        pair.wait()
        assert pair.client.octets == b"the other way is open"
    else:
        assert pair.server.lost is not None
        assert pair.client.lost is not None


def test_who_does_not_read_stops_the_writer() -> None:
    class Producer:
        def __init__(self) -> None:
            self.told: list[str] = []

        def pauseProducing(self) -> None:
            self.told.append("pause")

        def resumeProducing(self) -> None:
            self.told.append("resume")

        def stopProducing(self) -> None:
            self.told.append("stop")

    pair, producer = Pair(), Producer()
    pair.wait()
    pair.server.wire.pauseProducing()
    pair.client.wire.registerProducer(producer, True)
    pair.client.wire.write(b"x" * (WINDOW_OCTETS + 1))
    pair.wait()
    assert producer.told == ["pause"]
    assert pair.server.octets == b""
    pair.server.wire.resumeProducing()
    pair.wait()
    assert producer.told == ["pause", "resume"]
    assert len(pair.server.octets) == WINDOW_OCTETS + 1


def test_a_process_that_dies_is_never_heard_of_again() -> None:
    pair = Pair()
    pair.wait()
    told: list[str] = []
    pair.other_process.callLater(1, told.append, "a timer of the dead")
    pair.there.end(pair.other_process, told=True)
    pair.server.wire.write(b"from beyond")
    pair.wait()
    assert told == []
    assert pair.client.octets == b""
    assert pair.client.lost is not None
    assert pair.server.lost is None
    refused = connect(pair, 25)
    pair.wait()
    assert refused[0].check(error.ConnectionRefusedError)


def test_of_a_power_cut_nobody_is_told() -> None:
    pair = Pair()
    pair.wait()
    pair.there.up = False
    pair.there.end(pair.other_process, told=False)
    pair.client.wire.write(b"hello?")
    pair.wait(3600)
    assert pair.client.lost is None


def test_tls_begins_when_both_sides_say_so() -> None:
    pair = Pair()
    pair.wait()
    pair.client.wire.startTLS(object())
    pair.wait()
    assert not pair.client.secure
    pair.server.wire.startTLS(object())
    pair.wait()
    assert pair.client.secure
    assert pair.server.secure
    pair.client.wire.write(b"secret")
    pair.wait()
    assert pair.server.octets == b"secret"


def test_a_handshake_may_fail() -> None:
    pair = Pair()
    pair.wait()
    pair.client.wire.startTLS(object())
    pair.server.wire.startTLS(NoTls())
    pair.wait()
    assert pair.client.lost is not None
    assert not pair.client.secure


class Datagrams(DatagramProtocol):
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard.append(datagram)


def test_datagrams_come_or_are_lost() -> None:
    network = Network(3, loss=0.5)
    here, there = network.machine("here"), network.machine("there")
    receiver = Datagrams()
    there.boot().listenUDP(53, receiver)
    sender = here.boot().listenUDP(0, Datagrams())
    for number in range(200):
        sender.write(b"%d" % number, (there.address, 53))
    network.clock.run(1)
    assert 60 < len(receiver.heard) < 140
    sender.write(b"nobody there", (there.address, 54))
    network.clock.run(1)
    assert network.clock.faults == []


def test_a_connected_port_hears_one_other_alone() -> None:
    network = Network()
    here, there, stranger = (network.machine(name) for name in ("here", "there", "stranger"))
    ours = Datagrams()
    port = here.boot().listenUDP(1000, ours)
    port.connect(there.address, 53)
    there.boot().listenUDP(53, Datagrams()).write(b"answer", (here.address, 1000))
    stranger.boot().listenUDP(53, Datagrams()).write(b"forged", (here.address, 1000))
    network.clock.run(1)
    assert ours.heard == [b"answer"]
