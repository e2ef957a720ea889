"""The mover: copies finished messages to the history and drops them here, in that order, so that a crash between leaves a copy.

Which messages to look at it learns from the writer, that saw their recipients end; no index is paid for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from mta.mail.envelope import Message, Recipient, State
from mta.spool import queries
from mta.spool.contract import SpoolFailed, SpoolFull
from mta.spool.history import History
from mta.spool.reading import Reading
from mta.spool.rows import JOURNAL_COLUMNS, Row
from mta.spool.writer import Writer

_ROWS = f"SELECT {', '.join(JOURNAL_COLUMNS)} FROM journal WHERE message = ? ORDER BY seq"
_Finished = tuple[Message, Sequence[Recipient], Sequence[Row]]


class Mover:
    """`copy` runs in a thread of the spool, `again` anywhere."""

    def __init__(self, writer: Writer, reading: Reading, history: History) -> None:
        self._writer, self._reading, self._history = writer, reading, history

    def copy(self, limit: int) -> list[int]:
        """Copy what is finished; the IDs that are durable in the history and may be dropped. Raises SpoolFull, SpoolFailed."""
        chosen = self._choose(limit)
        try:
            finished = self._reading.ask(_finished, chosen)
            self._history.add(finished)
        except apsw.FullError as error:
            self.again(chosen)
            raise SpoolFull("no space left for the history") from error
        except (apsw.Error, OSError, SpoolFailed) as error:
            self.again(chosen)
            raise SpoolFailed(f"the history can't be written: {error}") from error
        return [message.id for message, _, _ in finished]

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


def _finished(connection: apsw.Connection, chosen: Sequence[int]) -> list[_Finished]:
    found: list[_Finished] = []
    with connection:  # one state of the spool for a message and its journal
        for identifier in chosen:
            told = queries.message(connection, identifier)
            if told is None or any(one.state is State.QUEUED for one in told[1]):
                continue
            found.append((*told, connection.execute(_ROWS, (identifier,)).fetchall()))
    return found
