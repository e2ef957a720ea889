"""What several destinations share: jobs at once, rows in memory. A destination whose pool is full stands aside until a job of it ends.

Two kinds. A site is the set of hosts that several domains name as their exchangers: without its limit, 10,000 domains at one
provider were 50,000 connections, and their rows all that fits in memory. The doubtful are destinations that never took mail, or failed
last: their time-outs must not hold all jobs, nor their rows all memory, while those that answer wait.
"""

from __future__ import annotations

from typing import Generic

from mta.scheduler.limits import Limit
from mta.scheduler.ring import Member, Ring

DOUBTFUL_JOBS_MAX = 750  # of the 1,000 that may be under way
DOUBTFUL_CROWD = 100  # jobs of the doubtful from which on each of them has one at most
DOUBTFUL_ROWS_MAX = 10_000  # of the 20,000 in memory
OFFERED_PER_SLOT = 100  # rows of one destination or site in memory for each of its slots, as they were accepted
LOADED_PER_SLOT = 4  # the same, as they are loaded


class Pool(Generic[Member]):
    """`parked`: destinations that wait for a job of it to end; `hungry`: those with rows on disk that found no room."""

    __slots__ = ("hungry", "in_flight", "limit", "parked", "rows")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.in_flight = 0  # jobs
        self.rows = 0  # recipients that wait in memory
        self.parked: Ring[Member] = Ring()
        self.hungry: dict[Member, None] = {}

    def room(self, per_slot: int) -> int:
        """Rows that may be added."""
        return per_slot * self.limit.allowed - self.rows


class Doubtful(Pool[Member]):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(Limit(DOUBTFUL_JOBS_MAX, DOUBTFUL_JOBS_MAX))

    def room(self, per_slot: int) -> int:
        return DOUBTFUL_ROWS_MAX - self.rows


class Site(Pool[Member]):
    """`members`: destinations in memory that belong to it."""

    __slots__ = ("key", "members")

    def __init__(self, key: str, most: int) -> None:
        super().__init__(Limit(most))
        self.key = key
        self.members = 0
