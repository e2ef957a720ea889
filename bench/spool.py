"""What the spool costs: CPU (both threads, user and system) and time for each message, at several batch sizes.

    python bench/spool.py [--path DIR] [--messages N] [--octets N] [--sessions 1,5,10,20,50] [--full] [--profile]

`sessions` messages are under way at any time, each acknowledged before its session sends the next: so batches are at most as
large. A message has one recipient, born claimed, and its journal. `--full` settles each message and moves it to the history too.
DIR should be on the disk of the spool to be; a figure from tmpfs says nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import gc
import os
import pstats
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList

from mta.mail.address import Address
from mta.mail.envelope import Content, Kind, Message, NewRecipient, State
from mta.spool.contract import Acceptance, Event, JournalEntry, RecipientChange, Settlement
from mta.spool.sqlite import SqliteSpool, open_spool

HEADER = b"".join(b"X-Field-%d: %s\r\n" % (number, b"x" * 60) for number in range(8))
OWNER = 7


def make(spool: SqliteSpool, octets: int) -> Acceptance:
    content = Content(HEADER, os.urandom(octets - len(HEADER) - 2))
    now = time.time()
    message = Message(
        spool.new_id(), Kind.RELAY, Address("sender", "client.example"), now, now + 432000, content.size, max_line=77,
        client_ip="192.0.2.7", client_port=40000, helo="mail.client.example", tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        protocol="ESMTPS", listener="mx", message_id="<1234567890.4711@client.example>", sha256=os.urandom(32),
        config_generation=1,
    )  # fmt: skip
    recipient = NewRecipient(
        Address("user", "example.org"), "user@example.org", "maildir:/var/mail/{domain}/{local}", route_generation=1
    )
    return Acceptance(message, (recipient,), content, OWNER, now + 1e9)


class Load:
    """Sessions that hand in one message after the other."""

    def __init__(self, spool: SqliteSpool, messages: list[Acceptance], *, full: bool) -> None:
        self._spool, self._full = spool, full
        self._messages = messages[::-1]  # taken from the end: IDs are stored in the order of their making
        self.seconds: list[float] = []

    def session(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._next(done)
        return done

    def _next(self, done: Deferred[None]) -> None:
        if not self._messages:
            done.callback(None)
            return
        started = time.perf_counter()
        self._spool.accept((self._messages.pop(),)).addCallbacks(self._accepted, done.errback, (done, started))

    def _accepted(self, accepted: Any, done: Deferred[None], started: float) -> None:
        self.seconds.append(time.perf_counter() - started)
        if not self._full:
            self._next(done)
            return
        (one,) = accepted[0].recipients
        now = time.time()
        change = RecipientChange(one.id, one.token, State.DELIVERED, 250, "2.0.0", "delivered", now, 1)
        entry = JournalEntry(one.message, now, Event.DELIVERED, one.id, {"path": "new/1.2.host", "seconds": 0.002})
        settled = self._spool.settle((Settlement(one.message, (change,), journal=(entry,)),))
        settled.addCallbacks(lambda _: self._next(done), done.errback)


@contextlib.contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    profile = cProfile.Profile()
    with profile:
        yield
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def cpu() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


async def measure(path: Path, options: argparse.Namespace, sessions: int) -> None:
    spool = open_spool(path, 0, reactor=reactor, clock=time.time, create=True)
    warm = Load(spool, [make(spool, options.octets) for _ in range(sessions * 20)], full=options.full)
    await DeferredList([warm.session() for _ in range(sessions)], fireOnOneErrback=True)
    load = Load(spool, [make(spool, options.octets) for _ in range(options.messages)], full=options.full)
    gc.collect()
    gc.freeze()  # as the daemon does after its start
    commits = (await spool.status()).commits
    user, system = cpu()
    started = time.perf_counter()
    with profiled(options.profile):
        await DeferredList([load.session() for _ in range(sessions)], fireOnOneErrback=True)
        while options.full and await spool.move_finished(time.time()):
            pass
    wall = time.perf_counter() - started
    user, system = (now - then for now, then in zip(cpu(), (user, system), strict=True))
    number = options.messages
    commits = (await spool.status()).commits - commits
    seconds = sorted(load.seconds)
    print(
        f"{sessions:4} sessions: {(user + system) / number * 1e3:.4f} ms CPU (user {user / number * 1e3:.4f}, "
        f"system {system / number * 1e3:.4f}), {number / wall:7.0f} messages/s, batch {number / commits:5.1f}, "
        f"ack p50 {seconds[len(seconds) // 2] * 1e3:6.2f} p99 {seconds[len(seconds) * 99 // 100] * 1e3:6.2f} "
        f"max {seconds[-1] * 1e3:6.2f} ms"
    )
    await spool.close()


async def run(options: argparse.Namespace) -> None:
    for sessions in map(int, options.sessions.split(",")):
        path = Path(tempfile.mkdtemp(prefix="spool-bench-", dir=options.path))
        try:
            await measure(path, options, sessions)
        finally:
            shutil.rmtree(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--path", default=".", help="a directory on the disk to measure")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--octets", type=int, default=10 * 1024)
    parser.add_argument("--sessions", default="1,5,10,20,50")
    parser.add_argument("--full", action="store_true", help="settle and move to the history too")
    parser.add_argument("--profile", action="store_true", help="profile the reactor's thread")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)
    done = Deferred.fromCoroutine(run(options))
    done.addErrback(lambda failure: failure.printTraceback())
    done.addBoth(lambda _: reactor.stop())
    reactor.run()


if __name__ == "__main__":
    main()
