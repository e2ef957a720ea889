"""Time that passes in jumps, from one timer to the next: five days take as long as what happens in them.

Two clocks, as a machine has them: `seconds` is monotonic, `now` is the wall's, and `step` moves that one alone. What is due at the same
time happens in the order in which it was asked for, so the same test does the same each time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

EPOCH = 1_700_000_000.0  # wall time when the monotonic clock stood at zero
BOOTED_SECONDS = 1000.0  # ... and now it does not: a clock at zero hides mistakes
CALLS_AT_ONCE_MAX = 200_000  # more at one and the same time is a circle, not work


class Life:
    """Whose calls they are: when it is over, none of them happens any more."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False


IMMORTAL = Life()


@implementer(IDelayedCall)
class Call:
    """A call that is to come."""

    __slots__ = ("_clock", "args", "called", "cancelled", "function", "kwargs", "life", "time")

    def __init__(
        self,
        clock: FakeClock,
        time: float,
        life: Life,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._clock = clock
        self.time, self.life = time, life
        self.function, self.args, self.kwargs = function, args, kwargs
        self.called = self.cancelled = False

    def getTime(self) -> float:
        return self.time

    def active(self) -> bool:
        return not (self.called or self.cancelled)

    def cancel(self) -> None:
        self._must_be_active()
        self.cancelled = True
        self.function, self.args, self.kwargs = _nothing, (), {}

    def reset(self, secondsFromNow: float) -> None:  # noqa: N803 - IDelayedCall's
        self._must_be_active()
        self.time = self._clock.seconds() + secondsFromNow
        self._clock.moved(self)

    def delay(self, secondsLater: float) -> None:  # noqa: N803 - IDelayedCall's
        self._must_be_active()
        self.time += secondsLater
        self._clock.moved(self)

    def _must_be_active(self) -> None:
        if self.cancelled:
            raise AlreadyCancelled
        if self.called:
            raise AlreadyCalled


def _nothing() -> None:
    """What a cancelled call does."""


class FakeClock:
    """Faults in calls are kept, and raised when time stops: a timer that fails must not pass unseen."""

    def __init__(self, epoch: float = EPOCH) -> None:
        self._monotonic = BOOTED_SECONDS
        self._offset = epoch
        self._sequence = 0
        self._calls: list[tuple[float, int, Call]] = []
        self.faults: list[BaseException | str] = []  # words, where there is no exception to raise

    def seconds(self) -> float:
        """Monotonic."""
        return self._monotonic

    def now(self) -> float:
        """Wall time."""
        return self._monotonic + self._offset

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock; the monotonic one does not care."""
        self._offset += seconds

    def call_later(
        self, life: Life, seconds: float, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call:
        if seconds < 0:
            raise ValueError(f"{seconds} seconds lie in the past")
        call = Call(self, self._monotonic + seconds, life, function, args, kwargs)
        self.moved(call)
        return call

    def later(self, seconds: float, function: Callable[..., Any], *args: Any) -> Call:
        """A call that nobody's death prevents."""
        return self.call_later(IMMORTAL, seconds, function, args, {})

    def moved(self, call: Call) -> None:
        self._sequence += 1
        heapq.heappush(self._calls, (call.time, self._sequence, call))

    def waiting(self, life: Life) -> list[Call]:
        """The calls that are to come."""
        return list({id(call): call for _, _, call in self._calls if call.life is life and call.active()}.values())

    def run(self, seconds: float, until: Callable[[], object] | None = None) -> bool:
        """Let time pass, at most so long; True as soon as `until` holds, asked after each call."""
        end = self._monotonic + seconds
        if until is not None and until():
            return True
        at_once = 0
        while self._calls and self._calls[0][0] <= end:
            time, _, call = heapq.heappop(self._calls)
            if call.cancelled or call.called or call.time != time or call.life.over:
                continue
            at_once = at_once + 1 if time <= self._monotonic else 0
            if at_once > CALLS_AT_ONCE_MAX:
                raise AssertionError(f"time stands still: {call.function!r} and others call each other")
            self._monotonic = max(self._monotonic, time)
            self._do(call)
            if until is not None and until():
                return True
        self._monotonic = end
        return until is None

    def _do(self, call: Call) -> None:
        call.called = True
        try:
            call.function(*call.args, **call.kwargs)
        except Exception as fault:  # noqa: BLE001 - as a reactor does: the next call must come nevertheless
            self.faults.append(fault)
