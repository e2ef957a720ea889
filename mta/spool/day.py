"""One day of the history: an SQLite file of finished messages with their search terms.

A day's file is written by movers, a batch in a transaction; copying a message twice leaves one. Its log is a rollback journal,
not a WAL: a finished day is one plain file, that can be read by who may not write there, copied, or unlinked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apsw

from mta.mail.address import Address
from mta.mail.envelope import Message, Recipient
from mta.spool.contract import JournalEntry
from mta.spool.database import BUSY_MS, SCHEMA, migrate
from mta.spool.journal import unfold
from mta.spool.queries import MESSAGE_LIST, RECIPIENT_LIST
from mta.spool.rows import (
    JOURNAL_COLUMNS,
    MESSAGE_COLUMNS,
    RECIPIENT_COLUMNS,
    Row,
    message_row,
    read_message,
    read_recipient,
    recipient_row,
)
from mta.spool.transaction import insert_rows


class Told(NamedTuple):
    """A finished message and all that is known of it."""

    message: Message
    recipients: tuple[Recipient, ...]
    journal: list[JournalEntry]


PEER_IDS_MAX = 4  # terms from one reply: a peer must not fill our index
# A next hop's queue ID: letters and digits mixed, parted by dots and the like ("queued as 4F2XYZ1abc", "id=1qTxyz-000Abc-1D").
_PEER_ID = re.compile(r"(?<![A-Za-z0-9@.])[A-Za-z0-9][A-Za-z0-9_.-]{5,63}(?![A-Za-z0-9@])")
_DOTTED_NUMBER = re.compile(r"\d+(?:\.\d+)+")  # an enhanced status, an address


def day_name(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def fold(text: str) -> str:
    """A term as it is stored and sought."""
    return text.strip().strip("<>").lower()


def terms(message: Message, recipients: Iterable[Recipient]) -> set[str]:
    """All that a message is found by: addresses whole and by "@domain", Message-ID, the queue IDs that next hops gave it."""
    found = {fold(message.message_id), fold(message.envid), *_of_address(message.reverse_path)}
    for one in recipients:
        found.update(_of_address(one.address))
        found.add(fold(one.original))
        if one.reverse_path is not None:
            found.update(_of_address(one.reverse_path))
        found.update(peer_ids(one.last_text))
    found.discard("")
    return found


def peer_ids(reply: str) -> list[str]:
    """What in a reply's text may be the queue ID of the next hop, in lower case."""
    return [
        word.lower()
        for word in _PEER_ID.findall(reply)
        if any(c.isdigit() for c in word) and not _DOTTED_NUMBER.fullmatch(word)
    ][:PEER_IDS_MAX]


def _of_address(address: Address) -> list[str]:
    return [fold(str(address)), "@" + address.domain] if address else []


class Day:
    """An open day. Used by one thread."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        """Raises apsw.Error, SpoolUnusable."""
        if write:
            self.connection = apsw.Connection(str(path))
            self.connection.set_busy_timeout(BUSY_MS)
            self.connection.execute("PRAGMA journal_mode=DELETE")
            self.connection.execute("PRAGMA synchronous=FULL")
            migrate(self.connection, SCHEMA / "history")
        else:
            self.connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            self.connection.set_busy_timeout(BUSY_MS)
        # A reader may come between the making of a day's file and of its tables.
        self._is_made = bool(self.connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'term'").get)

    def add(self, told: Sequence[tuple[Message, Sequence[Recipient], Sequence[Row]]]) -> None:
        """Messages with their recipients and journal rows, in one transaction, durable when it returns."""
        messages: list[Row] = []
        recipients: list[Row] = []
        journal: list[Row] = []
        found: list[Row] = []
        for message, ones, rows in told:
            messages.append(message_row(message))
            recipients += [recipient_row(one) for one in ones]
            journal += rows
            found += [(term, message.id) for term in terms(message, ones)]
        cursor = self.connection.cursor()
        again = "INSERT OR REPLACE"
        with self.connection:
            insert_rows(cursor, "message", MESSAGE_COLUMNS, messages, again)
            insert_rows(cursor, "recipient", RECIPIENT_COLUMNS, recipients, again)
            insert_rows(cursor, "journal", JOURNAL_COLUMNS, journal, again)
            insert_rows(cursor, "term", ("term", "message"), found, again)

    def message(self, identifier: int) -> Told | None:
        if not self._is_made:
            return None
        row = self.connection.execute(f"SELECT {MESSAGE_LIST} FROM message WHERE id = ?", (identifier,)).fetchone()
        if row is None:
            return None
        message = read_message(row)
        recipients = tuple(
            [
                read_recipient(one)
                for one in self.connection.execute(
                    f"SELECT {RECIPIENT_LIST} FROM recipient WHERE message = ? ORDER BY id", (identifier,)
                )
            ]
        )
        rows = self.connection.execute(
            f"SELECT {', '.join(JOURNAL_COLUMNS)} FROM journal WHERE message = ? ORDER BY seq", (identifier,)
        )
        return Told(message, recipients, unfold(rows.fetchall(), message, recipients))

    def find(self, term: str, limit: int) -> list[int]:
        """Newest first."""
        if not self._is_made:
            return []
        found = self.connection.execute(
            "SELECT message FROM term WHERE term = ? ORDER BY message DESC LIMIT ?", (fold(term), limit)
        )
        return [row[0] for row in found]

    def close(self) -> None:
        self.connection.close()


def days(folder: Path) -> Iterator[tuple[str, Path]]:
    """The days that are kept, newest first."""
    try:
        names = sorted((path for path in folder.iterdir() if _DAY.fullmatch(path.name)), reverse=True)
    except FileNotFoundError:
        return
    for path in names:
        yield path.stem, path


_DAY = re.compile(r"\d{4}-\d\d-\d\d\.db")
