"""What the scheduler has in memory: the heads of the queue, by destination, and the ring of destinations that may go.

At most ROWS_MAX recipients, with content up to HOT_LIMIT_OCTETS; the spool has the rest. Every recipient in memory, waiting or under way,
stands in `held` once, so that no claim can bring it in a second time.

A destination with work stands in exactly one ring: the one of those that may go, or that of a pool which is full (pools.py); or in none
while its own limit is reached, it is suspended, or its site is being asked for. What frees it puts it back.
"""

from __future__ import annotations

from collections import deque

from mta.mail.envelope import Content
from mta.scheduler.destinations import Destination
from mta.scheduler.pools import DOUBTFUL_CROWD, LOADED_PER_SLOT, OFFERED_PER_SLOT, Doubtful, Pool, Site
from mta.scheduler.ring import Ring
from mta.scheduler.work import Work

HOT_LIMIT_OCTETS = 64 << 20
EXAMINED_MAX = 4_000  # destinations looked at for being idle in one turn: 1.5 ms (law 13)
ROWS_MAX = 20_000  # recipients in memory, 2 KB each without content


class Heads:
    """Plain book-keeping: no clock, no spool. `most` jobs at once to one destination, as configured."""

    __slots__ = (
        "_ring",
        "_unexamined",
        "destinations",
        "doubtful",
        "held",
        "hot_octets",
        "hungry",
        "in_flight",
        "most",
        "rows",
    )

    def __init__(self, most: int) -> None:
        self.most = most
        self.destinations: dict[str, Destination] = {}
        self.held: dict[int, Work] = {}  # recipient ID -> its work
        self.rows = 0  # recipients that wait
        self.in_flight = 0  # jobs
        self.hot_octets = 0
        self.doubtful: Doubtful[Destination] = Doubtful()
        self.hungry: dict[Destination, None] = {}  # rows on disk, and no room for them in all the memory
        self._ring: Ring[Destination] = Ring()
        self._unexamined: list[str] = []

    def destination(self, key: str, at: float = 0.0) -> Destination:
        destination = self.destinations.get(key)
        if destination is None:
            destination = self.destinations[key] = Destination(key, self.most, at)
            self._pool(destination)
        return destination

    # --- memory ---------------------------------------------------------------------------------------------------

    def takes(self, destination: Destination, rows: int) -> bool:
        """May rows that were just accepted wait here? Not before older mail on disk, and not for a dead host."""
        if destination.on_disk or destination.suspended_until:
            return False
        if destination.rows + rows > OFFERED_PER_SLOT * destination.limit.allowed or self.rows + rows > ROWS_MAX:
            return False
        return all(rows <= pool.room(OFFERED_PER_SLOT) for pool in destination.pools)

    def room(self, destination: Destination) -> int:
        """How many rows may be loaded. Without any, it is noted where it hungers; with others that hunger there it gets its share."""
        own = LOADED_PER_SLOT * destination.limit.allowed - destination.rows
        if own <= 0:
            return 0
        room = min(own, ROWS_MAX - self.rows)
        if room <= 0:
            self.hungry[destination] = None
            return 0
        for pool in destination.pools:
            shared = pool.room(LOADED_PER_SLOT)
            if shared <= 0:
                pool.hungry[destination] = None
                return 0
            room = min(room, max(1, shared // (1 + len(pool.hungry))))
        return room

    def reserve(self, destination: Destination, rows: int) -> None:
        """They are on their way into memory; negative: they came, or not."""
        destination.reserved += rows
        self._count(destination, rows)

    def warm(self, work: Work, content: Content) -> None:
        """Keep the content in memory if the budget allows it."""
        octets = len(content.header) + (len(content.body) if isinstance(content.body, bytes) else 0)
        if self.hot_octets + octets <= HOT_LIMIT_OCTETS:
            self.hot_octets += octets
            work.octets, work.content = octets, content

    def cool(self, work: Work) -> None:
        """Its content no longer counts."""
        self.hot_octets -= work.octets
        work.octets = 0

    # --- work comes and goes --------------------------------------------------------------------------------------

    def append(self, destination: Destination, work: Work) -> None:
        """Behind what waits with the same priority."""
        held, recipients = self.held, work.recipients
        for recipient in recipients:
            held[recipient.id] = work
        self._count(destination, len(recipients))
        waiting = destination.waiting
        if waiting and work.priority > waiting[-1].priority:
            behind = next(index for index, each in enumerate(waiting) if each.priority < work.priority)
            waiting.insert(behind, work)
            if not behind and destination.ring is not None:
                destination.ring.promote(destination)
        else:
            waiting.append(work)
        self.ready(destination)

    def ready(self, destination: Destination) -> bool:
        """Something changed for the better. Is there anything in the ring?"""
        if destination.waiting and destination.ring is None and destination.placed and not destination.suspended_until:
            self._ring.add(destination)
        return bool(self._ring)

    def next(self) -> tuple[Destination, Work] | None:
        """The next job, counted as under way: one of each destination a round. None: nobody may go now."""
        while (destination := self._ring.pop()) is not None:
            waiting = destination.waiting
            if not waiting or destination.suspended_until or destination.in_flight >= self._slots(destination):
                self._unpark(destination.pools)  # a slot that it was called for is another's
                continue
            if destination.pools and self._parks(destination):
                continue
            work = waiting.popleft()
            self._count(destination, -len(work.recipients))
            destination.in_flight += 1
            self.in_flight += 1
            work.pools = destination.pools
            for pool in work.pools:
                pool.in_flight += 1
            if waiting:
                self._ring.add(destination)
            return destination, work
        return None

    def _slots(self, destination: Destination) -> int:
        """Jobs it may have now. While the doubtful crowd, each has one at most: a dead host's time-outs must not take the slot by which
        a new neighbour would show that it lives."""
        if destination.proven or self.doubtful.in_flight < DOUBTFUL_CROWD:
            return destination.limit.allowed
        return 1

    def _parks(self, destination: Destination) -> bool:
        """A pool of it is full: there it waits."""
        for full in destination.pools:
            if full.in_flight >= full.limit.allowed:
                full.parked.add(destination)
                self._unpark(tuple([pool for pool in destination.pools if pool is not full]))
                return True
        return False

    def ended(self, destination: Destination, work: Work) -> None:
        """A job is over: its slots are free."""
        destination.in_flight -= 1
        self.in_flight -= 1
        for pool in work.pools:
            pool.in_flight -= 1
        self._unpark(work.pools)
        self.ready(destination)

    def _unpark(self, pools: tuple[Pool[Destination], ...]) -> None:
        for pool in pools:
            free = pool.limit.allowed - pool.in_flight
            while free > 0 and (destination := pool.parked.pop()) is not None:
                if destination.waiting and not destination.suspended_until:
                    self._ring.add(destination)
                    free -= 1

    def drain(self, destination: Destination) -> deque[Work]:
        """All that waits there; it is still held."""
        waiting, destination.waiting = destination.waiting, deque()
        self._count(destination, destination.reserved - destination.rows)
        return waiting

    def withdraw(self, destination: Destination, recipients: frozenset[int]) -> list[Work]:
        """These rows no longer wait here; as pieces of work, and no longer held. What is under way stays."""
        taken = []
        for work in list(destination.waiting):
            piece = work.split(recipients)
            if piece is None:
                continue
            taken.append(piece)
            self._count(destination, -len(piece.recipients))
            for recipient in piece.recipients:
                self.held.pop(recipient.id, None)
            if not work.recipients:
                self.cool(work)
                destination.waiting.remove(work)
        return taken

    def release(self, work: Work) -> None:
        """It is no longer in memory."""
        for recipient in work.recipients:
            self.held.pop(recipient.id, None)
        self.cool(work)

    def _count(self, destination: Destination, rows: int) -> None:
        destination.rows += rows
        self.rows += rows
        for pool in destination.pools:
            pool.rows += rows

    # --- what is known of a destination changes -------------------------------------------------------------------

    def prove(self, destination: Destination, proven: bool) -> None:
        """It took mail, or is dead."""
        destination.proven = proven
        self._pool(destination)

    def place(self, destination: Destination, site: Site[Destination] | None) -> None:
        """Its site is known (None: no other than itself)."""
        if destination.site is not None:
            destination.site.members -= 1
        if site is not None:
            site.members += 1
        destination.site = site
        destination.placed = True
        self._pool(destination)
        self.ready(destination)

    def _pool(self, destination: Destination) -> None:
        """Into the pools that it now belongs to, with what waits."""
        pools: tuple[Pool[Destination], ...] = () if destination.proven else (self.doubtful,)
        if destination.site is not None:
            pools = (*pools, destination.site)
        left = [pool for pool in destination.pools if pool not in pools]
        for pool in destination.pools:
            pool.rows -= destination.rows
        for pool in pools:
            pool.rows += destination.rows
        destination.pools = pools
        for pool in left:
            pool.hungry.pop(destination, None)
            if destination.ring is pool.parked:
                pool.parked.discard(destination)
                self.ready(destination)

    def configure(self, most: int) -> None:
        """Another number of jobs at once is configured."""
        if most != self.most:
            self.most = most
            for each in self.destinations.values():
                each.limit.allowed = min(each.limit.allowed, most) if each.remote else most

    def forget_idle(self, at: float) -> list[Destination]:
        """Those that nothing is to be known of any longer, of a bounded number looked at. `at`: monotonic seconds."""
        if not self._unexamined:
            self._unexamined = list(self.destinations)
        keys, self._unexamined = self._unexamined[:EXAMINED_MAX], self._unexamined[EXAMINED_MAX:]
        known = [self.destinations[key] for key in keys if key in self.destinations]
        gone = [each for each in known if each.is_forgettable(at)]
        for each in gone:
            if each.site is not None:
                each.site.members -= 1
            for pool in each.pools:
                pool.hungry.pop(each, None)
            self.hungry.pop(each, None)
            del self.destinations[each.key]
        return gone
