"""Destinations that wait for their turn: round robin, urgent ones first, none forgotten.

A destination stands in the lane of the work at its head (MT-PRIORITY, RFC 6710). Of LANE_TURNS turns in a row that a faster lane
takes, the next goes to a slower one: so what is urgent hardly waits, and what is not still moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

LANE_TURNS = 8
SLOW, USUAL, URGENT = 0, 1, 2


def lane_of(priority: int) -> int:
    return USUAL if not priority else URGENT if priority > 0 else SLOW


class Prior(Protocol):
    """Work, as far as its turn goes."""

    priority: int


class Standing(Protocol):
    """What stands in a ring."""

    ring: Ring[Any] | None
    lane: int

    @property
    def waiting(self) -> Sequence[Prior]: ...


Member = TypeVar("Member", bound=Standing)


class Ring(Generic[Member]):
    """A destination stands in at most one ring, once: `destination.ring` tells in which, `destination.lane` where."""

    __slots__ = ("_lanes", "_turns")

    def __init__(self) -> None:
        self._lanes: tuple[deque[Member], deque[Member], deque[Member]] = (deque(), deque(), deque())
        self._turns = [0, 0, 0]  # taken in a row by each lane while a slower one waited

    def __bool__(self) -> bool:
        slow, usual, urgent = self._lanes
        return bool(usual or urgent or slow)

    def __len__(self) -> int:
        return sum(map(len, self._lanes))

    def add(self, destination: Member) -> None:
        """Behind all others of its lane. Something waits for it, and it stands in no ring."""
        destination.ring = self
        destination.lane = lane = lane_of(destination.waiting[0].priority)
        self._lanes[lane].append(destination)

    def discard(self, destination: Member) -> None:
        self._lanes[destination.lane].remove(destination)
        destination.ring = None

    def promote(self, destination: Member) -> None:
        """More urgent work came for it."""
        if lane_of(destination.waiting[0].priority) > destination.lane:
            self.discard(destination)
            self.add(destination)

    def pop(self) -> Member | None:
        """The next, out of the ring; None: nobody waits."""
        slow, usual, urgent = self._lanes
        if not (urgent or slow):  # the usual case
            if not usual:
                return None
            lane = USUAL
        else:
            lane = self._choose()
        destination = self._lanes[lane].popleft()
        destination.ring = None
        return destination

    def _choose(self) -> int:
        turns = self._turns
        for lane in (URGENT, USUAL):
            if not self._lanes[lane]:
                turns[lane] = 0
            elif not any(self._lanes[:lane]):
                return lane
            elif turns[lane] < LANE_TURNS:
                turns[lane] += 1
                return lane
            else:
                turns[lane] = 0
        return SLOW if self._lanes[SLOW] else USUAL
