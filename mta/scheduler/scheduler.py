"""Who goes next: the scheduler of one shard. It owns time and order; what an attempt means is decided in settlement.py.

- Accepted mail comes by `offer`, born claimed, with its content in memory while the hot budget lasts (beyond it the content is read back);
  all else is loaded from the spool when it is due (lookout.py). Older mail goes first: while the spool has due rows for a
  destination, newer offers to it are given back and wait their turn there.
- Fairness: destinations that may go stand in a ring, and each gets one job a round, up to its own limit (heads.py). A dead host holds at
  most its own slots, and soon none (destinations.py).
- Nothing is attempted whose result could not be stored (settling.py).
- An exception of ours is a deferral, logged (law 4).

Wall time is read from `now` and decides what is due and what expires; timers and suspensions follow the monotonic clock of `clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.model import Configuration
from mta.delivery.agent import Attempt, Job, same_for_all
from mta.dsn.report import Action
from mta.mail.address import parse_address
from mta.mail.envelope import Content, Recipient, State
from mta.mail.identifiers import format_id
from mta.mail.outcome import Deferred
from mta.routing.router import Router
from mta.scheduler.backoff import recovery_delay, retry_delay
from mta.scheduler.destinations import Destination, unreached
from mta.scheduler.doubt import ClockDoubt
from mta.scheduler.heads import LOADED_PER_SLOT, Heads
from mta.scheduler.lookout import LEASE_OF_A_BOOT_SECONDS, Lookout
from mta.scheduler.reports import report_kinds
from mta.scheduler.settlement import SettlementPolicy
from mta.scheduler.settling import Settler
from mta.scheduler.work import Work, grouped
from mta.spool.contract import Accepted, Event, Settled, Settlement, Spool
from mta.telemetry.eventlog import Events
from mta.telemetry.metrics import counter, counters, gauges, histogram

IN_FLIGHT_MAX = 1_000  # jobs of all destinations: descriptors are finite
STARTS_PER_TURN = (
    16  # a job costs some 0.1 ms to begin, and no turn of the reactor may compute for more than 2 ms (law 13)
)
STOP_SECONDS = 10.0  # for attempts under way at a shutdown

_ATTEMPTS = counters("mta_attempts_total", "Recipients attempted, by what became of them", "outcome")
_COUNTS = {
    event: _ATTEMPTS.bound(event.value)
    for event in (Event.DELIVERED, Event.RELAYED, Event.DEFERRED, Event.FAILED, Event.DISCARDED, Event.EXPANDED)
}
_REPORTS = counters("mta_reports_total", "Delivery status notifications enqueued", "kind")
_REPORT_COUNTS = {action.value: _REPORTS.bound(action.value) for action in Action}
_SUSPENSIONS = counter("mta_destination_suspensions_total", "Destinations taken for dead")
_DELAY = histogram("mta_delivery_delay_seconds", "From acceptance to delivery or relay")
_WAITING = gauges("mta_scheduler_waiting", "Recipients in memory that wait for their turn", "shard")
_IN_FLIGHT = gauges("mta_scheduler_in_flight", "Jobs under way", "shard")
_log = Logger()


class CurrentSettings(Protocol):
    """What the scheduler needs of a snapshot of the settings."""

    @property
    def configuration(self) -> Configuration: ...

    @property
    def generation(self) -> int: ...


class Agent(Protocol):
    """What the scheduler needs of the delivery agents."""

    def deliver(self, job: Job) -> defer.Deferred[Attempt]: ...


class Scheduler:
    """One shard's. All methods are called in the reactor thread; `offer` and `wake` never raise.

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
        self._spool = spool
        self._agents = agents
        self._clock = clock
        self._now = now
        self._owner = owner
        self._settings = settings
        self._router = router
        self._random = random
        self._log = log
        self._doubt = ClockDoubt(clock.seconds, now)
        self._heads = Heads()
        self._settler = Settler(spool, clock, now, owner, self)
        self._lookout = Lookout(spool, clock, now, owner, self._heads, self)
        self._in_flight = 0  # jobs
        self._settings_seen: CurrentSettings | None = None
        self._policy: SettlementPolicy
        self._beginning = False
        self._turn_call: IDelayedCall | None = None
        self._wake_call: IDelayedCall | None = None
        self._running = False
        self._stopping = False
        self._quiet: list[defer.Deferred[None]] = []
        shard = str(spool.shard)
        _WAITING.bound(shard).read = lambda: self._heads.rows
        _IN_FLIGHT.bound(shard).read = lambda: self._in_flight

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
        self._running = True
        self._lookout.begin()
        self._go_on()

    def stop(self) -> defer.Deferred[None]:
        """No new attempt; those under way get STOP_SECONDS; then all claims are given back. Never fails."""
        return defer.ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        self._lookout.stop()
        for call in (self._turn_call, self._wake_call):
            if call is not None and call.active():
                call.cancel()
        for destination in self._heads.destinations.values():
            self._give_back_waiting(destination)
        await self._settler.flush()
        await self._bounded(defer.DeferredList([self._ended(), self._settler.idle()]))
        # What is still under way is cut with its connection; its claim goes back, so that the next boot begins at once.
        for work in {id(each): each for each in self._heads.held.values()}.values():
            self._settler.give_back(work.recipients)
        await self._settler.flush()
        self._settler.stop()

    def _ended(self) -> defer.Deferred[None]:
        """Fires when no job is under way."""
        done: defer.Deferred[None] = defer.Deferred()
        self._quiet.append(done)
        if not self._in_flight:
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
        """Of the settings in force; made anew only when they changed."""
        settings, router = self._settings(), self._router()
        if settings is not self._settings_seen or router is not self._policy.router:
            configuration = settings.configuration
            queue = configuration.queue
            self._settings_seen = settings
            self._policy = SettlementPolicy(
                retry_min=queue.retry_min,
                retry_max=queue.retry_max,
                report_lifetime=queue.report_lifetime,
                hold_reports=queue.hold,
                concurrency=queue.destination_concurrency,
                hostname=configuration.hostname,
                postmaster=parse_address(configuration.postmaster, utf8=True),
                generation=settings.generation,
                router=router,
                new_id=self._spool.new_id,
                random=self._random,
                owner=self._owner,
                lease_seconds=LEASE_OF_A_BOOT_SECONDS,
                delay_report_after=queue.delay_report_after,
            )
        return self._policy

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
                self._lookout.expect(each.next_attempt - self._now())
        for work in grouped(ours):
            self._enqueue(work, content)

    def _enqueue(self, work: Work, content: Content) -> None:
        heads = self._heads
        destination = heads.destination(work.destination)
        if self._stopping or not heads.takes(destination, len(work.recipients)):
            self.give_back(destination, work)
            return
        heads.warm(work, content)
        heads.append(destination, work)
        self._soon()

    # --- who goes next --------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Begin jobs in a turn of their own: the 250 of the mail that was just accepted goes first."""
        if self._turn_call is None and not self._stopping:
            self._turn_call = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._turn_call = None
        self._go_on()

    def _go_on(self) -> None:
        if self._beginning or not self._running or self._stopping:
            return
        concurrency, settler, heads = self.policy().concurrency, self._settler, self._heads
        self._beginning = True  # an agent may answer at once, and then we come here again
        try:
            for _ in range(STARTS_PER_TURN):
                if self._in_flight >= IN_FLIGHT_MAX or settler.blocked:
                    return
                found = heads.next(concurrency)
                if found is None:
                    return
                self._begin(*found)
        finally:
            self._beginning = False
        self._soon()

    def _begin(self, destination: Destination, work: Work) -> None:
        destination.in_flight += 1
        self._in_flight += 1
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
        destination.in_flight -= 1
        self._in_flight -= 1
        heads = self._heads
        heads.cool(work)
        if type(attempt) is not Attempt:
            _log.error("an agent gave {attempt!r} for {destination}", attempt=attempt, destination=destination.key)
            attempt = Attempt({})
        if destination.remote:
            self._learn(destination, attempt)
        self._settler.settle(work, attempt)
        if destination.on_disk and destination.rows < LOADED_PER_SLOT * self._policy.concurrency // 2:
            self._lookout.load(destination)
        if heads.ready(destination):
            self._go_on()
        if self._quiet and not self._in_flight:
            self._tell_ended()

    def _learn(self, destination: Destination, attempt: Attempt) -> None:
        """What an attempt says of the host."""
        outcome = unreached(attempt)
        if outcome is None:
            if not destination.proven or destination.failures:
                destination.succeeded()
        elif destination.failed(self._clock.seconds()):
            self._suspend(destination, outcome)

    def _suspend(self, destination: Destination, outcome: Deferred) -> None:
        """Nobody goes there for a while. Rows give their claims back without an attempt; only those whose lifetime is over take
        this attempt as theirs, so that they expire although a dead host is never asked for each of them."""
        policy = self.policy()
        seconds = retry_delay(destination.suspensions + 1, policy.retry_min, policy.retry_max, self._random)
        destination.suspend(self._clock.seconds() + seconds, outcome.text)
        _SUSPENSIONS.value += 1
        self._log.event("destination-suspended", destination=destination.key, seconds=seconds, reply=outcome.text)
        now = self._now()
        for work in self._heads.drain(destination):
            if now < work.message.expires_at:
                self.give_back(destination, work)
            elif work.content is not None:
                self._take_as_theirs(work.content, work, outcome)
            else:
                deferred = defer.maybeDeferred(self._spool.content, work.message.id)
                deferred.addCallback(self._take_as_theirs, work, outcome)
                deferred.addErrback(self._unreadable, destination, work)
        self._lookout.expect(seconds)

    def _take_as_theirs(self, content: Content, work: Work, outcome: Deferred) -> None:
        self._heads.cool(work)
        work.content = content
        self._settler.settle(work, same_for_all(work.job(content), outcome))

    def _unreadable(self, failure: Failure, destination: Destination, work: Work) -> None:
        _log.failure("the content of {message} can't be read", failure, message=format_id(work.message.id))
        self.give_back(destination, work)

    # --- what became of it ----------------------------------------------------------------------------------------

    def settled(self, work: Work, attempt: Attempt, settlement: Settlement, result: Settled) -> None:
        """An attempt is durable: tell the log, remember when to come back, take up the reports."""
        message, held = work.message, self._heads.held
        now = self._now()
        host = attempt.trail[-1].host if attempt.trail else None
        delay = now - message.received_at
        for recipient, change, entry in zip(work.recipients, settlement.changes, settlement.journal, strict=False):
            held.pop(recipient.id, None)
            event = entry.kind
            _COUNTS[event].value += 1
            if event is Event.DEFERRED:
                self._lookout.expect(change.next_attempt - now)
            elif event is not Event.FAILED:
                _DELAY.observe(delay)
            self._log.event(
                event.value,
                message.id,
                to=str(recipient.address),
                destination=work.destination,
                host=host,
                delay=delay,
                status=change.status,
                reply=f"{change.code} {change.text}" if change.code else change.text,
            )
        if settlement.reports:
            self._reported(message.id, settlement, result)
        if result.children:
            self._lookout.expect(0.0)  # claimed by nobody, and due

    def _reported(self, cause: int, settlement: Settlement, result: Settled) -> None:
        kinds = report_kinds(settlement)
        for report, accepted, kind in zip(settlement.reports, result.reports, kinds, strict=True):
            _REPORT_COUNTS[kind].value += 1
            to = accepted.recipients[0].original
            self._log.event("report", accepted.message.id, kind=kind, cause=format_id(cause), to=to)
            self.offer(accepted, report.content)

    def dropped(self, work: Work, attempt: Attempt, recipients: Sequence[Recipient]) -> None:
        """An operator removed these while they were under way: what became of them is in the log alone."""
        for recipient in recipients:
            self._heads.held.pop(recipient.id, None)
            outcome = attempt.outcomes.get(recipient.id)
            self._log.event(
                "attempted-after-removal",
                work.message.id,
                to=str(recipient.address),
                outcome=type(outcome).__name__.lower(),
                reply=outcome.text if outcome is not None else None,
            )

    def given_back(self) -> None:
        self._lookout.expect(0.0)

    def unblocked(self) -> None:
        self._go_on()
        self._lookout.expect(0.0)

    # --- what the lookout asks --------------------------------------------------------------------------------------

    @property
    def concurrency(self) -> int:
        return self.policy().concurrency

    def may_load(self) -> bool:
        return not self._stopping and not self._settler.blocked

    def looked(self) -> None:
        self._doubt.look()

    def loaded(self, destination: Destination, work: Work) -> None:
        self._heads.append(destination, work)
        self._soon()

    def give_back(self, destination: Destination, work: Work) -> None:
        """The spool keeps it for later."""
        destination.on_disk = True
        self._heads.release(work)
        self._settler.give_back(work.recipients)

    def wake(self) -> None:
        """Rows were changed behind our back (held, released, removed, to be retried): look again, and believe nothing in memory."""
        if self._wake_call is None and self._running and not self._stopping:
            self._wake_call = self._clock.callLater(0, self._awake)

    def _awake(self) -> None:
        self._wake_call = None
        for destination in self._heads.destinations.values():
            self._give_back_waiting(destination)
            destination.resume()  # an operator who wants a retry wants it now; a dead host is probed by one job
        self._settler.return_now()  # first, so that the look finds them
        self._lookout.look_at_once()

    def _give_back_waiting(self, destination: Destination) -> None:
        for work in self._heads.drain(destination):
            self.give_back(destination, work)

    # --- for operators --------------------------------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """What is going on, as JSON-able values."""
        at, concurrency, heads = self._clock.seconds(), self.policy().concurrency, self._heads
        return {
            "shard": self._spool.shard,
            "waiting": heads.rows,
            "in_flight": self._in_flight,
            "unsettled": self._settler.unsettled,
            "blocked": self._settler.blocked,
            "hot_octets": heads.hot_octets,
            "clock_in_doubt": self._doubt.look(),
            "destinations": [
                {
                    "destination": each.key,
                    "waiting": each.rows,
                    "in_flight": each.in_flight,
                    "limit": each.limit(concurrency),
                    "more_in_spool": each.on_disk,
                    "suspended_seconds": max(0.0, each.suspended_until - at) if each.suspended_until else 0.0,
                    "reason": each.reason,
                }
                for each in heads.destinations.values()
            ],
        }
