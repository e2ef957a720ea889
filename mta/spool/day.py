"""One day of the history: an SQLite file of finished messages with their search terms.

A day's file is written by movers, a batch in a transaction; copying a message twice leaves one. Its log is a rollback journal,
not a WAL: a finished day is one plain file, that can be read by who may not write there, copied, or unlinked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import apsw

from mta.mail.address import Address
from mta.mail.envelope import Message, Recipient
from mta.spool.contract import JournalEntry
from mta.spool.database import BUSY_MS, SCHEMA, committing, migrate
from mta.spool.journal import unfold
from mta.spool.queries import MESSAGE_LIST, RECIPIENT_LIST
from mta.spool.rows import (
    JOURNAL_COLUMNS,
    MESSAGE_COLUMNS,
    RECIPIENT_COLUMNS,
    read_message,
    read_recipient,
)


class Told(NamedTuple):
    """A finished message and all that is known of it."""

    message: Message
    recipients: tuple[Recipient, ...]
    journal: list[JournalEntry]


PEER_IDS_MAX = 4  # terms from one reply: a peer must not fill our index
# A next hop's queue ID: letters and digits mixed, parted by dots and the like ("queued as 4F2XYZ1abc", "id=1qTxyz-000Abc-1D").
_PEER_ID = re.compile(r"(?<![A-Za-z0-9@.])[A-Za-z0-9][A-Za-z0-9_.-]{5,63}(?![A-Za-z0-9@])")
_TO_WRITE = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
_DOTTED_NUMBER = re.compile(r"\d+(?:\.\d+)+")  # an enhanced status, an address


def day_name(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def fold(text: str) -> str:
    """A term as it is stored and sought."""
    return text.strip().strip("<>").lower()


def terms(facts: Sequence[Any]) -> set[str]:
    """All that a message is found by: addresses whole and by "@domain", Message-ID, the queue IDs that next hops gave it.

    `facts` as _FACTS has them.
    """
    message_id, envid, local, domain, recipients = facts
    found = {fold(message_id), fold(envid), *_of_address(local, domain)}
    for own_local, own_domain, original, reverse_local, reverse_domain, last_text in recipients:
        found.update(_of_address(own_local, own_domain))
        found.add(fold(original))
        if reverse_domain is not None:
            found.update(_of_address(reverse_local, reverse_domain))
        found.update(peer_ids(last_text))
    found.discard("")
    return found


def peer_ids(reply: str) -> list[str]:
    """What in a reply's text may be the queue ID of the next hop, in lower case."""
    return [
        word.lower()
        for word in _PEER_ID.findall(reply)
        if any(c.isdigit() for c in word) and not _DOTTED_NUMBER.fullmatch(word)
    ][:PEER_IDS_MAX]


def _of_address(local: str, domain: str) -> list[str]:
    return [fold(str(Address(local, domain))), "@" + domain] if local or domain else []


class Finished(NamedTuple):
    """A message of the spool that has come to its end: its ID, when its last journal entry was written, what it is found by."""

    message: int
    at: float
    terms: set[str]


# Of these messages (a JSON array of IDs) those that are finished: all in one row, so in one step.
_FACTS = """
SELECT json_group_array(json_array(
    m.id,
    coalesce((SELECT at FROM spool.journal AS j WHERE j.message = m.id ORDER BY seq DESC LIMIT 1), m.received_at),
    m.message_id, m.envid, m.reverse_local, m.reverse_domain,
    json((SELECT json_group_array(json_array(
        r.local, r.domain, r.original, r.reverse_local, r.reverse_domain, r.last_text))
        FROM spool.recipient AS r WHERE r.message = m.id))))
FROM spool.message AS m WHERE m.id IN (SELECT value FROM json_each(?1))
    AND NOT EXISTS (SELECT 1 FROM spool.recipient AS r WHERE r.message = m.id AND r.state = 0)"""
_COPY = [
    f"INSERT OR REPLACE INTO main.{table} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM spool.{table} "
    f"WHERE {key} IN (SELECT value FROM json_each(?1))"
    for table, columns, key in (
        ("message", MESSAGE_COLUMNS, "id"), ("recipient", RECIPIENT_COLUMNS, "message"), ("journal", JOURNAL_COLUMNS, "message"),
    )
]  # fmt: skip
_TERMS = "INSERT OR REPLACE INTO main.term (term, message) SELECT value ->> 0, value ->> 1 FROM json_each(?1)"


def finished(connection: apsw.Connection, chosen: Sequence[int]) -> list[Finished]:
    """`connection` has the spool attached."""
    found = json.loads(connection.execute(_FACTS, (json.dumps(chosen),)).get)
    return [Finished(one[0], one[1], terms(one[2:])) for one in found]


def attach(connection: apsw.Connection, database: Path, vfs: str | None) -> None:
    """The spool's database, to be read beside its writer. Raises apsw.Error."""
    beside = f"&vfs={quote(vfs)}" if vfs else ""
    connection.execute("ATTACH ? AS spool", (f"file:{quote(str(database.absolute()))}?mode=ro{beside}",))


class Day:
    """An open day. Used by one thread."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        """Raises apsw.Error, SpoolUnusable."""
        if write:
            self.connection = apsw.Connection(str(path), flags=_TO_WRITE)
            self.connection.set_busy_timeout(BUSY_MS)
            self.connection.execute("PRAGMA journal_mode=DELETE")
            self.connection.execute("PRAGMA synchronous=FULL")
            migrate(self.connection, SCHEMA / "history")
        else:
            self.connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            self.connection.set_busy_timeout(BUSY_MS)
        # A reader may come between the making of a day's file and of its tables.
        self._is_made = bool(self.connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'term'").get)

    def copy(self, database: Path, vfs: str | None, told: Sequence[Finished]) -> None:
        """Finished messages with their recipients and journal, in one transaction, durable when it returns.

        SQLite copies them from the spool's database by itself, beside the interpreter: a step for each table.
        """
        attach(self.connection, database, vfs)
        those = (json.dumps([one.message for one in told]),)
        found = sorted([term, one.message] for one in told for term in one.terms)
        with committing(self.connection):
            for statement in _COPY:
                self.connection.execute(statement, those)
            self.connection.execute(_TERMS, (json.dumps(found),))

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
