"""A shard and its scheduler with a steered agent and a fake clock: days pass in milliseconds. The spool is a MemorySpool, or another one.

house = ScheduledHouse()                       # keyword arguments: keys of [queue]
house.agent.behave = lambda job: LATER         # or None: the job waits for `house.agent.finish(outcome)`
message = house.accept("a@one.example")
house.pass_time(400)
house.states(message)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock

from mta.config.model import Configuration
from mta.delivery.agent import OWN_SITE, Attempt, Job, Try
from mta.mail.address import NULL_PATH, Address, parse_address
from mta.mail.envelope import Content, Kind, Message, NewRecipient, State
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.routing.router import Router, build_router
from mta.scheduler.scheduler import Scheduler
from mta.spool.contract import Acceptance, Event
from mta.spool.memory import MemorySpool

NOW = 1_767_225_600.0
DAY = 86400.0
TAKEN = Relayed(250, "2.0.0", "ok")
LATER = Deferred(451, "4.3.0", "try later")
NEVER = Failed(550, "5.1.1", "no such user")
DEAD = Deferred(0, "4.4.1", "connection refused")
CONTENT = Content(b"Subject: hello\r\n", b"Hi\r\n")


def scheduled_configuration(**queue: Any) -> Configuration:
    return Configuration.model_validate(
        {
            "hostname": "mail.example.org",
            "postmaster": "admin@example.org",
            "listener": [{"name": "mx", "endpoints": ["tcp:25"], "kind": "mx"}],
            "route": [
                {"domains": ["example.org"], "recipients": "users", "via": "maildir:/var/mail/{local}"},
                {"domains": ["gone.example"], "via": "error:5.1.6 moved"},
                {"domains": ["*"], "via": "mx"},
            ],
            "queue": queue,
        }
    )


def scheduled_router(users: Callable[[Address], bool] | None = None) -> Router:
    known = users or (lambda address: address.local in {"sender", "admin", "demo"})
    return build_router(scheduled_configuration(), generation=3, users=known)


@dataclass
class Settings:
    configuration: Configuration
    generation: int = 1


class SteeredAgent:
    """Answers each job by `behave(job)`: outcomes by recipient address, one outcome for all, or None to wait for `finish`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.behave: Callable[[Job], Any] = lambda job: TAKEN
        self.jobs: list[tuple[float, Job]] = []
        self.waiting: list[tuple[Job, defer.Deferred[Attempt]]] = []
        self.at_once: dict[str, int] = defaultdict(int)
        self.most_at_once: dict[str, int] = defaultdict(int)
        self.sites: dict[str, Any] = {}

    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        self.jobs.append((self.clock.seconds(), job))
        self.at_once[job.destination] += 1
        self.most_at_once[job.destination] = max(self.at_once[job.destination], self.most_at_once[job.destination])
        result: defer.Deferred[Attempt] = defer.Deferred()
        answer = self.behave(job)
        if answer is None:
            self.waiting.append((job, result))
        elif isinstance(answer, float):
            self.clock.callLater(answer, self._answer, job, result, DEAD)
        else:
            self._answer(job, result, answer)
        return result

    def site(self, destination: str) -> Any:
        return self.sites.get(destination, OWN_SITE)

    def finish(self, answer: Any = TAKEN) -> None:
        waiting, self.waiting = self.waiting, []
        for job, result in waiting:
            self._answer(job, result, answer)

    def _answer(self, job: Job, result: defer.Deferred[Attempt], answer: Any) -> None:
        self.at_once[job.destination] -= 1
        outcomes = {
            each.id: answer[str(each.address)] if isinstance(answer, dict) else answer for each in job.recipients
        }
        dead = any(outcome is DEAD for outcome in outcomes.values())
        trail = Try("mx.test", "192.0.2.1", "", "said", 0.0, 0.1, "connect" if dead else "end of data")
        result.callback(Attempt(outcomes, (trail,), "as accepted"))

    def times(self, address: str) -> list[float]:
        return [at for at, job in self.jobs if any(str(each.address) == address for each in job.recipients)]


class ScheduledHouse:
    """A shard and its scheduler, as service.py puts them together."""

    owner = 1

    def __init__(self, **queue: Any) -> None:
        self.clock = Clock()
        self.base = NOW
        self.wall_step = 0.0
        self.settings = Settings(scheduled_configuration(**queue))
        self.router = scheduled_router()
        self.spool = MemorySpool(clock=self.now, reactor=self.clock, commit_seconds=0.002)
        self.agent = SteeredAgent(self.clock)
        self.events: list[tuple[str, int, dict[str, Any]]] = []
        self.random = Random(1)
        self.boot()

    def boot(self, start: bool = True) -> None:
        self.scheduler = Scheduler(
            spool=self.spool,
            agents=self.agent,
            clock=self.clock,
            now=self.now,
            owner=self.owner,
            settings=lambda: self.settings,
            router=lambda: self.router,
            random=self.random.random,
            log=self,
        )
        if start:
            self.done(self.scheduler.start())

    def crash(self) -> None:
        """The process is gone, the disk stays; another boot begins."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.agent.waiting.clear()
        self.agent.at_once.clear()
        self.owner += 1
        self.spool = self.spool.crash()
        self.boot()

    def event(self, name: str, message: int = 0, /, **fields: Any) -> None:
        self.events.append((name, message, fields))

    def now(self) -> float:
        return self.base + self.wall_step + self.clock.seconds()

    def done(self, deferred: defer.Deferred[Any]) -> Any:
        """The result of what the memory spool answers, letting its group commits pass."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        for _ in range(100):
            if results:
                break
            self.clock.advance(0.001)
        (result,) = results
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def accept(
        self,
        *to: str,
        sender: str = "sender@example.org",
        content: Content = CONTENT,
        offer: bool = True,
        **changes: Any,
    ) -> int:
        """Mail as the session accepts it; the message's ID."""
        now = self.now()
        message = Message(
            id=self.spool.new_id(),
            kind=Kind.SUBMISSION,
            reverse_path=parse_address(sender) if sender else NULL_PATH,
            received_at=now,
            expires_at=now + 5 * DAY,
            size=content.size,
        )
        recipients = []
        for each in to:
            found = self.router.resolve(parse_address(each))
            recipients.append(NewRecipient(found.address, each, found.destination, **changes))
        acceptance = Acceptance(message, tuple(recipients), content, self.owner, now + 1e9)
        (accepted,) = self.done(self.spool.accept([acceptance]))
        if offer:
            self.scheduler.offer(accepted, content)
            self.clock.advance(0)
        return message.id

    def pass_time(self, seconds: float) -> None:
        """From one timer to the next, so that nothing happens later than it should."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and (at := min(call.getTime() for call in calls)) <= end:
            self.clock.advance(max(at - self.clock.seconds(), 0.0))
        self.clock.advance(end - self.clock.seconds())

    def states(self, message: int) -> list[State]:
        found = self.done(self.spool.message(message))
        return [row.state for row in found[1]]

    def kinds(self, message: int) -> list[Event]:
        return [entry.kind for entry in self.done(self.spool.events(message))]

    def reports(self) -> list[Job]:
        return [job for _, job in self.agent.jobs if job.message.kind is Kind.REPORT]
