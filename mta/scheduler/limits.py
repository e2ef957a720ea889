"""How many jobs at once: a window that success opens and failure narrows.

It starts small, and each success opens it by one as long as nothing went wrong. After a failure it is one narrower, and from there on
it takes a whole window of successes to open it again by one: so it settles just below what the other side bears, instead of running
into the wall again and again.
"""

from __future__ import annotations

START = 5  # SAFETY 1: Postfix's initial_destination_concurrency
_NEVER_FAILED = 1 << 30


class Limit:
    """`allowed` jobs, 1 at least. Nothing here knows of time."""

    __slots__ = ("_ceiling", "_successes", "allowed")

    def __init__(self, most: int, start: int = START) -> None:
        self.allowed = max(1, min(start, most))
        self._ceiling = _NEVER_FAILED
        self._successes = 0  # since the window was last changed, once it is at its ceiling

    def succeeded(self, most: int) -> None:
        if self.allowed >= most:
            self.allowed = most
        elif self.allowed < self._ceiling:
            self.allowed += 1
        else:
            self._successes += 1
            if self._successes >= self.allowed:
                self.allowed += 1
                self._ceiling, self._successes = self.allowed, 0

    def failed(self) -> None:
        self.allowed = self._ceiling = max(1, self.allowed - 1)
        self._successes = 0

    def probe(self) -> None:
        """One job, until it is known how things are."""
        self.allowed, self._successes = 1, 0

    def restart(self, most: int) -> None:
        """All is well again: as at the beginning."""
        self.allowed = max(1, min(START, most))
        self._ceiling, self._successes = _NEVER_FAILED, 0
