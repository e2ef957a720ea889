"""Is the wall clock to be believed? Lifetimes are wall time; a clock that jumped a week must not expire the queue.

The wall clock is compared with the monotonic one: a jump of more than JUMP_SECONDS between two looks puts it in doubt for
DOUBT_SECONDS, in which nothing expires. Slow corrections (NTP slewing) never add up to a jump.
"""

from __future__ import annotations

from collections.abc import Callable

JUMP_SECONDS = 60.0
DOUBT_SECONDS = 3600.0


class ClockDoubt:
    """`monotonic` and `wall` give seconds."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._drift = wall() - monotonic()
        self._until = float("-inf")

    def look(self) -> bool:
        """True while the clock is in doubt. To be called at least every few minutes."""
        monotonic = self._monotonic()
        drift = self._wall() - monotonic
        if abs(drift - self._drift) > JUMP_SECONDS:
            self._until = monotonic + DOUBT_SECONDS
        self._drift = drift
        return monotonic < self._until
