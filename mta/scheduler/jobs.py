"""Jobs: begun in turns of their own, handed to the agents, and what came of them handed on to be settled.

One timer a turn serves both ends: attempts that ended since the last turn go to the spool together, and new jobs begin in the slots that
they left. What a job of ours throws is a deferral, logged (law 4).
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.delivery.agent import Attempt, Job, same_for_all
from mta.mail.envelope import Content
from mta.mail.identifiers import format_id
from mta.mail.outcome import Deferred
from mta.scheduler.destinations import Destination
from mta.scheduler.heads import Heads
from mta.scheduler.settlement import SettlementPolicy
from mta.scheduler.settling import Settler
from mta.scheduler.work import Work
from mta.spool.contract import Spool

IN_FLIGHT_MAX = 1_000  # jobs of all destinations: descriptors are finite
STARTS_PER_TURN = (
    16  # a job costs some 0.1 ms to begin, and no turn of the reactor may compute for more than 2 ms (law 13)
)

_log = Logger()


class Delivers(Protocol):
    """What jobs need of the delivery agents."""

    def deliver(self, job: Job) -> defer.Deferred[Attempt]: ...


class Boss(Protocol):
    """What jobs need of the scheduler."""

    def policy(self) -> SettlementPolicy:
        """Asked once a turn: a reload may have changed the limits."""

    def learn(self, destination: Destination, attempt: Attempt) -> None:
        """From an attempt, before its job is counted as ended."""

    def freed(self, destination: Destination, work: Work) -> None:
        """The job is over, and there is room in memory."""


class Jobs:
    """One for each scheduler. Nothing begins before `start` and after `halt`; what is under way ends all the same."""

    def __init__(
        self, spool: Spool, agents: Delivers, clock: IReactorTime, heads: Heads, settler: Settler, boss: Boss
    ) -> None:
        self._spool = spool
        self._agents = agents
        self._clock = clock
        self._heads = heads
        self._settler = settler
        self._boss = boss
        self._may_begin = False
        self._beginning = False
        self._call: IDelayedCall | None = None
        self._quiet: list[defer.Deferred[None]] = []

    def start(self) -> None:
        self._may_begin = True
        self._go_on()

    def halt(self) -> defer.Deferred[None]:
        """Nothing begins any more. Fires when no job is under way."""
        self._may_begin = False
        done: defer.Deferred[None] = defer.Deferred()
        self._quiet.append(done)
        if not self._heads.in_flight:
            self._tell_quiet()
        return done

    def cancel(self) -> None:
        """No timer of ours remains."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _tell_quiet(self) -> None:
        quiet, self._quiet = self._quiet, []
        for each in quiet:
            each.callback(None)

    def soon(self) -> None:
        """Settle and begin in a turn of their own: the 250 of the mail that was just accepted goes first."""
        if self._call is None:
            self._call = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._call = None
        self._go_on()
        self._settler.submit()

    def _go_on(self) -> None:
        if self._beginning or not self._may_begin:
            return
        self._boss.policy()
        settler, heads = self._settler, self._heads
        self._beginning = True  # an agent may answer at once, and then we come here again
        try:
            for _ in range(STARTS_PER_TURN):
                if heads.in_flight >= IN_FLIGHT_MAX or settler.blocked:
                    return
                found = heads.next()
                if found is None:
                    return
                self._begin(*found)
        finally:
            self._beginning = False
        self.soon()

    def _begin(self, destination: Destination, work: Work) -> None:
        try:
            if work.content is not None:
                deferred = self._agents.deliver(work.job(work.content))
            else:
                deferred = self._spool.content(work.message.id).addCallback(self._deliver, work)
            deferred.addCallbacks(
                self._attempted, self._broken, callbackArgs=(destination, work), errbackArgs=(destination, work)
            )
        except Exception:  # noqa: BLE001 - law 4
            self._broken(Failure(), destination, work)

    def _deliver(self, content: Content, work: Work) -> defer.Deferred[Attempt]:
        work.content = content
        return self._agents.deliver(work.job(content))

    def _broken(self, failure: Failure, destination: Destination, work: Work) -> None:
        """The content can't be read, or an exception in an agent: a deferral for all (law 4)."""
        _log.failure("an attempt failed for {message}", failure, message=format_id(work.message.id))
        text = "internal error"
        if work.content is None:
            text = "the content could not be read from the spool"
            work.content = Content(b"", b"")  # a deferral needs none, and an expiry is reported without it
        outcome = Deferred(0, "4.3.0", text)
        self._attempted(same_for_all(work.job(work.content), outcome), destination, work)

    def _attempted(self, attempt: Attempt, destination: Destination, work: Work) -> None:
        heads = self._heads
        heads.cool(work)
        if type(attempt) is not Attempt:
            _log.error("an agent gave {attempt!r} for {destination}", attempt=attempt, destination=destination.key)
            attempt = Attempt({})
        for outcome in attempt.outcomes.values():
            destination.last_outcome = outcome
            break
        if destination.remote:
            try:
                self._boss.learn(destination, attempt)
            except Exception:  # noqa: BLE001 - its slot must be freed and its outcomes settled, whatever an agent made of them (law 4)
                _log.failure("nothing could be learned of {destination}", destination=destination.key)
        heads.ended(destination, work)
        work.failures = destination.failures
        self._settler.settle(work, attempt)
        self._boss.freed(destination, work)
        self.soon()
        if self._quiet and not heads.in_flight:
            self._tell_quiet()
