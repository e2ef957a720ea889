"""A thousand neighbours on loopback, of which half may be dead: what do the living get?

    alive = living_rate(tmp_path / "alive", dead=False)
    half = living_rate(tmp_path / "half", dead=True)
    assert half >= 0.9 * alive

The same mail goes to the same domains in the same order; what differs is whether the second half of them answers. Dead in three ways: they
refuse connections, they swallow them, or they take them and never say a word. The rate is that of the first half: its
messages by the time from the first connection until the last of them has arrived.
"""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from mta.testing.daemon import Daemon
from mta.testing.ledger import judge_copies
from mta.testing.load import Load
from mta.testing.processes import free_port, wait_for
from mta.testing.sink import Sink
from mta.testing.zone_server import ZoneServer

ANY_LOOPBACK = "127.1.0.1"
DESCRIPTORS = 16_384
SESSIONS = 20
WAIT_SECONDS = 120.0


def address_of(number: int) -> str:
    """Of neighbour `number`, from 0."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def domain_of(number: int) -> str:
    return f"d{number:05d}.example"


@contextlib.contextmanager
def dead_hosts(addresses: list[str], port: int) -> Iterator[None]:
    """In turn: nobody listens; connections are swallowed; connections are taken and nothing is ever said."""
    with contextlib.ExitStack() as stack:
        for number, address in enumerate(addresses):
            if number % 3 == 0:
                continue
            listening = stack.enter_context(socket.socket())
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, port))
            if number % 3 == 2:
                listening.listen(1024)
                continue
            # The kernel drops what comes when its queue of those who wait for accept is full.
            listening.listen(0)
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((address, port))
        yield


def living_rate(
    directory: Path, *, dead: bool, destinations: int = 1000, messages: int = 2000, octets: int = 1000
) -> float:
    """Messages a second to the first half of the destinations. Raises AssertionError when one is lost or changed."""
    _lift_limit()
    directory.mkdir(parents=True)
    living, port = destinations // 2, free_port(ANY_LOOPBACK)
    zone = {domain_of(number): address_of(number) for number in range(destinations)}
    listening = [address_of(number) for number in range(living if dead else destinations)]
    lying_dead = [address_of(number) for number in range(living, destinations)] if dead else []
    order = [number % destinations for number in range(messages)]
    random.Random(1).shuffle(order)  # living and dead side by side, as in life
    with contextlib.ExitStack() as stack:
        stack.enter_context(dead_hosts(lying_dead, port))
        sink = stack.enter_context(Sink(directory / "taken", addresses=listening, port=port))
        names = stack.enter_context(ZoneServer(directory / "zone", zone))
        daemon = stack.enter_context(_daemon(directory / "house", port, names.port))
        began = time.time()
        load = Load(
            daemon.mx,
            lambda number: [f"somebody@{domain_of(order[number - 1])}"],
            sessions=SESSIONS,
            messages=messages,
            octets=lambda _number: octets,
        )
        ledger = load.start().join(WAIT_SECONDS)
        for mark in [mark for mark, sent in ledger.sent.items() if _number(sent.recipients[0]) >= living]:
            del ledger.sent[mark]
        owed = len(ledger.acknowledged)
        wanted = owed if dead else messages
        wait_for(f"{wanted} messages at the living", lambda: sink.count() >= wanted, WAIT_SECONDS)
        arrived = [copy for copy in sink.copies() if _number(copy.recipient) < living]
        daemon.kill()  # an orderly end would wait for those who never answer
    verdict = judge_copies(ledger, arrived)
    if verdict.lost or verdict.corrupt or verdict.duplicates or owed < messages // 2:
        raise AssertionError(f"of {messages // 2} messages to the living: {verdict}")
    return owed / (max(copy.at for copy in arrived) - began)


def _number(recipient: str) -> int:
    return int(recipient.partition("@d")[2].partition(".")[0])


def _daemon(directory: Path, port: int, names: int) -> Daemon:
    return Daemon(
        directory,
        routes='[[route]]\ndomains = ["*"]\nvia = "mx"\n',
        extra=f'\n[dns]\nservers = ["127.0.0.1:{names}"]\n[test_only]\nmx_port = {port}\nallow_loopback_mx = true\n',
        relay_networks=["127.0.0.0/8"],
    )


def _lift_limit() -> None:
    """Daemon and sink inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
