"""CPU of scheduler and settlement for a message that is delivered at once: no spool, no delivery, no log behind them.

    python bench/scheduler_cpu.py [messages] [--profile]

Target: at most 0.04 ms. Five messages are accepted, attempted and settled in each turn, as under load.
"""

from __future__ import annotations

import cProfile
import pstats
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mta.config.model import Configuration
from mta.delivery.agent import Attempt, Job, SiteAnswer, Try
from mta.mail.address import parse_address
from mta.mail.envelope import Content, Kind, Message, Notify, Recipient, State
from mta.mail.outcome import Delivered, Relayed
from mta.routing.router import build_router
from mta.scheduler.scheduler import Scheduler
from mta.spool.contract import Accepted, Settled, Settlement
from mta.telemetry.eventlog import NullLog

BATCH = 5
OUTCOME = Relayed(250, "2.0.0", "Ok: queued as 1234567890")
TRAIL = (Try("mx.example.net", "192.0.2.1", "TLSv1.3 TLS_AES_256_GCM_SHA384", "250 Ok", 1.7e9, 0.01, "end of data"),)
LOCAL = Delivered(250, "2.0.0", "delivered to mailbox")


@dataclass
class Settings:
    configuration: Configuration
    generation: int = 1


class NoSpool:
    """Answers when told to."""

    shard = 0

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Deferred[list[Settled]]]] = []
        self.result = Settled()

    def settle(self, settlements: Sequence[Settlement]) -> Deferred[list[Settled]]:
        deferred: Deferred[list[Settled]] = Deferred()
        self.waiting.append((len(settlements), deferred))
        return deferred

    def recover(self, *_: Any) -> Deferred[int]:
        deferred: Deferred[int] = Deferred()
        deferred.callback(0)
        return deferred

    def destinations_due(self, *_: Any) -> Deferred[list[Any]]:
        deferred: Deferred[list[Any]] = Deferred()
        deferred.callback([])
        return deferred

    destinations = due_of = destinations_due

    def remember(self, *_: Any) -> Deferred[None]:
        return Deferred()

    def new_id(self) -> int:
        return 1

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for number, each in waiting:
            each.callback([self.result] * number)


class NoAgent:
    """Every job is taken, when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Deferred[Attempt]]] = []
        self.local = False

    def deliver(self, job: Job) -> Deferred[Attempt]:
        deferred: Deferred[Attempt] = Deferred()
        self.waiting.append((job.recipients[0].id, deferred))
        return deferred

    def site(self, destination: str) -> SiteAnswer:
        return SiteAnswer("mx.example.net", 3600.0)

    def finish(self) -> None:
        waiting, self.waiting = self.waiting, []
        for identifier, each in waiting:
            if self.local:
                each.callback(Attempt({identifier: LOCAL}, (), "final"))
            else:
                each.callback(Attempt({identifier: OUTCOME}, TRAIL, "as accepted"))


def accepted(number: int, destination: str, now: float) -> Accepted:
    message = Message(number, Kind.RELAY, parse_address("a@example.org"), now, now + 5 * 86400, 10_000)
    recipient = Recipient(
        number, number, 0, parse_address("b@example.net"), "b@example.net", "", Notify.UNSET, None, State.QUEUED, False,
        False, 0, destination, 1, 0.0, 0, 0.0, 0, "", "", 1, now + 1e9, 1,
    )  # fmt: skip
    return Accepted(message, (recipient,))


def measure(destination: str, messages: int) -> float:
    """Microseconds of CPU a message."""
    configuration = Configuration.model_validate(
        {
            "hostname": "mail.example.org",
            "postmaster": "admin@example.org",
            "listener": [{"name": "mx", "endpoints": ["tcp:25"], "kind": "mx"}],
            "route": [{"domains": ["*"], "via": "mx"}],
        }
    )
    router = build_router(configuration, generation=1, users=lambda _: True)
    settings, clock, spool, agent = Settings(configuration), Clock(), NoSpool(), NoAgent()
    agent.local = destination.startswith("maildir:")
    scheduler = Scheduler(
        spool=spool,  # type: ignore[arg-type]
        agents=agent,
        clock=clock,
        now=time.time,
        owner=1,
        settings=lambda: settings,
        router=lambda: router,
        random=random.random,
        log=NullLog(),
    )
    scheduler.start()
    content = Content(b"Subject: x\r\n" * 40, b"x" * 9_500)
    now = time.time()
    offers = [accepted(number, destination, now) for number in range(1, messages + 1)]

    def run() -> None:
        for first in range(0, messages, BATCH):
            for each in offers[first : first + BATCH]:
                scheduler.offer(each, content)
            clock.advance(0)
            agent.finish()
            clock.advance(0)
            spool.commit()

    began = time.process_time()
    run()
    used = time.process_time() - began
    assert scheduler.status()["unsettled"] == 0
    return used / messages * 1e6


def main() -> None:
    arguments = SimpleNamespace(profile="--profile" in sys.argv)
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    messages = numbers[0] if numbers else 20_000
    for destination in ("maildir:/var/mail/{local}", "mx:example.net"):
        if arguments.profile:
            profile = cProfile.Profile()
            profile.runcall(measure, destination, messages)
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        else:
            best = min(measure(destination, messages) for _ in range(3))
            print(f"{destination:30} {best:6.1f} µs CPU a message (target 40)")


if __name__ == "__main__":
    main()
