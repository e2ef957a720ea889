"""One transaction of the writer: rows gathered and inserted many in one statement, and what it will mean once committed.

Inserting many rows in one statement is for the GIL: SQLite's step releases it, and beside a busy reactor each return costs a
wait. A batch of 20 messages makes some six steps instead of sixty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

import apsw

from mta.spool.rows import CONTENT_COLUMNS, JOURNAL_COLUMNS, MESSAGE_COLUMNS, RECIPIENT_COLUMNS, Row

ROWS_IN_STATEMENT = 16  # more gains nothing measurable, and SQLite compiles longer

_MESSAGE = ("message", (*MESSAGE_COLUMNS, *CONTENT_COLUMNS))
_RECIPIENT = ("recipient", RECIPIENT_COLUMNS)
_JOURNAL = ("journal", JOURNAL_COLUMNS)


@lru_cache(maxsize=64)
def insert_statement(table: str, columns: tuple[str, ...], rows: int) -> str:
    places = "(" + ",".join("?" * len(columns)) + ")"
    return f"INSERT INTO {table} ({','.join(columns)}) VALUES " + ",".join([places] * rows)


def insert_rows(cursor: apsw.Cursor, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
    """In statements of up to 16 rows: one step each, and few enough texts that each is compiled once and kept."""
    done, number = 0, len(rows)
    while done < number:
        width = min(ROWS_IN_STATEMENT, number - done)
        bound = rows[done] if width == 1 else list(chain.from_iterable(rows[done : done + width]))
        cursor.execute(insert_statement(table, columns, width), bound)
        done += width


Claimant = tuple[int, float]  # owner, end of its lease


class Transaction:
    """What works write to. Committed and rolled back by the writer alone."""

    __slots__ = (
        "_settle", "accepted", "claims", "connection", "cursor", "dropped", "finished", "journal", "messages", "next_seq",
        "recipients", "settlings",
    )  # fmt: skip

    def __init__(
        self,
        connection: apsw.Connection,
        cursor: apsw.Cursor,
        next_seq: Callable[[], int],
        settle: Callable[[Transaction, list[Any]], None],
    ) -> None:
        """`settle` applies what is in `settlings` (mta.spool.settling)."""
        self.connection = connection
        self.cursor = cursor
        self.next_seq = next_seq
        self._settle = settle
        self.settlings: list[Any] = []  # to be applied before anything looks
        # rows to insert, in order
        self.messages: list[Row] = []
        self.recipients: list[Row] = []
        self.journal: list[Row] = []
        # what becomes true with the commit
        self.claims: dict[int, Claimant | None] = {}  # by recipient; None: its claim ended. The last word counts
        self.finished: list[int] = []  # messages of which a recipient became terminal
        self.accepted = 0  # messages new
        self.dropped = 0  # messages gone to the history

    def flush(self) -> None:
        """Write what was gathered: before anything that must see it, and before the commit."""
        if self.settlings:
            settlings, self.settlings = self.settlings, []
            self._settle(self, settlings)
        if self.messages:
            insert_rows(self.cursor, *_MESSAGE, self.messages)
            self.messages = []
        if self.recipients:
            insert_rows(self.cursor, *_RECIPIENT, self.recipients)
            self.recipients = []
        if self.journal:
            insert_rows(self.cursor, *_JOURNAL, self.journal)
            self.journal = []

    def query(self, text: str, *values: Any) -> list[Any]:
        """Rows, all that was written before seen."""
        self.flush()
        return self.connection.execute(text, values).fetchall()


class Claims:
    """Who works on what, as committed: owner and end of lease by recipient.

    Every claim of a shard is made here, because its lock lets nobody else in; so no index is paid for leases, and a message
    that is delivered at once costs none. Written by the writer thread alone.
    """

    __slots__ = ("_earliest", "held")

    def __init__(self) -> None:
        self.held: dict[int, Claimant] = {}
        self._earliest = float("inf")  # no lease ends before it; may be too early, never too late

    def apply(self, transaction: Transaction) -> None:
        for recipient, claimant in transaction.claims.items():
            if claimant is None:
                self.held.pop(recipient, None)
            else:
                self.held[recipient] = claimant
                self._earliest = min(self._earliest, claimant[1])

    def load(self, rows: Iterator[tuple[int, int, float]]) -> None:
        self.held = {recipient: (owner, lease) for recipient, owner, lease in rows}
        self._earliest = min([lease for _, lease in self.held.values()], default=float("inf"))

    def any_ended(self, now: float) -> bool:
        return self._earliest <= now

    def ended(self, now: float) -> list[int]:
        """Recipients whose lease is over."""
        if self._earliest > now:
            return []
        found = [recipient for recipient, (_, lease) in self.held.items() if lease <= now]
        self._earliest = min([lease for _, lease in self.held.values() if lease > now], default=float("inf"))
        if found:
            self._earliest = min(self._earliest, now)  # until their release is committed, look again
        return found
