"""CPU of the way out for a message that its next hop takes: engine, connection and next hop, over a transport in memory.

    python bench/outbound_cpu.py [messages] [--profile] [--no-reuse]

Target: at most 0.15 ms in all, of which the kernel's part of a connection is not in here. 10 KB a message, five under way at once;
`--no-reuse` closes each connection after its message, as under a load of destinations that are all different.
"""

from __future__ import annotations

import cProfile
import pstats
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mta.delivery.agent import Agents, Job
from mta.delivery.options import SmtpOptions
from mta.delivery.smtp import SmtpAgent
from mta.mail.address import parse_address
from mta.mail.envelope import Content, Kind, Message, Notify, Recipient, State
from mta.mail.outcome import Relayed
from mta.testing.fake_resolver import FakeResolver

BATCH = 5
GONE = Failure(ConnectionDone())
GREETING = b"220 mx.example.net ESMTP Postfix\r\n"
EHLO = (
    b"250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 50000000\r\n250-VRFY\r\n250-ETRN\r\n250-ENHANCEDSTATUSCODES\r\n"
    b"250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
)
ENVELOPE = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
CONTENT = Content(b"Subject: x\r\n" * 40, b"x" * 70 + b"\r\n" + (b"y" * 72 + b"\r\n") * 128)


class Peer:
    """A transport, and a host behind it that takes everything; `turn` lets it answer."""

    disconnecting = False

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.heard: list[bytes] = []
        self.writes = self.taken = 0
        self.content = False
        self.closing = self.closed = False

    def write(self, octets: bytes) -> None:
        self.heard.append(octets)
        self.writes += 1

    def turn(self) -> bool:
        if self.closing and not self.closed:
            self.closed = True
            self.protocol.connectionLost(GONE)
            return True
        if not self.heard:
            return False
        octets = self.heard.pop() if len(self.heard) == 1 else b"".join(self.heard)
        self.heard.clear()
        if octets.endswith(b"\r\n.\r\n"):
            self.taken += 1
            answer = b"250 2.0.0 Ok: queued as %08X%04X\r\n" % (id(self) & 0xFFFFFFFF, self.taken)
        elif octets.startswith(b"MAIL"):
            answer = ENVELOPE
        elif octets.startswith(b"EHLO"):
            answer = EHLO
        else:
            answer = b"221 2.0.0 Bye\r\n"
        self.protocol.dataReceived(answer)
        return True

    def loseConnection(self) -> None:
        self.heard.clear()
        self.closing = True

    abortConnection = loseConnection  # noqa: N815 - Twisted's name


class MemoryReactor(Clock):
    """Connects at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: list[Peer] = []

    def connectTCP(self, _host: str, _port: int, factory: Any, timeout: float = 30) -> Any:
        protocol = factory.buildProtocol(None)
        peer = Peer(protocol)
        self.peers.append(peer)
        protocol.makeConnection(peer)
        protocol.dataReceived(GREETING)
        return self

    def stopConnecting(self) -> None:
        """It is connected."""


def jobs(count: int, *, reuse: bool) -> list[Job]:
    made = []
    for number in range(1, count + 1):
        destination = "smtp:[192.0.2.1]:25" if reuse else f"smtp:[192.0.2.{number % 250}]:{25 + number // 250}"
        message = Message(number, Kind.RELAY, parse_address("a@example.org"), 0.0, 5 * 86400, CONTENT.size)
        recipient = Recipient(
            number, number, 0, parse_address("b@example.net"), "b@example.net", "", Notify.UNSET, None, State.QUEUED,
            False, False, 0, destination, 1, 0.0, 0, 0.0, 0, "", "", 1, 1e9, 1,
        )  # fmt: skip
        made.append(Job(message, (recipient,), CONTENT, destination))
    return made


def measure(messages: int, *, reuse: bool) -> tuple[float, float]:
    """Microseconds of CPU a message, and writes a message."""
    reactor = MemoryReactor()
    options = SmtpOptions("mail.example.org")
    smtp = SmtpAgent(
        reactor,
        resolver=FakeResolver(),
        random=random.Random(1),
        now=time.time,
        options=lambda: options,
        body_path=lambda *_: None,  # type: ignore[arg-type,return-value]
    )
    agents = Agents({"smtp": smtp})
    offered = jobs(messages, reuse=reuse)
    relayed: list[object] = []
    told: Callable[[Any], None] = relayed.append
    writes = 0

    def run() -> None:
        nonlocal writes
        for first in range(0, messages, BATCH):
            for each in offered[first : first + BATCH]:
                agents.deliver(each).addCallback(told)
            while any(peer.turn() for peer in reactor.peers):
                pass
            if not reuse:
                reactor.advance(3)
                while any(peer.turn() for peer in reactor.peers):
                    pass
                writes += sum(peer.writes for peer in reactor.peers)
                reactor.peers.clear()

    began = time.process_time()
    run()
    used = time.process_time() - began
    assert len(relayed) == messages
    assert all(type(next(iter(attempt.outcomes.values()))) is Relayed for attempt in relayed)  # type: ignore[attr-defined]
    writes += sum(peer.writes for peer in reactor.peers)
    return used / messages * 1e6, writes / messages


def main() -> None:
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    messages = numbers[0] if numbers else 20_000
    reuse = "--no-reuse" not in sys.argv
    if "--profile" in sys.argv:
        profile = cProfile.Profile()
        profile.runcall(measure, messages, reuse=reuse)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        return
    for kind in (True, False) if reuse else (False,):
        best, writes = min(measure(messages, reuse=kind) for _ in range(3))
        name = "a connection used again" if kind else "a connection each"
        print(f"{name:26} {best:6.1f} µs CPU a message (target 150), {writes:.2f} writes")


if __name__ == "__main__":
    main()
