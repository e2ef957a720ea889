"""Watches the spool: which destinations have due rows, and when the next ones will be. Loads their heads into memory.

What is known of times stands in a wheel, one time for each destination. The whole queue is looked over once a minute, by seeks from one
destination to the next: so what changed behind our back is found, and a clock that jumps delays nothing for longer than that. Where rows
were loaded the spool is asked for the next time of these destinations alone.

Wall time decides what is due; timers follow the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.scheduler.destinations import Destination
from mta.scheduler.heads import Heads
from mta.scheduler.wheel import Wheel
from mta.scheduler.work import Work, grouped
from mta.spool.contract import Claimed, DestinationDue, Spool

DUE_LIMIT = 1_000  # destinations of one look, beside those in memory
DUE_TURN = 500  # of them considered in one turn of the reactor: 0.5 ms
LOADS_TURN = 32  # destinations loaded in one turn: 1 ms, most of it where the site is asked for (law 13)
LOOK_SECONDS = 60.0  # longest time between two looks
LOOK_PAUSE_SECONDS = 1.0  # shortest time, so that a thousand rows due within a second cost one look
SPOOL_FAULT_SECONDS = 5.0
FED_AT_ONCE = 8  # hungry destinations that are loaded when a job ends
LEASE_OF_A_BOOT_SECONDS = (
    50 * 365 * 86400.0
)  # claims end with the process: the owner is the boot, found dead by `recover`

_log = Logger()


class Loads(Protocol):
    """Where loaded work goes."""

    def may_load(self) -> bool: ...

    def looked(self) -> None:
        """Called at each look over the whole queue."""

    def due(self, destination: Destination) -> None:
        """Its suspension may be over."""

    def unplaced(self, destination: Destination) -> None:
        """Find out its site, and load it then."""

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
        self._wheel = Wheel(clock, self.load_soon)
        self._call: IDelayedCall | None = None
        self._look_at = 0.0  # monotonic
        self._looked_at = float("-inf")
        self._looking = False
        self._again = False
        self._watching = False
        self._unsure: dict[str, None] = {}  # destinations whose next time is not known
        self._ask_call: IDelayedCall | None = None
        self._soon: dict[str, None] = {}  # destinations to be loaded, so many a turn
        self._soon_call: IDelayedCall | None = None

    def begin(self) -> None:
        self._watching = True
        self.look_in(0.0)

    def stop(self) -> None:
        self._watching = False
        self._wheel.stop()
        for call in (self._call, self._ask_call, self._soon_call):
            if call is not None and call.active():
                call.cancel()

    # --- one destination ------------------------------------------------------------------------------------------

    def expect(self, key: str, seconds: float) -> None:
        """A row of it will be due then, or its suspension over."""
        self._wheel.expect(key, seconds)

    def load_soon(self, keys: Iterable[str]) -> None:
        """These have due rows, or may have: LOADS_TURN of them at once, the rest in later turns."""
        self._soon.update(dict.fromkeys(keys))
        if self._soon_call is None:
            self._load_some()

    def _load_some(self) -> None:
        self._soon_call = None
        at = self._clock.seconds()
        for key in list(islice(self._soon, LOADS_TURN)):
            self._soon.pop(key, None)
            self.load_now(self._heads.destination(key, at))
        if self._soon and self._soon_call is None and self._watching:
            self._soon_call = self._clock.callLater(0, self._load_some)

    def load_now(self, destination: Destination) -> None:
        """It has due rows, or may have."""
        destination.on_disk = True
        if destination.suspended_until:
            self._loads.due(destination)
        else:
            self.load(destination)

    def load(self, destination: Destination) -> None:
        """Claim as many due rows as there is room for."""
        if destination.loading or destination.suspended_until or not self._watching or not self._loads.may_load():
            return
        if not destination.placed:
            self._loads.unplaced(destination)
            return
        room = self._heads.room(destination)
        if room <= 0:
            return
        destination.loading = True
        self._heads.reserve(destination, room)
        now = self._now()
        deferred: defer.Deferred[list[Claimed]] = defer.maybeDeferred(
            self._spool.claim, destination.key, room, self._owner, now, now + LEASE_OF_A_BOOT_SECONDS
        )
        deferred.addCallbacks(
            self._loaded, self._not_loaded, callbackArgs=(destination, room), errbackArgs=(destination, room)
        )
        deferred.addErrback(lambda failure: _log.failure("a fault of ours while loading", failure))

    def _not_loaded(self, failure: Failure, destination: Destination, room: int) -> None:
        destination.loading = False
        self._heads.reserve(destination, -room)
        _log.failure("rows of {destination} can't be claimed", failure, destination=destination.key)
        self.expect(destination.key, SPOOL_FAULT_SECONDS)

    def _loaded(self, rows: list[Claimed], destination: Destination, room: int) -> None:
        destination.loading = False
        self._heads.reserve(destination, -room)
        destination.on_disk = len(rows) >= room
        if not destination.on_disk:
            self._ask_for(destination.key)
        fresh = []
        for each in rows:
            work = self._heads.held.get(each.recipient.id)
            if work is None:
                fresh.append((each.message, each.recipient))
            else:  # its claim was ended while it was in memory: it still is, under the new token
                work.renew(each.recipient)
        for work in grouped(fresh):
            if destination.suspended_until or not self._watching:
                self._loads.give_back(destination, work)
            else:
                self._loads.loaded(destination, work)
        if len(rows) < room:  # of its share others may have some
            for pool in destination.pools:
                self.feed(pool.hungry)

    def feed(self, hungry: dict[Destination, None]) -> None:
        """There is room again for some of these."""
        for destination in list(islice(hungry, FED_AT_ONCE)):
            del hungry[destination]
            self.load(destination)

    # --- when is the next one due? --------------------------------------------------------------------------------

    def _ask_for(self, key: str) -> None:
        self._unsure[key] = None
        if self._ask_call is None and self._watching:
            self._ask_call = self._clock.callLater(LOOK_PAUSE_SECONDS, self._ask_times)

    def _ask_times(self) -> None:
        self._ask_call = None
        keys = list(islice(self._unsure, DUE_TURN))
        for key in keys:
            del self._unsure[key]
        if self._unsure:
            self._ask_call = self._clock.callLater(0, self._ask_times)
        deferred: defer.Deferred[list[DestinationDue]] = defer.maybeDeferred(self._spool.due_of, keys)
        deferred.addCallback(self._told_times)
        deferred.addErrback(self._blind)

    def _told_times(self, due: list[DestinationDue]) -> None:
        if self._watching:
            self._consider(due)

    def _consider(self, due: Sequence[DestinationDue]) -> None:
        now = self._now()
        for each in due:
            if each.next_attempt > now:
                self._wheel.expect(each.destination, each.next_attempt - now)
        self.load_soon([each.destination for each in due if each.next_attempt <= now])

    # --- the whole queue ------------------------------------------------------------------------------------------

    def look_in(self, seconds: float) -> None:
        """Look over the queue then, if not before."""
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
        self.look_in(0.0)

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
        self.look_in(SPOOL_FAULT_SECONDS)

    async def _ask(self) -> None:
        self._loads.looked()
        limit = DUE_LIMIT + len(self._heads.destinations)  # busy ones stand first, and must not hide the others
        due = await self._spool.destinations_due(self._now(), limit)
        for first in range(0, len(due), DUE_TURN):
            if first:
                await self._pause()
            if not self._watching:
                return
            self._consider(due[first : first + DUE_TURN])
        known = list(self._heads.destinations.values())
        for first in range(0, len(known), DUE_TURN):
            if first:
                await self._pause()
            self.load_soon([each.key for each in known[first : first + DUE_TURN] if each.on_disk and not each.loading])
        again, self._looking, self._again = self._again, False, False
        self.look_in(0.0 if again or len(due) >= limit else LOOK_SECONDS)

    def _pause(self) -> defer.Deferred[None]:
        """Until the next turn: no turn computes for more than 2 ms (law 13)."""
        turn: defer.Deferred[None] = defer.Deferred()
        self._clock.callLater(0, turn.callback, None)
        return turn
