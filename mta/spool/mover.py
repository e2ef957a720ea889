"""The mover: copies finished messages to the history and drops them here, in that order, so that a crash between leaves a copy.

Which messages to look at it learns from the writer, that saw their recipients end; no index is paid for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import apsw

from mta.spool.contract import SpoolFailed, SpoolFull
from mta.spool.day import Finished, attach, finished
from mta.spool.history import History
from mta.spool.writer import Writer

_URI = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI


class Mover:
    """`copy` runs in a thread of the spool, `again` anywhere."""

    def __init__(self, writer: Writer, database: Path, history: History, vfs: str | None = None) -> None:
        self._writer, self._database, self._history, self._vfs = writer, database, history, vfs

    def copy(self, limit: int) -> list[int]:
        """Copy what is finished; the IDs that are durable in the history and may be dropped. Raises SpoolFull, SpoolFailed."""
        chosen = self._choose(limit)
        if not chosen:
            return []
        try:
            told = self._finished(chosen)
            self._history.copy(self._database, self._vfs, told)
        except apsw.FullError as error:
            self.again(chosen)
            raise SpoolFull("no space left for the history") from error
        except Exception as error:  # whatever it is, they are still to be copied
            self.again(chosen)
            raise SpoolFailed(f"the history can't be written: {error}") from error
        return [one.message for one in told]

    def _finished(self, chosen: Sequence[int]) -> list[Finished]:
        with contextlib.closing(apsw.Connection("", flags=_URI)) as connection:
            attach(connection, self._database, self._vfs)
            return finished(connection, chosen)

    def again(self, messages: Sequence[int]) -> None:
        """They were not dropped: look at them later."""
        with self._writer.finished_lock:
            self._writer.finished.update(messages)

    def _choose(self, limit: int) -> list[int]:
        """The oldest, in their order: neighbours share pages, so that half as much is read and written as in any order.

        Taken out before they are read: a recipient that ends afterwards puts its message in again.
        """
        with self._writer.finished_lock:
            oldest = sorted(self._writer.finished)[:limit]
            self._writer.finished.difference_update(oldest)
        return oldest
