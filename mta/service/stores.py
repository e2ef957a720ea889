"""What lies on disk, opened and closed together: the shards, the history, the refusals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThreadPool

from mta.admin.archive import FileArchive
from mta.config import model
from mta.spool.contract import Spool
from mta.spool.disk import ShardPaths, shards_of
from mta.spool.history import History
from mta.spool.refusals import Refusals
from mta.spool.sqlite import SqliteSpool, open_spool

RETENTION_SECONDS = 600.0  # how often old days of the history are looked for


class Stores:
    """`shards` is a list from the first day: a worker will own some of them."""

    def __init__(self, section: model.Spool, reactor: Any, now: Callable[[], float]) -> None:
        """Opens everything. Raises SpoolLocked, SpoolUnusable; what was opened before is closed then."""
        self._reactor = reactor
        self._section = section
        self._opened: list[SqliteSpool] = []
        self._retained_at = float("-inf")
        root = section.path
        # Shards of an earlier, larger number are served too, until they are empty: nothing in them is forgotten.
        numbers = sorted({*range(section.shards), *(shards_of(root) if root.is_dir() else ())})
        for number in numbers:
            self._opened.append(open_spool(root, number, reactor=reactor, clock=now, create=True))
        paths = ShardPaths(root, 0)
        self._history = History(paths.history)
        self.refusals = Refusals(root / "refusals", section.refusals_limit, reactor)
        self.archive = FileArchive(self._history, self.refusals.folder, self._in_thread)

    @property
    def shards(self) -> list[Spool]:
        return list(self._opened)

    @property
    def receiving(self) -> list[Spool]:
        """Those that take new mail."""
        return [spool for spool in self._opened if spool.shard < self._section.shards]

    def _in_thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    async def keep(self, now: float, closing: Callable[[], bool]) -> None:
        """Finished mail into the history; the history within its bounds."""
        for spool in self._opened:
            while await spool.move_finished(now) and not closing():
                pass
        if time.monotonic() - self._retained_at >= RETENTION_SECONDS:
            self._retained_at = time.monotonic()
            section = self._section
            await self._in_thread(lambda: self._history.retain(now, section.history, section.history_limit))

    async def close(self) -> None:
        await gatherResults([spool.close() for spool in self._opened])
        self.refusals.close()
