"""A shard and its scheduler with a steered agent and a fake clock: days pass in milliseconds. The spool is a MemorySpool, or another one.

house = ScheduledHouse()                       # keyword arguments: keys of [queue]
house.agent.behave = lambda job: LATER         # or None: the job waits for `house.agent.finish(outcome)`
message = house.accept("a@one.example")
house.pass_time(400)
house.states(message)

SqliteScheduledHouse(folder) is the same on a real spool.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock

from mta.config.model import Configuration
from mta.delivery.agent import OWN_SITE, Attempt, Job, Try
from mta.mail.address import NULL_PATH, Address, parse_address
from mta.mail.envelope import Content, Kind, Message, NewRecipient, Recipient, State
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.routing.router import Router, build_router
from mta.scheduler.scheduler import Scheduler
from mta.spool.contract import Acceptance, Altered, Change, Event, Selection, Spool
from mta.spool.memory import MemorySpool
from mta.spool.sqlite import SqliteSpool, open_spool
from mta.testing.pumped_reactor import PumpedReactor

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
        self.clock: Clock = self._make_clock()
        self.base = NOW
        self.wall_step = 0.0
        self.settings = Settings(scheduled_configuration(**queue))
        self.router = scheduled_router()
        self.spool: Any = self._make_spool()
        self.agent = SteeredAgent(self.clock)
        self.events: list[tuple[str, int, dict[str, Any]]] = []
        self.random = Random(1)
        self.boot()

    def _make_clock(self) -> Clock:
        return Clock()

    def _make_spool(self) -> Spool:
        return MemorySpool(clock=self.now, reactor=self.clock, commit_seconds=0.002)

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
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
        self.agent.waiting.clear()
        self.agent.at_once.clear()
        self.owner += 1
        self._lose_power()
        self.boot()

    def _lose_power(self) -> None:
        self.spool = self.spool.crash()

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
        """Mail as the session accepts it, or without `offer`, as it lies in the spool; the message's ID."""
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
        acceptance = Acceptance(message, tuple(recipients), content, self.owner if offer else 0, now + 1e9)
        (accepted,) = self.done(self.spool.accept([acceptance]))
        if offer:
            self.scheduler.offer(accepted, content)
            self.clock.advance(0)
        return message.id

    def alter(self, change: Change, *messages: int, then: Callable[[], None] = lambda: None, **selection: Any) -> int:
        """What `mta queue hold` and its like do; how many recipients were changed. `then` is called when it is done."""
        chosen = Selection(messages=messages, **selection)

        def tell(altered: Altered) -> int:
            self.scheduler.altered(change, altered)
            then()
            return altered.changed

        return int(self.done(self.spool.alter(chosen, change, self.now(), "tester").addCallback(tell)))

    def pass_time(self, seconds: float) -> None:
        """From one timer to the next, so that nothing happens later than it should."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and (at := min(call.getTime() for call in calls)) <= end:
            self.clock.advance(max(at - self.clock.seconds(), 0.0))
        self.clock.advance(end - self.clock.seconds())

    def rows(self, message: int) -> list[Recipient]:
        return list(self.done(self.spool.message(message))[1])

    def destination(self, key: str) -> dict[str, Any]:
        """As the scheduler tells it; empty when it has none such."""
        return next(iter(self.scheduler.destinations([key])), {})

    def states(self, message: int) -> list[State]:
        found = self.done(self.spool.message(message))
        return [row.state for row in found[1]]

    def kinds(self, message: int) -> list[Event]:
        return [entry.kind for entry in self.done(self.spool.events(message))]

    def reports(self) -> list[Job]:
        return [job for _, job in self.agent.jobs if job.message.kind is Kind.REPORT]


class SqliteScheduledHouse(ScheduledHouse):
    """The same on a real shard, whose threads are waited for whenever the clock has moved."""

    def __init__(self, folder: Path, **queue: Any) -> None:
        self._root = folder / "spool"
        super().__init__(**queue)

    def _make_clock(self) -> Clock:
        self._reactor = PumpedReactor()
        return self._reactor

    def _make_spool(self) -> Spool:
        return _Counting(open_spool(self._root, 0, reactor=self._reactor, clock=self.now, create=True))

    def _lose_power(self) -> None:
        """The process alone dies: what was sent to the writer is made durable, and nobody hears of it."""
        self.close()
        self.spool = self._make_spool()

    def done(self, deferred: defer.Deferred[Any]) -> Any:
        result = self._reactor.wait(deferred)
        self.settle_down()
        return result

    def settle_down(self) -> None:
        """Until nobody waits for a thread of the spool."""
        while True:
            before = self.spool.calls
            for ask in (self.spool.real.unclaim, self.spool.real.due_of):
                self._reactor.wait(ask(()))
            self._reactor.wait(self.spool.real.waiting())
            self.clock.advance(0)
            if self.spool.calls == before:
                return

    def pass_time(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        self.settle_down()
        while (calls := self.clock.getDelayedCalls()) and (at := min(call.getTime() for call in calls)) <= end:
            self.clock.advance(max(at - self.clock.seconds(), 0.0))
            self.settle_down()
        self.clock.advance(end - self.clock.seconds())
        self.settle_down()

    def close(self) -> None:
        self._reactor.wait(self.spool.real.close())


class _Counting:
    """A spool that counts what is asked of it."""

    def __init__(self, real: SqliteSpool) -> None:
        self.real = real
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self.real, name)
