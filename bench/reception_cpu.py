"""CPU of reception for one message a connection, lock step, in memory: no sockets, no disk, no threads.

    python bench/reception_cpu.py [messages] [--octets 10240] [--profile]

Everything that a message costs in the reactor thread is in it, from the accepted connection to the last reply: adapter, engine,
session, policy, routing, rows for the spool, event log. The kernel, the writer thread and the scheduler are not.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mta.config.load import load_settings
from mta.inbound.deadlines import Deadlines
from mta.inbound.factory import ESMTPFactory
from mta.inbound.listener import make_listener
from mta.inbound.reception import Policies, Reception
from mta.mail.identifiers import IdentifierSource
from mta.routing.router import build_router
from mta.spool.works import Accept
from mta.telemetry.eventlog import EventLog

TOGETHER = 6  # messages of one commit, as under load
GONE = Failure(ConnectionDone())


class Wire:
    """A transport that swallows."""

    def __init__(self) -> None:
        self.sent = 0
        self.closing = False

    def write(self, data: bytes) -> None:
        self.sent += 1

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Nothing is ever full here."""

    def unregisterProducer(self) -> None: ...

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def loseConnection(self) -> None:
        self.closing = True

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class RowsOnly:
    """A spool that makes the rows, as the real one does in the reactor thread, and commits when told to."""

    shard = 0

    def __init__(self) -> None:
        self._source = IdentifierSource(0, time.time)
        self.new_id = self._source.next
        self.waiting: list[Accept] = []
        self._seq = 0

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def has_room(self, octets: int) -> bool:
        return True

    def accept(self, acceptances: Any) -> Any:
        work = Accept(acceptances, self)
        self.waiting.append(work)
        return work.deferred

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work.deferred.callback(work.result)


class Nowhere:
    """Takes the log's lines away."""

    lost_lines = 0
    fault = ""

    def take(self, data: bytes, number: int) -> bool:
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("messages", nargs="?", type=int, default=20_000)
    parser.add_argument("--octets", type=int, default=10240)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    settings = load_settings(Path(__file__).parent.parent / "conf" / "bench-hold.toml")
    clock = Clock()
    log = EventLog(clock)
    log._writer = cast(Any, Nowhere())
    spool = RowsOnly()
    configuration = settings.configuration
    router = build_router(configuration, generation=1, users=lambda address: True)
    reception = Reception(
        policies=Policies.of(configuration, 1, router),
        spools=[cast(Any, spool)],
        deliver=lambda accepted, content: None,
        log=log,
        refusals=cast(Any, None),
        now=time.time,
        owner=1,
    )
    listener = make_listener(configuration.listener[0], configuration, authenticator=None, tls=None)
    factory = ESMTPFactory(None, listener, reception, Deadlines(clock), clock)
    header = b"From: <s@example.org>\r\nTo: <r@example.com>\r\nMessage-Id: <a.1@bench.example>\r\nDate: x\r\nSubject: y\r\n\r\n"
    line = b"X" * 78 + b"\r\n"
    content = header + line * (options.octets // 80) + b".\r\n"
    peer = IPv4Address("TCP", "127.0.0.1", 40000)

    def batch() -> None:
        open_ones = []
        for _ in range(TOGETHER):
            protocol: Any = factory.buildProtocol(peer)
            protocol.makeConnection(Wire())
            protocol.dataReceived(b"HELO bench.example\r\n")
            protocol.dataReceived(b"MAIL FROM:<sender@example.org>\r\n")
            protocol.dataReceived(b"RCPT TO:<rcpt@example.com>\r\n")
            protocol.dataReceived(b"DATA\r\n")
            protocol.dataReceived(content)
            open_ones.append(protocol)
        spool.commit()
        for protocol in open_ones:
            protocol.dataReceived(b"QUIT\r\n")
            protocol.connectionLost(GONE)
        clock.advance(0.003)

    for _ in range(200):
        batch()
    best = float("inf")
    rounds = max(1, options.messages // TOGETHER // 10)
    profile = cProfile.Profile() if options.profile else None
    for _ in range(10):
        began = time.thread_time()
        if profile is not None:
            profile.enable()
        for _ in range(rounds):
            batch()
        if profile is not None:
            profile.disable()
        best = min(best, (time.thread_time() - began) / rounds / TOGETHER)
    print(f"{best * 1e6:.1f} us a message of {options.octets} octets (best of 10)")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    main()
