"""Who goes next: the scheduler of one shard. It owns time and order; what an attempt means is decided in settlement.py.

- Accepted mail comes by `offer`, born claimed, with its content in memory while the hot budget lasts (beyond it the content is read back);
  all else is loaded from the spool when it is due (lookout.py). Older mail goes first: while the spool has due rows for a
  destination, newer offers to it are given back and wait their turn there.
- Fairness: destinations that may go stand in a ring, and each gets one job a round, up to its own limit and its site's (heads.py, ring.py,
  pools.py, sites.py). A dead host holds at most its own slots, and soon none (suspensions.py); what waits for it owes reports all the
  same (sweep.py).
- Nothing is attempted whose result could not be stored (settling.py).
- An exception of ours is a deferral, logged (law 4).

Wall time is read from `now` and decides what is due and what expires; timers and suspensions follow the monotonic clock of `clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.model import Configuration
from mta.delivery.agent import Attempt, Job, same_for_all
from mta.mail.envelope import Content, Recipient, State
from mta.mail.identifiers import format_id
from mta.mail.outcome import Deferred
from mta.routing.router import Router
from mta.scheduler import overview
from mta.scheduler.backoff import recovery_delay
from mta.scheduler.current_policy import CurrentPolicy, CurrentSettings
from mta.scheduler.destinations import Destination
from mta.scheduler.doubt import ClockDoubt
from mta.scheduler.heads import Heads
from mta.scheduler.lookout import LEASE_OF_A_BOOT_SECONDS, Lookout
from mta.scheduler.pools import LOADED_PER_SLOT
from mta.scheduler.settlement import SettlementPolicy
from mta.scheduler.settling import Settler
from mta.scheduler.sites import Locates, Sites
from mta.scheduler.suspensions import Suspensions
from mta.scheduler.sweep import Sweep
from mta.scheduler.telling import Telling
from mta.scheduler.work import Work, grouped
from mta.spool.contract import Accepted, Altered, Change, Settled, Settlement, Spool
from mta.telemetry.eventlog import Events
from mta.telemetry.metrics import gauges

IN_FLIGHT_MAX = 1_000  # jobs of all destinations: descriptors are finite
STARTS_PER_TURN = (
    16  # a job costs some 0.1 ms to begin, and no turn of the reactor may compute for more than 2 ms (law 13)
)
STOP_SECONDS = 10.0  # for attempts under way at a shutdown

_WAITING = gauges("mta_scheduler_waiting", "Recipients in memory that wait for their turn", "shard")
_IN_FLIGHT = gauges("mta_scheduler_in_flight", "Jobs under way", "shard")
_log = Logger()


class Agent(Locates, Protocol):
    """What the scheduler needs of the delivery agents."""

    def deliver(self, job: Job) -> defer.Deferred[Attempt]: ...


class Scheduler:
    """One shard's. All methods are called in the reactor thread; `offer`, `wake`, `altered` and `flush` never raise.

    `settings` and `router` give the snapshots in force, `now` wall time in seconds, `random` numbers in [0, 1).
    """

    def __init__(
        self,
        *,
        spool: Spool,
        agents: Agent,
        clock: IReactorTime,
        now: Callable[[], float],
        owner: int,
        settings: Callable[[], CurrentSettings],
        router: Callable[[], Router],
        random: Callable[[], float],
        log: Events,
    ) -> None:
        self.shard = spool.shard
        self._spool = spool
        self._agents = agents
        self._clock = clock
        self._now = now
        self._owner = owner
        self._random = random
        self._log = log
        self._doubt = ClockDoubt(clock.seconds, now)
        queue = settings().configuration.queue
        self._heads = heads = Heads(queue.destination_concurrency)
        self._sites = Sites(agents, clock, heads, queue.site_concurrency, self._placed)
        self._current = CurrentPolicy(
            settings, router, spool.new_id, random, owner, LEASE_OF_A_BOOT_SECONDS, self._reconfigured
        )
        self._settler = Settler(spool, clock, now, owner, self)
        self._lookout = Lookout(spool, clock, now, owner, heads, self)
        self._suspensions = Suspensions(spool, clock, now, heads, self._sites, random, log, self)
        self._sweep = Sweep(spool, now, owner, LEASE_OF_A_BOOT_SECONDS, heads, self)
        self._telling = Telling(log, now)
        self._returned: dict[Destination, None] = {}  # claims of theirs are on their way back
        self._beginning = False
        self._turn_call: IDelayedCall | None = None
        self._running = False
        self._stopping = False
        self._quiet: list[defer.Deferred[None]] = []
        shard = str(spool.shard)
        _WAITING.bound(shard).read = lambda: heads.rows
        _IN_FLIGHT.bound(shard).read = lambda: heads.in_flight

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> defer.Deferred[None]:
        """Take up what an earlier boot left, and begin. Fails with SpoolError."""
        return defer.ensureDeferred(self._start())

    async def _start(self) -> None:
        maximum = self.policy().retry_max
        recovered = await self._spool.recover(
            self._owner, self._now(), lambda attempts: recovery_delay(attempts, maximum, self._random)
        )
        if recovered:
            self._log.event("recovered", recipients=recovered)
        self._suspensions.restore(await self._spool.destinations())
        self._running = True
        self._lookout.begin()
        self._go_on()

    def stop(self) -> defer.Deferred[None]:
        """No new attempt; those under way get STOP_SECONDS; then all claims are given back. Never fails."""
        return defer.ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        self._lookout.stop()
        swept = self._sweep.stop()
        self._suspensions.keep_limits()
        for destination in self._heads.destinations.values():
            for work in self._heads.drain(destination):
                self.give_back(destination, work)
        await self._settler.flush()
        await self._bounded(defer.DeferredList([self._ended(), self._settler.idle(), swept]))
        # What is still under way is cut with its connection; its claim goes back, so that the next boot begins at once.
        for work in {id(each): each for each in self._heads.held.values()}.values():
            self._settler.give_back(work.recipients)
        await self._settler.flush()
        self._settler.stop()
        if self._turn_call is not None and self._turn_call.active():
            self._turn_call.cancel()

    def _ended(self) -> defer.Deferred[None]:
        """Fires when no job is under way."""
        done: defer.Deferred[None] = defer.Deferred()
        self._quiet.append(done)
        if not self._heads.in_flight:
            self._tell_ended()
        return done

    def _tell_ended(self) -> None:
        quiet, self._quiet = self._quiet, []
        for each in quiet:
            each.callback(None)

    def _bounded(self, work: defer.Deferred[list[tuple[bool, None]]]) -> defer.Deferred[None]:
        over: defer.Deferred[None] = defer.Deferred()
        timer = self._clock.callLater(STOP_SECONDS, over.callback, None)

        def done(_: object) -> None:
            if timer.active():
                timer.cancel()
                over.callback(None)

        work.addBoth(done)
        return over

    def policy(self) -> SettlementPolicy:
        return self._current.policy()

    def _reconfigured(self, configuration: Configuration) -> None:
        self._heads.configure(configuration.queue.destination_concurrency)
        self._sites.configure(configuration.queue.site_concurrency)

    def may_expire(self) -> bool:
        return not self._doubt.look()

    # --- mail comes in --------------------------------------------------------------------------------------------

    def offer(self, accepted: Accepted, content: Content) -> None:
        """Rows that were just made durable: those born claimed by us go at once, the others when they are due."""
        try:
            self._take(accepted, content)
        except Exception:  # noqa: BLE001 - the message is durable, and its sender waits for 250: a bug of ours must not reach them
            _log.failure("offered mail could not be taken up")
            held, owner = self._heads.held, self._owner
            self._settler.give_back(
                [each for each in accepted.recipients if each.owner == owner and each.id not in held]
            )

    def _take(self, accepted: Accepted, content: Content) -> None:
        message, recipients = accepted.message, accepted.recipients
        if len(recipients) == 1 and recipients[0].owner == self._owner:
            self._enqueue(Work(message, recipients, recipients[0].destination), content)
            return
        ours = []
        for each in recipients:
            if each.owner == self._owner:
                ours.append((message, each))
            elif not each.held and each.state is State.QUEUED:
                self._lookout.expect(each.destination, each.next_attempt - self._now())
        for work in grouped(ours):
            self._enqueue(work, content)

    def _enqueue(self, work: Work, content: Content) -> None:
        heads = self._heads
        destination = heads.destinations.get(work.destination)
        if destination is None:
            destination = heads.destination(work.destination, self._clock.seconds())
        if self._stopping or not heads.takes(destination, len(work.recipients)):
            self.give_back(destination, work)
            return
        heads.warm(work, content)
        heads.append(destination, work)
        if not destination.placed:
            self._sites.ask(destination)
        self._soon()

    def _placed(self, destination: Destination) -> None:
        """Its site is known."""
        if destination.on_disk:
            self._lookout.load(destination)
        self._soon()

    # --- who goes next --------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Settle and begin jobs in a turn of their own: the 250 of the mail that was just accepted goes first."""
        if self._turn_call is None:
            self._turn_call = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._turn_call = None
        self._go_on()
        self._settler.submit()

    def _go_on(self) -> None:
        if self._beginning or not self._running or self._stopping:
            return
        self.policy()  # a reload may have changed the limits
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
        self._soon()

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
        if destination.remote:
            self._suspensions.learn(destination, attempt)
        for outcome in attempt.outcomes.values():
            destination.last_outcome = outcome
            break
        heads.ended(destination, work)
        work.failures = destination.failures
        self._settler.settle(work, attempt)
        self._feed(destination, work)
        self._soon()
        if self._quiet and not heads.in_flight:
            self._tell_ended()

    def _feed(self, destination: Destination, work: Work) -> None:
        """There is room in memory: load what waits for it on disk."""
        if destination.on_disk and destination.rows <= LOADED_PER_SLOT * destination.limit.allowed // 2:
            self._lookout.load(destination)
        for pool in work.pools:
            if pool.hungry:
                self._lookout.feed(pool.hungry)
        if self._heads.hungry:
            self._lookout.feed(self._heads.hungry)

    # --- what became of it ----------------------------------------------------------------------------------------

    def settled(self, work: Work, attempt: Attempt, settlement: Settlement, result: Settled) -> None:
        """An attempt is durable: tell the log, remember when to come back, take up the reports."""
        held = self._heads.held
        for recipient, change in zip(work.recipients, settlement.changes, strict=True):
            held.pop(recipient.id, None)
            if change.state is State.QUEUED:
                self._lookout.expect(work.destination, change.next_attempt - self._now())
        self._telling.attempted(work, attempt, settlement)
        if settlement.reports or settlement.children:
            self._take_up(settlement, result)

    def _take_up(self, settlement: Settlement, result: Settled) -> None:
        """Reports that it caused, children that it inserted."""
        for report, accepted in zip(settlement.reports, result.reports, strict=True):
            self.offer(accepted, report.content)
        for child in result.children:
            if not child.held:
                self._lookout.expect(child.destination, child.next_attempt - self._now())

    def told(self, work: Work, settlement: Settlement, result: Settled) -> None:
        """The same of rows that were not attempted (sweep.py)."""
        self._telling.waited(work, settlement, result)
        self._take_up(settlement, result)

    def dropped(self, work: Work, attempt: Attempt, recipients: Sequence[Recipient]) -> None:
        """These are no longer ours to settle."""
        for recipient in recipients:
            self._heads.held.pop(recipient.id, None)
        self._telling.after_removal(work, attempt, recipients)

    def given_back(self) -> None:
        returned, self._returned = self._returned, {}
        for destination in returned:
            if not destination.suspended_until:
                self._lookout.load_now(destination)

    def unblocked(self) -> None:
        self._soon()
        self._lookout.look_in(0.0)

    def soon(self) -> None:
        self._soon()

    # --- what lookout, suspensions and sweep ask ------------------------------------------------------------------

    def may_load(self) -> bool:
        return not self._stopping and not self._settler.blocked

    def looked(self) -> None:
        """Once a minute."""
        self._doubt.look()
        self._sites.look()
        self._suspensions.forgotten(self._heads.forget_idle(self._clock.seconds()))
        if self._suspensions.any and self.may_load():
            self._sweep.look()

    def due(self, destination: Destination) -> None:
        self._suspensions.due(destination)

    def unplaced(self, destination: Destination) -> None:
        self._sites.ask(destination)

    def expect(self, destination: Destination, seconds: float) -> None:
        self._lookout.expect(destination.key, seconds)

    def load(self, destination: Destination) -> None:
        self._lookout.load(destination)

    def loaded(self, destination: Destination, work: Work) -> None:
        self._heads.append(destination, work)
        self._soon()

    def give_back(self, destination: Destination, work: Work) -> None:
        """The spool keeps it for later."""
        destination.on_disk = True
        self._returned[destination] = None
        self._heads.release(work)
        self._settler.give_back(work.recipients)

    def return_claims(self, recipients: Sequence[Recipient]) -> None:
        self._settler.give_back(recipients)

    # --- for operators --------------------------------------------------------------------------------------------

    def altered(self, change: Change, altered: Altered) -> None:
        """Rows were changed in the spool. What is under way goes on: a hold counts from the next try."""
        if change in (Change.HOLD, Change.REMOVE):
            self._withdraw(altered.recipients, give_back=change is Change.HOLD)
            return
        if change is Change.RETRY:
            self._suspensions.end(altered.destinations)
        for key in altered.destinations:
            destination = self._heads.destination(key, self._clock.seconds())
            if not destination.suspended_until:
                self._lookout.load_now(destination)

    def _withdraw(self, recipients: Sequence[int], *, give_back: bool) -> None:
        """Take them out of the memory where they wait."""
        heads = self._heads
        works = {id(work): work for each in recipients if (work := heads.held.get(each)) is not None}
        named = frozenset(recipients)
        for key in {work.destination for work in works.values()}:
            for piece in heads.withdraw(heads.destination(key), named):
                if give_back:
                    self._settler.give_back(piece.recipients)

    def flush(self, destinations: Collection[str] | None = None) -> int:
        """End the suspension of these, or of all; how many were suspended. What is due there goes at once: first a probe."""
        return self._suspensions.end(destinations)

    def wake(self) -> None:
        """The settings changed, perhaps what kept mail from flowing: try all anew."""
        self.flush()
        self._lookout.look_at_once()
        self._soon()

    def status(self) -> dict[str, object]:
        """What is going on, as JSON-able values."""
        heads = self._heads
        return {
            "shard": self.shard,
            "waiting": heads.rows,
            "in_flight": heads.in_flight,
            "unsettled": self._settler.unsettled,
            "blocked": self._settler.blocked,
            "hot_octets": heads.hot_octets,
            "clock_in_doubt": self._doubt.look(),
            "destinations_known": len(heads.destinations),
            "destinations": self.destinations(overview.busiest(heads)),
        }

    def known(self) -> list[str]:
        """Destinations in memory."""
        return list(self._heads.destinations)

    def destinations(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """How each of these is, as far as it is in memory."""
        return overview.destinations(self._heads, keys, self._now(), self._clock.seconds())
