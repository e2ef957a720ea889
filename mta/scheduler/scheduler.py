"""Who goes next: the scheduler of one shard. It owns time and order; what an attempt means is decided in settlement.py.

- Accepted mail comes by `offer`, born claimed, with its content in memory while the hot budget lasts (beyond it the content is read back);
  all else is loaded from the spool when it is due (lookout.py). Older mail goes first: while the spool has due rows for a
  destination, newer offers to it are given back and wait their turn there.
- Fairness: destinations that may go stand in a ring, and each gets one job a round, up to its own limit and its site's (heads.py, ring.py,
  pools.py, sites.py). A dead host holds at most its own slots, and soon none (suspensions.py); what waits for it owes reports all the
  same (sweep.py).
- Nothing is attempted whose result could not be stored (settling.py). Jobs begin and end in jobs.py.

Here these parts meet: each tells the scheduler what happened, and the scheduler tells those whom it concerns.

Wall time is read from `now` and decides what is due and what expires; timers and suspensions follow the monotonic clock of `clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mta.config.model import Configuration
from mta.delivery.agent import Attempt
from mta.mail.envelope import Content, Recipient, State
from mta.routing.router import Router
from mta.scheduler import overview
from mta.scheduler.backoff import recovery_delay
from mta.scheduler.current_policy import CurrentPolicy, CurrentSettings
from mta.scheduler.destinations import Destination
from mta.scheduler.doubt import ClockDoubt
from mta.scheduler.heads import Heads
from mta.scheduler.jobs import Delivers, Jobs
from mta.scheduler.lookout import LEASE_OF_A_BOOT_SECONDS, Lookout
from mta.scheduler.operators import Operators
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

STOP_SECONDS = 10.0  # for attempts under way at a shutdown

_WAITING = gauges("mta_scheduler_waiting", "Recipients in memory that wait for their turn", "shard")
_IN_FLIGHT = gauges("mta_scheduler_in_flight", "Jobs under way", "shard")
_log = Logger()


class Agent(Locates, Delivers, Protocol):
    """What the scheduler needs of the delivery agents."""


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
        self._jobs = Jobs(spool, agents, clock, heads, self._settler, self)
        self._operators = Operators(heads, self._lookout, self._settler, self._suspensions)
        self._returned: dict[Destination, None] = {}  # claims of theirs are on their way back
        self._stopping = False
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
        self._lookout.begin()
        self._jobs.start()

    def stop(self) -> defer.Deferred[None]:
        """No new attempt; those under way get STOP_SECONDS; then all claims are given back. Never fails."""
        return defer.ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        # What the last attempts made is settled behind them: before that nothing of theirs may be given back.
        quiet = self._jobs.halt().addCallback(lambda _: self._settler.idle())
        self._lookout.stop()
        self._sites.stop()
        swept = self._sweep.stop()
        self._suspensions.keep_limits()
        for destination in self._heads.destinations.values():
            for work in self._heads.drain(destination):
                self.give_back(destination, work)
        await self._settler.flush()
        await self._bounded(defer.DeferredList([quiet, swept]))
        # What is still under way is cut with its connection; its claim goes back, so that the next boot begins at once.
        for work in {id(each): each for each in self._heads.held.values()}.values():
            self._settler.give_back(work.recipients)
        await self._settler.flush()
        self._settler.stop()
        self._jobs.cancel()

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
        self._jobs.soon()

    def _placed(self, destination: Destination) -> None:
        """Its site is known."""
        if destination.on_disk:
            self._lookout.load(destination)
        self._jobs.soon()

    # --- jobs -----------------------------------------------------------------------------------------------------

    def learn(self, destination: Destination, attempt: Attempt) -> None:
        self._suspensions.learn(destination, attempt)

    def freed(self, destination: Destination, work: Work) -> None:
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
        self._lookout.load_soon([each.key for each in returned if not each.suspended_until])

    def unblocked(self) -> None:
        self._jobs.soon()
        self._lookout.look_in(0.0)

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

    def load_soon(self, destinations: Iterable[str]) -> None:
        self._lookout.load_soon(destinations)

    def loaded(self, destination: Destination, work: Work) -> None:
        self._heads.append(destination, work)
        if not destination.placed:  # it seemed idle while its rows were on their way
            self._sites.ask(destination)
        self._jobs.soon()

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
        """Rows were changed in the spool."""
        self._operators.altered(change, altered)

    def flush(self, destinations: Collection[str] | None = None) -> int:
        """End the suspension of these, or of all; how many were suspended. What is due there goes at once: first a probe."""
        return self._operators.flush(destinations)

    def wake(self) -> None:
        """The settings changed, perhaps what kept mail from flowing: try all anew."""
        self.flush()
        self._lookout.look_at_once()
        self._jobs.soon()

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
        }

    def busy(self, keys: Iterable[str]) -> list[tuple[int, str]]:
        """Of these destinations those with work in memory (how much) or suspended."""
        return overview.busy(self._heads, keys)

    def known(self) -> list[str]:
        """Destinations in memory."""
        return list(self._heads.destinations)

    def destinations(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """How each of these is, as far as it is in memory."""
        return overview.destinations(self._heads, keys, self._now(), self._clock.seconds())
