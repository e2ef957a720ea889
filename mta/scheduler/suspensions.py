"""Which destinations nobody goes to for a while, and what is learned of hosts from attempts.

A suspension is one row of the spool, whatever waits for the destination, and survives a restart; its end is one more. It grows from one
to the next as the waits of a message do. When it is over one job probes the host: if that fails too, the next suspension begins; a
success lets all go, in their order and within the limits.

Memory decides; the rows are for the next start, and keep a dead destination out of the look for due mail. A row that can't be written
costs no more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mta.delivery.agent import Attempt
from mta.mail.outcome import Deferred
from mta.scheduler.backoff import JITTER_SHARE, retry_delay
from mta.scheduler.destinations import FAILURES_BEFORE_SUSPENSION, Destination, pushed_back, unreached
from mta.scheduler.heads import Heads
from mta.scheduler.settlement import SettlementPolicy
from mta.scheduler.sites import Sites
from mta.scheduler.work import Work
from mta.spool.contract import DestinationRecord, Spool
from mta.telemetry.eventlog import Events
from mta.telemetry.metrics import counter, gauges

LEARNED_KEPT_MAX = 2_000  # limits written at a stop: one commit of some 10 ms

_SUSPENSIONS = counter("mta_destination_suspensions_total", "Destinations taken for dead")
_SUSPENDED = gauges("mta_destinations_suspended", "Destinations that nobody goes to at the moment", "shard")
_log = Logger()


class Stage(Protocol):
    """What suspending needs of the scheduler."""

    def policy(self) -> SettlementPolicy: ...

    def give_back(self, destination: Destination, work: Work) -> None: ...

    def expect(self, destination: Destination, seconds: float) -> None:
        """Let it be looked at then."""

    def load_soon(self, destinations: Iterable[str]) -> None:
        """They may go again: load what they have."""


class Suspensions:
    """One for each scheduler."""

    def __init__(
        self,
        spool: Spool,
        clock: IReactorTime,
        now: Callable[[], float],
        heads: Heads,
        sites: Sites,
        random: Callable[[], float],
        log: Events,
        stage: Stage,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._now = now
        self._heads = heads
        self._sites = sites
        self._random = random
        self._log = log
        self._stage = stage
        self._suspended: dict[str, Destination] = {}
        _SUSPENDED.bound(str(spool.shard)).read = lambda: len(self._suspended)

    @property
    def any(self) -> bool:
        return bool(self._suspended)

    # --- what attempts teach --------------------------------------------------------------------------------------

    def learn(self, destination: Destination, attempt: Attempt) -> None:
        """From an attempt at a remote destination, before its job is counted as ended."""
        at = self._clock.seconds()
        destination.used_at = at
        outcome = unreached(attempt)
        site = destination.site
        if outcome is not None:
            if site is not None:
                site.limit.failed()
            if destination.failed(at):
                self._suspend(destination, outcome)
        elif pushed_back(attempt):
            destination.limit.failed()
            if site is not None:
                site.limit.failed()
        else:
            if destination.suspensions or destination.failures or not destination.proven:
                self._revive(destination)
            destination.limit.succeeded(self._heads.most)
            if site is not None:
                site.limit.succeeded(self._sites.most)

    def _revive(self, destination: Destination) -> None:
        """It lives: all goes, within the limits."""
        if destination.suspensions:
            self._remember([DestinationRecord(destination.key)])
            self._log.event("destination-resumed", destination=destination.key)
            destination.limit.restart(self._heads.most)
        destination.failures = destination.suspensions = 0
        destination.outcome = None
        if destination.suspended_until:  # an attempt that began before
            self._resume(destination)
        if not destination.proven:
            self._heads.prove(destination, True)

    # --- suspending -----------------------------------------------------------------------------------------------

    def _suspend(self, destination: Destination, outcome: Deferred) -> None:
        """Nobody goes there for a while. Rows in memory give their claims back without an attempt."""
        policy = self._stage.policy()
        destination.suspensions += 1
        seconds = retry_delay(destination.suspensions, policy.retry_min, policy.retry_max, self._random)
        self._enter(destination, seconds, outcome)
        _SUSPENSIONS.value += 1
        self._log.event("destination-suspended", destination=destination.key, seconds=seconds, reply=outcome.text)
        for work in self._heads.drain(destination):
            self._stage.give_back(destination, work)
        self._remember(
            [
                DestinationRecord(
                    destination.key,
                    self._now() + seconds,
                    destination.suspensions,
                    0,
                    outcome.code,
                    outcome.status,
                    outcome.text,
                )
            ]
        )

    def _enter(self, destination: Destination, seconds: float, outcome: Deferred) -> None:
        destination.suspended_until = self._clock.seconds() + seconds
        destination.outcome = outcome
        destination.limit.probe()
        self._suspended[destination.key] = destination
        self._heads.prove(destination, False)
        self._stage.expect(destination, seconds)

    def due(self, destination: Destination) -> None:
        """Is its suspension over?"""
        left = destination.suspended_until - self._clock.seconds()
        if left > 0:
            self._stage.expect(destination, left)
        else:
            self._resume(destination)

    def _resume(self, *destinations: Destination) -> None:
        """A probe may go, or all."""
        for destination in destinations:
            destination.suspended_until = 0.0
            self._suspended.pop(destination.key, None)
            destination.on_disk = True
        self._stage.load_soon([each.key for each in destinations])

    def end(self, keys: Iterable[str] | None = None) -> int:
        """An operator wants these tried now (None: all that are suspended). How many were suspended."""
        if keys is None:
            ended = list(self._suspended.values())
        else:
            ended = [self._suspended[key] for key in keys if key in self._suspended]
        self._resume(*ended)
        return len(ended)

    def forgotten(self, destinations: Iterable[Destination]) -> None:
        """Nothing waits there, and nobody went for hours."""
        self._remember([DestinationRecord(each.key) for each in destinations if each.suspensions])

    # --- from one start to the next -------------------------------------------------------------------------------

    def restore(self, records: Iterable[DestinationRecord]) -> None:
        """What an earlier boot knew. A wall clock that went back prolongs no suspension beyond the longest."""
        policy = self._stage.policy()
        longest = policy.retry_max * (1 + JITTER_SHARE)
        stale = []
        for record in records:
            destination = self._heads.destination(record.key, self._clock.seconds())
            if record.suspended_until:
                destination.suspensions = max(record.suspensions, 1)
                destination.failures = FAILURES_BEFORE_SUSPENSION
                destination.failed_at = self._clock.seconds()
                destination.last_outcome = outcome = Deferred(record.code, record.status, record.reason)
                self._enter(destination, min(max(record.suspended_until - self._now(), 0.0), longest), outcome)
            else:
                destination.limit.allowed = max(1, min(record.learned_limit, self._heads.most))
                stale.append(DestinationRecord(record.key))
        self._remember(stale)

    def keep_limits(self) -> None:
        """At a stop: what was learned of living destinations."""
        learned = [
            DestinationRecord(each.key, learned_limit=each.limit.allowed)
            for each in self._heads.destinations.values()
            if each.remote and each.proven and not each.suspensions
        ]
        self._remember(learned[:LEARNED_KEPT_MAX])

    def _remember(self, records: list[DestinationRecord]) -> None:
        if not records:
            return
        try:
            deferred = self._spool.remember(records)
        except Exception:  # noqa: BLE001 - a closed spool: memory decides
            _log.failure("a suspension could not be written")
            return
        deferred.addErrback(lambda failure: _log.failure("a suspension could not be written", failure))
