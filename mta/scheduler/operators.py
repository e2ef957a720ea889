"""What operators do to the queue, as the memory has to follow it. The spool was changed before."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mta.scheduler.heads import Heads
from mta.scheduler.lookout import Lookout
from mta.scheduler.settling import Settler
from mta.scheduler.suspensions import Suspensions
from mta.spool.contract import Altered, Change


class Operators:
    """One for each scheduler. What is under way goes on: a hold counts from the next try, what was removed is told in the log."""

    def __init__(self, heads: Heads, lookout: Lookout, settler: Settler, suspensions: Suspensions) -> None:
        self._heads = heads
        self._lookout = lookout
        self._settler = settler
        self._suspensions = suspensions

    def altered(self, change: Change, altered: Altered) -> None:
        if change in (Change.HOLD, Change.REMOVE):
            self._withdraw(altered.recipients, give_back=change is Change.HOLD)
            return
        if change is Change.RETRY:
            self._suspensions.end(altered.destinations)
        self._lookout.load_soon(altered.destinations)

    def _withdraw(self, recipients: Sequence[int], *, give_back: bool) -> None:
        """Take them out of the memory where they wait."""
        heads = self._heads
        works = {id(work): work for each in recipients if (work := heads.held.get(each)) is not None}
        named = frozenset(recipients)
        for key in {work.destination for work in works.values()}:
            for piece in heads.withdraw(heads.destination(key), named):
                if give_back:
                    self._settler.give_back(piece.recipients)

    def flush(self, destinations: Collection[str] | None) -> int:
        """End the suspension of these, or of all; how many were suspended. What is due there goes at once: first a probe."""
        return self._suspensions.end(destinations)
