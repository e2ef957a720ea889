"""Sees each commit of a node's spool, before it and after it, and can end the node there without a farewell.

node.commits.crash_at(3)          # before the second commit (points are counted from 1: before, after, before, after ...)
node.commits.points               # [("before", "accept"), ("after", "accept"), ...]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from mta.testing.simulated_node import SimulatedNode

Point = tuple[str, str]  # "before" or "after", and the spool's method
COMMITS = frozenset({"accept", "settle", "claim", "unclaim", "recover", "alter", "move_finished"})


class CommitWatch:
    """`points` are those that were passed, over all boots."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self._crash_at = 0
        self._told = True
        self.points: list[Point] = []
        self.crashed_at: Point | None = None
        self._current: WatchedSpool | None = None
        self.which: frozenset[str] = frozenset({"accept", "settle"})

    def of(self, spool: Any) -> WatchedSpool:
        """The spool for a boot."""
        self._current = WatchedSpool(spool, self)
        return self._current

    def dead(self) -> None:
        """The process is no more: whatever it waits for never comes."""
        if self._current is not None:
            self._current.dead = True

    def crash_at(self, number: int, which: Sequence[str] = ("accept", "settle"), *, told: bool = True) -> None:
        """End the node at the point with this number, counted from now among the commits of `which`. `told`: see `crash`."""
        self.which = frozenset(which)
        self.points.clear()
        self.crashed_at = None
        self._crash_at, self._told = number, told

    def passed(self, point: Point) -> None:
        if point[1] in self.which:
            self.points.append(point)
            if len(self.points) == self._crash_at:
                self.crashed_at = point
                self._node.crash(told=self._told)


class WatchedSpool:
    """A Spool that passes everything on."""

    def __init__(self, spool: Any, watch: CommitWatch) -> None:
        self._spool = spool
        self._watch = watch
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._spool, name)
        if name not in COMMITS:
            return found

        def call(*args: Any, **kw: Any) -> Deferred[Any]:
            return self._commit(name, found, *args, **kw)

        return call

    def _commit(self, name: str, work: Callable[..., Deferred[Any]], *args: Any, **kw: Any) -> Deferred[Any]:
        self._pass("before", name)
        if self.dead:
            return Deferred()
        return work(*args, **kw).addCallbacks(self._done, self._failed, callbackArgs=(name,))

    def _pass(self, moment: str, name: str) -> None:
        if not self.dead:
            self._watch.passed((moment, name))

    def _done(self, result: Any, name: str) -> Any:
        self._pass("after", name)
        return Deferred() if self.dead else result

    def _failed(self, failure: Failure) -> Any:
        return Deferred() if self.dead else failure
