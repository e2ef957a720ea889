"""Watches the spool: which destinations have due rows, and when the next ones will be. Loads their heads into memory.

Wall time decides what is due; the timer follows the monotonic clock, and the spool is asked at least every LOOK_SECONDS, so that a clock that
jumps delays nothing for longer than that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.scheduler.destinations import Destination
from mta.scheduler.heads import Heads
from mta.scheduler.work import Work, grouped
from mta.spool.contract import Claimed, DestinationDue, Spool

DUE_LIMIT = 1_000  # destinations of one look
LOOK_SECONDS = 60.0  # longest time between two looks
LOOK_PAUSE_SECONDS = 1.0  # shortest time, so that a thousand rows due within a second cost one look
SPOOL_FAULT_SECONDS = 5.0
LEASE_OF_A_BOOT_SECONDS = (
    50 * 365 * 86400.0
)  # claims end with the process: the owner is the boot, found dead by `recover`

_log = Logger()


class Loads(Protocol):
    """Where loaded work goes."""

    @property
    def concurrency(self) -> int: ...

    def may_load(self) -> bool: ...

    def looked(self) -> None:
        """Called at each look."""

    def loaded(self, destination: Destination, work: Work) -> None: ...

    def give_back(self, destination: Destination, work: Work) -> None: ...


class Lookout:
    """One for each scheduler. Idle until `begin`; quiet after `stop`."""

    def __init__(
        self, spool: Spool, clock: IReactorTime, now: Callable[[], float], owner: int, heads: Heads, loads: Loads
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._now = now
        self._owner = owner
        self._heads = heads
        self._loads = loads
        self._call: IDelayedCall | None = None
        self._look_at = 0.0  # monotonic
        self._looked_at = float("-inf")
        self._looking = False
        self._again = False
        self._watching = False

    def begin(self) -> None:
        self._watching = True
        self.expect(0.0)

    def stop(self) -> None:
        self._watching = False
        if self._call is not None and self._call.active():
            self._call.cancel()

    def expect(self, seconds: float) -> None:
        """Look in `seconds`, if not before."""
        if not self._watching:
            return
        now = self._clock.seconds()
        at = now + min(max(seconds, 0.0), LOOK_SECONDS)
        call = self._call
        if call is not None and call.active():
            if self._look_at <= at:
                return
            call.cancel()
        self._look_at = max(at, self._looked_at + LOOK_PAUSE_SECONDS)
        self._call = self._clock.callLater(self._look_at - now, self._look)

    def look_at_once(self) -> None:
        self._looked_at = float("-inf")
        self.expect(0.0)

    def _look(self) -> None:
        self._call = None
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._looked_at = self._clock.seconds()
        defer.ensureDeferred(self._ask()).addErrback(self._blind)

    def _blind(self, failure: Failure) -> None:
        _log.failure("the queue can't be read; trying again", failure)
        self._looking = False
        self.expect(SPOOL_FAULT_SECONDS)

    async def _ask(self) -> None:
        self._loads.looked()
        heads = self._heads
        limit = DUE_LIMIT + len(heads.destinations)  # suspended and busy ones stand first, and must not hide the others
        due = await self._spool.destinations_due(self._now(), limit)
        again, self._looking, self._again = self._again, False, False
        if not self._watching:
            return
        at, now = self._clock.seconds(), self._now()
        heads.forget_idle(at)
        seconds = 0.0 if again or len(due) >= limit else LOOK_SECONDS
        for each in due:
            seconds = min(seconds, self._consider(each, at, now))
        for destination in list(heads.destinations.values()):
            if destination.suspended_until and destination.suspended_until <= at:
                destination.resume()
            if destination.on_disk:
                self.load(destination)
        self.expect(seconds)

    def _consider(self, due: DestinationDue, at: float, now: float) -> float:
        """Seconds until this destination has work; those that have it now are marked."""
        if due.next_attempt > now:
            return due.next_attempt - now
        destination = self._heads.destination(due.destination)
        destination.on_disk = True
        return destination.suspended_until - at if destination.suspended_until > at else LOOK_SECONDS

    def load(self, destination: Destination) -> None:
        """Claim as many due rows as there is room for."""
        if destination.loading or destination.suspended_until or not self._watching or not self._loads.may_load():
            return
        room = self._heads.room(destination, self._loads.concurrency)
        if room <= 0:
            return
        destination.loading = True
        now = self._now()
        deferred: defer.Deferred[list[Claimed]] = defer.maybeDeferred(
            self._spool.claim, destination.key, room, self._owner, now, now + LEASE_OF_A_BOOT_SECONDS
        )
        deferred.addCallback(self._loaded, destination, room)
        deferred.addErrback(self._not_loaded, destination)

    def _not_loaded(self, failure: Failure, destination: Destination) -> None:
        destination.loading = False
        _log.failure("rows of {destination} can't be claimed", failure, destination=destination.key)
        self.expect(SPOOL_FAULT_SECONDS)

    def _loaded(self, rows: list[Claimed], destination: Destination, room: int) -> None:
        destination.loading = False
        destination.on_disk = len(rows) >= room
        if rows:  # the look told the time of their first row alone: when is the next one due?
            self.expect(LOOK_PAUSE_SECONDS)
        fresh = []
        for each in rows:
            work = self._heads.held.get(each.recipient.id)
            if work is None:
                fresh.append((each.message, each.recipient))
            else:  # an operator ended its claim while it was in memory: it still is, under the new token
                work.renew(each.recipient)
        for work in grouped(fresh):
            if destination.suspended_until or not self._watching:
                self._loads.give_back(destination, work)
            else:
                self._loads.loaded(destination, work)
