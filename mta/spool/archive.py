"""What `mta why` asks of the past: finished messages and refusals, for a running daemon (in a thread) or a stopped one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred

from mta.spool.day import Told
from mta.spool.disk import ShardPaths
from mta.spool.history import History
from mta.spool.refusals import search_refusals


class Sought(Protocol):
    """One of the first three is given."""

    @property
    def message(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def message_id(self) -> str: ...
    @property
    def limit(self) -> int: ...


class Archive:
    """`run(function, *arguments)` gives a Deferred of its result: in a thread, or at once."""

    def __init__(self, root: Path, run: Callable[..., Deferred[Any]] = maybeDeferred) -> None:
        paths = ShardPaths(root, 0)
        self.history = History(paths.history)
        self._refusals = paths.refusals
        self._run = run

    def stories(self, sought: Sought) -> Deferred[list[Any]]:
        """Finished messages (mta.spool.day.Told) that fit, newest first. Fails with SpoolError."""
        return self._run(self._stories, sought)

    def refusals(self, sought: Sought) -> Deferred[list[Any]]:
        """Notes of refusals that fit, newest first, as they were noted."""
        if not sought.address:
            return self._run(list)
        return self._run(search_refusals, self._refusals, sought.address, sought.limit)

    def _stories(self, sought: Sought) -> list[Told]:
        if sought.message:
            told = self.history.message(sought.message)
            return [] if told is None else [told]
        return self.history.search(sought.address or sought.message_id, sought.limit)
