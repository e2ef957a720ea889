"""When destinations are to be looked at: a wheel of slots of one second, and one timer for the earliest of them.

A destination has one time, the earliest that was named since it last came up. Times are the monotonic clock's.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from twisted.internet.interfaces import IDelayedCall, IReactorTime

KEYS_MAX = 50_000  # 200 octets each; who finds no place is found by the look at the spool, once a minute


class Wheel:
    """`due(keys)` is called in the slot's time, at most a second late."""

    def __init__(self, clock: IReactorTime, due: Callable[[list[str]], None]) -> None:
        self._clock = clock
        self._due = due
        self._slot_of: dict[str, int] = {}
        self._slots: dict[int, list[str]] = {}
        self._order: list[int] = []  # a heap of the slots
        self._call: IDelayedCall | None = None
        self._call_slot = 0
        self._stopped = False

    def __len__(self) -> int:
        return len(self._slot_of)

    def expect(self, key: str, seconds: float) -> None:
        """Let it come up in `seconds`, if not before."""
        slot = int(self._clock.seconds() + max(seconds, 0.0)) + 1
        known = self._slot_of.get(key)
        if known is not None and known <= slot:
            return
        if known is None and len(self._slot_of) >= KEYS_MAX:
            return
        self._slot_of[key] = slot
        keys = self._slots.get(slot)
        if keys is None:
            self._slots[slot] = [key]
            heappush(self._order, slot)
            self._arm()
        else:
            keys.append(key)

    def stop(self) -> None:
        self._stopped = True
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _arm(self) -> None:
        if self._stopped or not self._order:
            return
        first = self._order[0]
        if self._call is not None and self._call.active():
            if self._call_slot <= first:
                return
            self._call.cancel()
        self._call_slot = first
        self._call = self._clock.callLater(max(0.0, first - self._clock.seconds()), self._turn)

    def _turn(self) -> None:
        now = self._clock.seconds()
        due: list[str] = []
        while self._order and self._order[0] <= now:
            slot = heappop(self._order)
            for key in self._slots.pop(slot):
                if self._slot_of.get(key) == slot:  # else an earlier time took its place
                    del self._slot_of[key]
                    due.append(key)
        self._arm()
        if due:
            self._due(due)
