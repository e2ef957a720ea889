"""The works of the writer thread: one class for each method of the contract that writes.

A work is prepared in the reactor thread (rows made, so that a value that can't be stored hurts only its owner), applied in a
transaction shared with others, and concluded after the commit. `apply` may run twice: when a batch failed, each of its works is
tried alone. It changes nothing but the transaction it is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mta.mail.envelope import State
from mta.spool.birth import born
from mta.spool.contract import (
    Acceptance,
    Accepted,
    Altered,
    Change,
    Claimed,
    Event,
)
from mta.spool.journal import encode_data, entry_row, folded_row
from mta.spool.queries import decode, due, rows_by_id
from mta.spool.rows import Row, recipient_row, stored_message_row
from mta.spool.transaction import Claimant, Claims, Transaction

_UNCLAIM = "UPDATE recipient SET owner = 0, lease_until = 0, token = token + 1 WHERE id = ? AND token = ? AND state = 0"
_LEASE_ENDED = "SELECT message FROM recipient WHERE id = ? AND owner <> 0 AND lease_until <= ?"
_END_LEASE = "UPDATE recipient SET owner = 0, lease_until = 0, token = token + 1 WHERE id = ?"
_IN_FLIGHT = "SELECT message, attempts FROM recipient WHERE id = ? AND state = 0 AND owner NOT IN (0, ?)"
_CLAIM = "UPDATE recipient SET owner = ?, lease_until = ?, token = token + 1 WHERE id = ?"
_RECOVER = """
UPDATE recipient SET owner = 0, lease_until = 0, token = token + 1, attempts = ?, next_attempt = ?
WHERE id = ?"""
_ALTER = {
    Change.HOLD: "UPDATE recipient SET held = 1 WHERE id = ? AND state = 0 AND held = 0",
    Change.RELEASE: "UPDATE recipient SET held = 0 WHERE id = ? AND state = 0 AND held = 1",
    Change.RETRY: "UPDATE recipient SET next_attempt = ?2 WHERE id = ?1 AND state = 0 AND owner = 0",
    Change.REMOVE: f"UPDATE recipient SET state = {State.REMOVED.value}, held = 0, owner = 0, lease_until = 0, "
    "token = token + 1 WHERE id = ? AND state = 0",
}
ALTERED = {
    Change.HOLD: Event.HELD,
    Change.RELEASE: Event.RELEASED,
    Change.RETRY: Event.RETRIED,
    Change.REMOVE: Event.REMOVED,
}
LEASE_ENDED = {"why": "the lease of its worker ended"}


class Work:
    """`urgent`: a commit doesn't wait for others to join it. `looks`: it must see what earlier works of the batch have written."""

    __slots__ = ("deferred", "failure", "result")
    urgent = True
    looks = True
    adds_mail = False  # refused when the disk is nearly full; the rest makes room, or is small

    def __init__(self) -> None:
        self.deferred: Deferred[Any] = Deferred()
        self.result: Any = None
        self.failure: Failure | None = None

    def apply(self, transaction: Transaction) -> None:
        raise NotImplementedError

    def conclude(self) -> None:
        """After the commit, in the writer thread: make the result, where that is costly."""


class Numbers(Protocol):
    """Where IDs and journal numbers come from. Both may be taken in any thread."""

    def new_id(self) -> int: ...

    def next_seq(self) -> int: ...


class Birth:
    """The rows of some acceptances, made in the reactor thread: the path of each message, so nothing is made twice."""

    __slots__ = ("accepted", "claimed", "journal", "messages", "recipients")

    def __init__(self, acceptances: Sequence[Acceptance], numbers: Numbers) -> None:
        self.accepted: list[Accepted] = []
        self.messages: list[Row] = []
        self.recipients: list[Row] = []
        self.journal: list[Row] = []
        self.claimed: dict[int, Claimant] = {}
        for acceptance in acceptances:
            message = acceptance.message
            recipients = born(acceptance, numbers.new_id)
            self.accepted.append(Accepted(message, recipients))
            self.messages.append(stored_message_row(message, acceptance.content))
            self.recipients += [recipient_row(one) for one in recipients]
            if acceptance.claim_for:
                claim = (acceptance.claim_for, acceptance.lease_until)
                self.claimed.update({one.id: claim for one in recipients if one.owner})
            self.journal.append(
                folded_row(Event.ACCEPTED, message.id, numbers.next_seq(), message.received_at, recipients)
            )
            if acceptance.journal:
                self.journal += [entry_row(entry, numbers.next_seq()) for entry in acceptance.journal]

    def insert(self, transaction: Transaction) -> None:
        transaction.messages += self.messages
        transaction.recipients += self.recipients
        transaction.journal += self.journal
        transaction.claims.update(self.claimed)
        transaction.accepted += len(self.messages)


class Accept(Work):
    __slots__ = ("_birth",)
    adds_mail = True
    looks = False

    def __init__(self, acceptances: Sequence[Acceptance], numbers: Numbers) -> None:
        super().__init__()
        self._birth = Birth(acceptances, numbers)
        self.result = self._birth.accepted

    def apply(self, transaction: Transaction) -> None:
        self._birth.insert(transaction)

    def numbers(self) -> list[int]:
        """The messages it would have stored."""
        return [each.message.id for each in self._birth.accepted]


def end_leases(transaction: Transaction, claims: Claims, now: float) -> None:
    """Give back what is over. The old token settles nothing from then on, whether or not another claims the row."""
    for recipient in claims.ended(now):
        # Asked of the table too: an earlier work of this batch may have claimed it anew.
        for (message,) in transaction.query(_LEASE_ENDED, recipient, now):
            transaction.cursor.execute(_END_LEASE, (recipient,))
            transaction.claims[recipient] = None
            row = (message, transaction.next_seq(), now, Event.CLAIMED_AGAIN, recipient, encode_data(LEASE_ENDED))
            transaction.journal.append(row)


class EndLeases(Work):
    """What a look at the due destinations needs first, when some lease is over."""

    __slots__ = ("_claims", "_now")

    def __init__(self, claims: Claims, now: float) -> None:
        super().__init__()
        self._claims, self._now = claims, now

    def apply(self, transaction: Transaction) -> None:
        end_leases(transaction, self._claims, self._now)


class Claim(Work):
    __slots__ = ("_claims", "_destination", "_found", "_lease", "_limit", "_now", "_owner")

    def __init__(
        self, claims: Claims, destination: str, limit: int, owner: int, now: float, lease_until: float
    ) -> None:
        super().__init__()
        self._claims, self._destination, self._limit = claims, destination, limit
        self._owner, self._now, self._lease = owner, now, lease_until
        self._found: tuple[list[Row], dict[int, Row]] = ([], {})

    def apply(self, transaction: Transaction) -> None:
        end_leases(transaction, self._claims, self._now)
        transaction.flush()
        chosen = due(transaction.connection, self._destination, self._limit, self._now)
        transaction.cursor.executemany(_CLAIM, [(self._owner, self._lease, recipient) for recipient in chosen])
        transaction.claims.update(dict.fromkeys(chosen, (self._owner, self._lease)))
        self._found = rows_by_id(transaction.connection, chosen)

    def conclude(self) -> None:
        self.result: list[Claimed] = decode(*self._found)


class Unclaim(Work):
    __slots__ = ("_pairs",)

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self._pairs = pairs

    def apply(self, transaction: Transaction) -> None:
        for recipient, token in self._pairs:
            transaction.cursor.execute(_UNCLAIM, (recipient, token))
            if transaction.connection.changes():
                transaction.claims[recipient] = None


class Recover(Work):
    __slots__ = ("_claims", "_jitter", "_now", "_owner")

    def __init__(self, claims: Claims, owner: int, now: float, jitter: Callable[[int], float]) -> None:
        super().__init__()
        self._claims, self._owner, self._now, self._jitter = claims, owner, now, jitter

    def apply(self, transaction: Transaction) -> None:
        self.result = 0
        for recipient, (owner, _) in self._claims.held.items():
            if owner == self._owner:
                continue
            for message, tries in transaction.query(_IN_FLIGHT, recipient, self._owner):
                transaction.claims[recipient] = None
                at = self._now + self._jitter(tries + 1)
                transaction.cursor.execute(_RECOVER, (tries + 1, at, recipient))
                data = encode_data({"attempts": tries + 1, "next_attempt": at})
                row = (message, transaction.next_seq(), self._now, Event.CLAIMED_AGAIN, recipient, data)
                transaction.journal.append(row)
                self.result += 1


class Alter(Work):
    """Rows that a reader found; each is changed only if it still is as it must be."""

    __slots__ = ("_by", "_change", "_cursor", "_now", "_rows")

    def __init__(self, rows: Sequence[tuple[int, int, str]], change: Change, now: float, by: str, cursor: int) -> None:
        """`rows`: (message, recipient, destination)."""
        super().__init__()
        self._rows, self._change, self._now, self._by, self._cursor = rows, change, now, by, cursor

    def apply(self, transaction: Transaction) -> None:
        text, data = _ALTER[self._change], encode_data({"by": self._by})
        changed: list[int] = []
        destinations: dict[str, None] = {}
        for message, recipient, destination in self._rows:
            values = (recipient, self._now) if self._change is Change.RETRY else (recipient,)
            transaction.cursor.execute(text, values)
            if not transaction.connection.changes():
                continue
            changed.append(recipient)
            destinations[destination] = None
            row = (message, transaction.next_seq(), self._now, ALTERED[self._change], recipient, data)
            transaction.journal.append(row)
            if self._change is Change.REMOVE:
                transaction.claims[recipient] = None
                transaction.finished.append(message)
        self.result = Altered(len(changed), self._cursor, tuple(changed), tuple(destinations))


class Quarantine(Work):
    """Hold what is left of a message whose content is not what was accepted."""

    __slots__ = ("_message", "_now", "_why")

    def __init__(self, message: int, now: float, why: str) -> None:
        super().__init__()
        self._message, self._now, self._why = message, now, why

    def apply(self, transaction: Transaction) -> None:
        transaction.cursor.execute(
            "UPDATE recipient SET held = 1 WHERE message = ? AND state = 0 AND held = 0", (self._message,)
        )
        if transaction.connection.changes():
            data = encode_data({"why": self._why})
            row = (self._message, transaction.next_seq(), self._now, Event.QUARANTINED, 0, data)
            transaction.journal.append(row)


# Each takes a JSON array of message IDs: a step each, however many they are.
_THOSE = "(SELECT value FROM json_each(?1))"
_FINISHED = f"""
SELECT json_group_array(json_array(id, body_file)) FROM message
WHERE id IN {_THOSE} AND NOT EXISTS (SELECT 1 FROM recipient AS r WHERE r.message = message.id AND r.state = 0)"""
_DROP = [
    f"DELETE FROM {table} WHERE {column} IN {_THOSE}"
    for table, column in (("journal", "message"), ("recipient", "message"), ("message", "id"))
]


class Drop(Work):
    """Delete messages that are durable in the history. Gives the files of their large bodies, to be unlinked then."""

    __slots__ = ("_messages",)
    urgent = False

    def __init__(self, messages: Sequence[int]) -> None:
        super().__init__()
        self._messages = messages

    def apply(self, transaction: Transaction) -> None:
        cursor = transaction.cursor
        found = json.loads(cursor.execute(_FINISHED, (json.dumps(self._messages),)).get)
        dropped = [message for message, _ in found]
        if dropped:
            those = (json.dumps(dropped),)
            for statement in _DROP:
                cursor.execute(statement, those)
        transaction.dropped += len(dropped)
        self.result = (dropped, [file for _, file in found if file is not None])
