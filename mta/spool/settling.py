"""Settlements in the writer: many of them updated by one statement, and each all or nothing.

A settlement of one recipient is the path of each message that is delivered. Those of a batch are compared with their rows in one
step and updated in another: beside a busy reactor each step that is saved is a wait for the interpreter that is saved. As soon as
one of them is stale (an operator changed its row meanwhile) they are taken one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from mta.mail.envelope import NewRecipient, Recipient, State
from mta.mail.identifiers import made_at
from mta.spool.birth import born_child
from mta.spool.contract import Event, Settled, Settlement, SpoolUnfit
from mta.spool.journal import entry_row, folded_row
from mta.spool.rows import Row, recipient_row
from mta.spool.transaction import ROWS_IN_STATEMENT, Transaction
from mta.spool.works import Birth, Numbers, Work

_SETTLE = """
UPDATE recipient SET state = ?1, held = held AND ?1 = 0, last_code = ?2, last_status = ?3, last_text = ?4,
    next_attempt = ?5, attempts = ?6, uncertain = ?7, delay_reported_at = max(delay_reported_at, ?8),
    owner = 0, lease_until = 0, token = token + 1
WHERE id = ?9 AND token = ?10 AND state = 0"""
_VALID = "SELECT count(*) FROM recipient WHERE id = ? AND token = ? AND state = 0"
_WIDTH = 10  # values of an update, as _SETTLE numbers them
_ID, _TOKEN = 8, 9


@lru_cache(maxsize=ROWS_IN_STATEMENT)
def _settle_many(rows: int) -> str:
    places = ",".join(["(" + ",".join("?" * _WIDTH) + ")"] * rows)
    return f"""
UPDATE recipient SET state = new.column1, held = held AND new.column1 = 0, last_code = new.column2, last_status = new.column3,
    last_text = new.column4, next_attempt = new.column5, attempts = new.column6, uncertain = new.column7,
    delay_reported_at = max(delay_reported_at, new.column8), owner = 0, lease_until = 0, token = token + 1
FROM (VALUES {places}) AS new
WHERE recipient.id = new.column9 AND recipient.token = new.column10 AND recipient.state = 0"""


@lru_cache(maxsize=ROWS_IN_STATEMENT)
def _valid_many(rows: int) -> str:
    places = ",".join(["(?,?)"] * rows)
    return f"""
SELECT count(*) FROM (VALUES {places}) AS old CROSS JOIN recipient
ON recipient.id = old.column1 AND recipient.token = old.column2 AND recipient.state = 0"""


class Settling:
    """One settlement, with its rows ready."""

    __slots__ = ("birth", "children", "journal", "message", "result", "settled", "terminal", "updates")

    def __init__(self, settlement: Settlement, numbers: Numbers) -> None:
        self.message = settlement.message
        self.updates: list[Row] = [
            (
                one.state, one.code, one.status, one.text, one.next_attempt, one.attempts, one.uncertain,
                one.delay_reported_at, one.recipient, one.token,
            )
            for one in settlement.changes
        ]  # fmt: skip
        self.terminal = any(one.state is not State.QUEUED for one in settlement.changes)
        self.birth = Birth(settlement.reports, numbers) if settlement.reports else None
        self.journal = [entry_row(entry, numbers.next_seq()) for entry in settlement.journal]
        children = born_children(settlement, numbers.new_id) if settlement.children else ()
        self.children = [recipient_row(child) for child in children]
        if children:
            at = settlement.journal[0].at if settlement.journal else children[0].next_attempt
            self.journal.append(folded_row(Event.QUEUED, self.message, numbers.next_seq(), at, children))
        self.settled = Settled((), children, tuple(self.birth.accepted) if self.birth is not None else ())
        self.result = self.settled

    def apply(self, transaction: Transaction) -> None:
        """By itself."""
        stale = self._update(transaction)
        if stale:
            self.result = Settled(stale=stale)
        else:
            self.applied(transaction)

    def applied(self, transaction: Transaction) -> None:
        """Its rows are updated: the rest of what it means."""
        self.result = self.settled
        transaction.journal += self.journal
        transaction.recipients += self.children
        if self.birth is not None:
            self.birth.insert(transaction)
        for update in self.updates:
            transaction.claims[update[_ID]] = None
        if self.terminal:
            transaction.finished.append(self.message)

    def _update(self, transaction: Transaction) -> tuple[int, ...]:
        """All or nothing: the recipients whose tokens were old, and then nothing was changed."""
        cursor = transaction.cursor
        if len(self.updates) > 1:
            stale = [u[_ID] for u in self.updates if not cursor.execute(_VALID, u[_ID:]).get]
            if stale:
                return tuple(stale)
        for update in self.updates:
            cursor.execute(_SETTLE, update)
            if not transaction.connection.changes():
                if len(self.updates) > 1:  # checked above: so one settlement names a recipient twice
                    raise SpoolUnfit(f"recipient {update[_ID]} stands twice in a settlement")
                return (update[_ID],)
        return ()


def settle_all(transaction: Transaction, settlings: Sequence[Settling]) -> None:
    """Apply settlements in their order; each finds its result in itself."""
    done = 0
    while done < len(settlings):
        together = _alike(settlings[done : done + ROWS_IN_STATEMENT])
        if together > 1 and _settle_together(transaction, settlings[done : done + together]):
            done += together
            continue
        for one in settlings[done : done + together]:
            one.apply(transaction)
        done += together


def _alike(settlings: Sequence[Settling]) -> int:
    """How many from the first on can go in one statement: of one recipient each, none twice. At least 1."""
    seen: set[Any] = set()
    for number, one in enumerate(settlings):
        if len(one.updates) != 1 or one.updates[0][_ID] in seen:
            return max(number, 1)
        seen.add(one.updates[0][_ID])
    return len(settlings)


def _settle_together(transaction: Transaction, settlings: Sequence[Settling]) -> bool:
    """False: one of them is stale, and nothing was changed."""
    updates: list[Row] = [one.updates[0] for one in settlings]
    keys = list(chain.from_iterable([update[_ID:] for update in updates]))
    cursor, number = transaction.cursor, len(settlings)
    if cursor.execute(_valid_many(number), keys).get != number:
        return False
    cursor.execute(_settle_many(number), list(chain.from_iterable(updates)))
    for one in settlings:
        one.applied(transaction)
    return True


def born_children(settlement: Settlement, new_id: Callable[[], int]) -> tuple[Recipient, ...]:
    """The children of an expansion; due when it happened, as the journal tells."""

    def child(new: NewRecipient) -> Recipient:
        identifier = new_id()
        at = settlement.journal[0].at if settlement.journal else made_at(identifier)
        return born_child(settlement.message, new, identifier, at)

    return tuple([child(new) for new in settlement.children])


class Settle(Work):
    __slots__ = ("_settlings",)
    urgent = False
    looks = False

    def __init__(self, settlements: Sequence[Settlement], numbers: Numbers) -> None:
        super().__init__()
        self._settlings = [Settling(one, numbers) for one in settlements]

    def apply(self, transaction: Transaction) -> None:
        transaction.settlings += self._settlings

    def conclude(self) -> None:
        self.result = [one.result for one in self._settlings]
