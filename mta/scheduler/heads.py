"""What the scheduler has in memory: the heads of the queue, by destination, and the ring of destinations that may go.

At most ROWS_MAX recipients, with content up to HOT_LIMIT_OCTETS; the spool has the rest. Every recipient in memory, waiting or under way,
stands in `held` once, so that no claim can bring it in a second time.
"""

from __future__ import annotations

from collections import deque

from mta.mail.envelope import Content
from mta.scheduler.destinations import Destination
from mta.scheduler.work import Work

HOT_LIMIT_OCTETS = 64 << 20
ROWS_MAX = 20_000  # recipients in memory, 2 KB each without content
OFFERED_ROWS_MAX = 2_000  # of one destination, as they were accepted
LOADED_PER_SLOT = 4  # of one destination, for each of its slots, as they are loaded


class Heads:
    """Plain book-keeping: no clock, no spool."""

    __slots__ = ("_ring", "destinations", "held", "hot_octets", "rows")

    def __init__(self) -> None:
        self.destinations: dict[str, Destination] = {}
        self.held: dict[int, Work] = {}  # recipient ID -> its work
        self.rows = 0  # recipients that wait
        self.hot_octets = 0
        self._ring: deque[Destination] = deque()

    def destination(self, key: str) -> Destination:
        destination = self.destinations.get(key)
        if destination is None:
            destination = self.destinations[key] = Destination(key)
        return destination

    def takes(self, destination: Destination, rows: int) -> bool:
        """May rows that were just accepted wait here? Not before older mail on disk, and not for a dead host."""
        return not (
            destination.on_disk
            or destination.suspended_until
            or destination.rows + rows > OFFERED_ROWS_MAX
            or self.rows + rows > ROWS_MAX
        )

    def room(self, destination: Destination, concurrency: int) -> int:
        """How many rows may be loaded."""
        return min(LOADED_PER_SLOT * concurrency - destination.rows, ROWS_MAX - self.rows)

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

    def append(self, destination: Destination, work: Work) -> None:
        held, recipients = self.held, work.recipients
        for recipient in recipients:
            held[recipient.id] = work
        rows = len(recipients)
        destination.rows += rows
        self.rows += rows
        destination.waiting.append(work)
        if not destination.ringed:
            destination.ringed = True
            self._ring.append(destination)

    def ready(self, destination: Destination) -> bool:
        """A slot of it became free. Is there anything in the ring?"""
        if destination.waiting and not destination.ringed:
            destination.ringed = True
            self._ring.append(destination)
        return bool(self._ring)

    def next(self, concurrency: int) -> tuple[Destination, Work] | None:
        """The next job: one of each destination a round. None: nobody may go now."""
        ring = self._ring
        while ring:
            destination = ring.popleft()
            waiting = destination.waiting
            if waiting and not destination.suspended_until and destination.in_flight < destination.limit(concurrency):
                work = waiting.popleft()
                rows = len(work.recipients)
                destination.rows -= rows
                self.rows -= rows
                if waiting:
                    ring.append(destination)
                else:
                    destination.ringed = False
                return destination, work
            destination.ringed = False
        return None

    def drain(self, destination: Destination) -> deque[Work]:
        """All that waits there; it is still held."""
        waiting, destination.waiting = destination.waiting, deque()
        self.rows -= destination.rows
        destination.rows = 0
        return waiting

    def release(self, work: Work) -> None:
        """It is no longer in memory."""
        for recipient in work.recipients:
            self.held.pop(recipient.id, None)
        self.cool(work)

    def forget_idle(self, at: float) -> None:
        """`at`: monotonic seconds."""
        for key in [key for key, each in self.destinations.items() if each.is_forgettable(at)]:
            del self.destinations[key]
