"""Next hops in a spool database: the table `destination`, and the rows that wait behind a suspended one.

Queries are functions of a connection and write nothing; works are applied by the writer thread (mta/spool/works.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from mta.spool.contract import Claimed, DestinationDue, DestinationRecord, DestinationWaiting, Patience
from mta.spool.queries import decode, rows_by_id
from mta.spool.rows import Row
from mta.spool.transaction import Transaction
from mta.spool.works import Work

SLICE_ROWS = 250  # looked at in one step, and at most claimed by one commit: 250 claims cost the writer 3 ms
EXAMINED_MAX_ROWS = 10_000  # of one call: some 15 ms of the reader's thread

_COLUMNS = "key, suspended_until, suspensions, learned_limit, code, status, reason"
_RECORDS = f"SELECT {_COLUMNS} FROM destination ORDER BY key"
_REMEMBER = f"INSERT OR REPLACE INTO destination ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_FORGET = "DELETE FROM destination WHERE key = ?"
_WAITING = """
SELECT destination, count(*), min(next_attempt) FROM recipient INDEXED BY recipient_waiting
WHERE state = 0 AND held = 0 AND owner = 0 GROUP BY destination"""
# (destination, priority) pairs by seeks, as in queries.py; of each the first time.
_PRIORITY = """
SELECT priority, next_attempt FROM recipient INDEXED BY recipient_waiting
WHERE state = 0 AND held = 0 AND owner = 0 AND destination = ? AND priority > ? ORDER BY priority, next_attempt LIMIT 1"""
_ANY_SUSPENDED = "SELECT EXISTS (SELECT 1 FROM destination WHERE suspended_until > ?)"
_SLICE_END = """
SELECT message FROM recipient INDEXED BY recipient_message WHERE message >= ? ORDER BY message LIMIT 1 OFFSET ?"""
# Whose delay is told: see mta/scheduler/reports.py, which decides; here those of whom it would say no are left where they are.
_OVERDUE = """
SELECT r.id FROM recipient AS r INDEXED BY recipient_message
    CROSS JOIN destination AS d ON d.key = r.destination AND d.suspended_until > ?1
    CROSS JOIN message AS m ON m.id = r.message
WHERE r.message >= ?2 AND r.message < ?3 AND r.state = 0 AND r.held = 0 AND r.owner = 0
    AND (m.expires_at <= ?1 OR (r.delay_reported_at = 0 AND max(m.received_at, m.not_before) <= ?4
        AND m.kind IN ('submission', 'local') AND (r.notify = 0 OR r.notify & 9 = 8)
        AND coalesce(r.reverse_domain || r.reverse_local, m.reverse_domain || m.reverse_local) <> ''))
ORDER BY r.message, r.id"""
_CLAIM = """
UPDATE recipient SET owner = ?, lease_until = ?, token = token + 1 WHERE id = ? AND state = 0 AND held = 0 AND owner = 0"""
_BELOW_ALL_PRIORITIES = -(1 << 30)
_ABOVE_ALL_MESSAGES = (1 << 63) - 1


def records(connection: apsw.Connection) -> list[DestinationRecord]:
    return [DestinationRecord(*row) for row in connection.execute(_RECORDS)]


def waiting(connection: apsw.Connection) -> list[DestinationWaiting]:
    return [DestinationWaiting(*row) for row in connection.execute(_WAITING)]


def due_of(connection: apsw.Connection, keys: Sequence[str]) -> list[DestinationDue]:
    """The first time of each of these destinations that has something waiting."""
    found: list[DestinationDue] = []
    for key in keys:
        first, priority = float("inf"), _BELOW_ALL_PRIORITIES
        while (row := connection.execute(_PRIORITY, (key, priority)).fetchone()) is not None:
            priority, at = row
            first = min(first, at)
        if first != float("inf"):
            found.append(DestinationDue(key, first))
    return sorted(found, key=lambda each: (each.next_attempt, each.destination))


def overdue(connection: apsw.Connection, patience: Patience, cursor: int) -> tuple[list[int], int]:
    """Recipients behind suspended destinations that are to be settled, and where to go on (0: at the end)."""
    if not connection.execute(_ANY_SUSPENDED, (patience.now,)).get:
        return [], 0
    for _ in range(0, EXAMINED_MAX_ROWS, SLICE_ROWS):
        end = connection.execute(_SLICE_END, (cursor, SLICE_ROWS)).get
        end = _ABOVE_ALL_MESSAGES if end is None else max(end, cursor + 1)
        found: list[Row] = connection.execute(_OVERDUE, (patience.now, cursor, end, patience.delayed_since)).fetchall()
        cursor = 0 if end == _ABOVE_ALL_MESSAGES else end
        if found or not cursor:
            return [recipient for (recipient,) in found], cursor
    return [], cursor


class Remember(Work):
    """Write or forget what is known of destinations."""

    __slots__ = ("_records",)
    urgent = False

    def __init__(self, records: Sequence[DestinationRecord]) -> None:
        super().__init__()
        self._records = records

    def apply(self, transaction: Transaction) -> None:
        for one in self._records:
            if one.worth_keeping:
                row = (
                    one.key, one.suspended_until, one.suspensions, one.learned_limit, one.code, one.status, one.reason,
                )  # fmt: skip
                transaction.cursor.execute(_REMEMBER, row)
            else:
                transaction.cursor.execute(_FORGET, (one.key,))


class ClaimRows(Work):
    """Claim recipients that a reader found, those that still wait."""

    __slots__ = ("_found", "_lease", "_owner", "_recipients")

    def __init__(self, recipients: Sequence[int], owner: int, lease_until: float) -> None:
        super().__init__()
        self._recipients, self._owner, self._lease = recipients, owner, lease_until
        self._found: tuple[list[Row], dict[int, Row]] = ([], {})

    def apply(self, transaction: Transaction) -> None:
        chosen: list[int] = []
        for recipient in self._recipients:
            transaction.cursor.execute(_CLAIM, (self._owner, self._lease, recipient))
            if transaction.connection.changes():
                chosen.append(recipient)
        transaction.claims.update(dict.fromkeys(chosen, (self._owner, self._lease)))
        self._found = rows_by_id(transaction.connection, chosen)

    def conclude(self) -> None:
        self.result: list[Claimed] = decode(*self._found)
