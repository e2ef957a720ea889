"""Deadlines of thousands of sessions for the price of one timer: each session is looked at every few seconds, not timed.
Without sessions there is no timer: an idle host sleeps.

A session sets `deadline` (an attribute, no call) whenever it has dealt with a command; the watch visits it when its bucket
comes up and asks it to look. Times are the reactor's, which is monotonic (law 9).
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

VISIT_SECONDS = 5.0  # the error of a deadline, at most


class Watched(Protocol):
    bucket: set[Watched] | None

    def look(self, now: float) -> float:
        """Deal with what has run out. Returns when to look again, at the latest."""


class Deadlines:
    """`watch` and `forget` are cheap; a session belongs to one bucket at a time."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._buckets: dict[int, set[Watched]] = {}
        self._last = 0  # the second that was dealt with last, while there is a timer
        self._call: IDelayedCall | None = None

    def watch(self, session: Watched, at: float) -> None:
        """Look at it at `at`, or in VISIT_SECONDS, whichever is sooner."""
        now = self._clock.seconds()
        if self._call is None:
            self._last = int(now)
            self._call = self._clock.callLater(1.0, self._tick)
        second = int(max(now, min(at, now + VISIT_SECONDS))) + 1  # never the second that is being dealt with
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = set()
        bucket.add(session)
        session.bucket = bucket

    def forget(self, session: Watched) -> None:
        if session.bucket is not None:
            session.bucket.discard(session)
            session.bucket = None

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._call = self._clock.callLater(1.0, self._tick)
        for second in range(self._last + 1, int(now) + 1):
            self._last = second
            for session in self._buckets.pop(second, ()):
                session.bucket = None
                self.watch(session, session.look(now))
        self._last = int(now)
        if not any(self._buckets.values()):
            self._buckets.clear()
            self.stop()
