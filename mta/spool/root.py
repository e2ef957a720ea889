"""A spool as a daemon has it: all shards, the history, the refusals, opened and closed together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredList

from mta.config.model import Spool as SpoolTable
from mta.spool.contract import SpoolError, SpoolUnusable
from mta.spool.disk import ShardPaths, shards_of
from mta.spool.history import History
from mta.spool.lane import Lane, Reactor
from mta.spool.refusals import Refusals
from mta.spool.sqlite import SqliteSpool, open_spool

Result = TypeVar("Result")


class SpoolRoot:
    """Opened once; `refusals` and `history` exist from then on. `now`: wall time in seconds."""

    refusals: Refusals
    history: History

    def __init__(self, table: SpoolTable, *, reactor: Reactor, now: Callable[[], float]) -> None:
        self.table = table  # may be replaced after a reload: limits are read when they are applied
        self._reactor, self._now = reactor, now
        self.spools: list[SqliteSpool] = []

    def open(self) -> list[SqliteSpool]:
        """Lock and open every shard, new ones made. Raises SpoolLocked, SpoolUnusable."""
        table = self.table
        there = shards_of(table.path)
        if there and there[-1] >= table.shards:
            raise SpoolUnusable(
                f"the spool {table.path} has {there[-1] + 1} shards, [spool] shards = {table.shards}: "
                "the mail in the others would lie there unseen. Shards can be added, never taken away"
            )
        try:
            for shard in range(table.shards):
                self.spools.append(open_spool(table.path, shard, reactor=self._reactor, clock=self._now, create=True))
        except SpoolError:
            for spool in self.spools:
                spool.close()
            raise
        self.refusals = Refusals(table.path / "refusals", table.refusals_limit, self._reactor)
        self._past = Lane("spool-history", self._reactor)
        self.history = History(ShardPaths(table.path, 0).history)
        return self.spools

    def retain(self, now: float) -> Deferred[list[str]]:
        """Apply the limits of the history; the days that went."""
        self.refusals.limit_octets = self.table.refusals_limit
        return self.in_thread(lambda: self.history.retain(now, self.table.history, self.table.history_limit))

    def in_thread(self, work: Callable[[], Result]) -> Deferred[Result]:
        """Run what asks the history or the refusals in the thread that is theirs."""
        return self._past.submit(work)

    def close(self) -> Deferred[None]:
        """Finish what is under way, let go of the locks."""
        self.refusals.close()
        self._past.stop()
        return DeferredList([spool.close() for spool in self.spools], consumeErrors=True).addCallback(lambda _: None)
