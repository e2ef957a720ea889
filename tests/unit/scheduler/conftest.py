"""Furniture of the scheduler's tests: a configuration, messages, rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mta.config.model import Configuration
from mta.mail.address import Address, parse_address
from mta.mail.envelope import Content, Kind, Message, NewRecipient, Notify, Recipient, State
from mta.mail.identifiers import IdentifierSource
from mta.routing.router import Router, build_router
from mta.scheduler.settlement import SettlementPolicy
from mta.spool.contract import (
    Acceptance,
    Accepted,
    Change,
    Claimed,
    DestinationDue,
    Event,
    JournalEntry,
    Selection,
    Settled,
    Settlement,
)

NOW = 1_767_225_600.0
CONTENT = Content(b"From: sender@example.org\r\nSubject: hello\r\n", b"Hi\r\n")


def make_configuration(**queue: Any) -> Configuration:
    return Configuration.model_validate(
        {
            "hostname": "mail.example.org",
            "postmaster": "admin@example.org",
            "listener": [{"name": "mx", "endpoints": ["tcp:25"], "kind": "mx"}],
            "route": [
                {"domains": ["example.org"], "recipients": "users", "via": "maildir:/var/mail/{local}"},
                {"domains": ["gone.example"], "via": "error:5.1.6 moved"},
                {"domains": ["*"], "via": "mx"},
            ],
            "queue": queue,
        }
    )


def make_router(users: Callable[[Address], bool] | None = None) -> Router:
    known = users or (lambda address: address.local in {"sender", "admin", "demo"})
    return build_router(make_configuration(), generation=3, users=known)


def make_policy(**changes: Any) -> SettlementPolicy:
    identifiers = iter(range(900, 10_000))
    values: dict[str, Any] = {
        "retry_min": 300.0,
        "retry_max": 4000.0,
        "report_lifetime": 172800.0,
        "hold_reports": False,
        "concurrency": 20,
        "hostname": "mail.example.org",
        "postmaster": parse_address("admin@example.org"),
        "generation": 5,
        "router": make_router(),
        "new_id": lambda: next(identifiers),
        "random": lambda: 0.5,
        "owner": 77,
        "lease_seconds": 1000.0,
    }
    return SettlementPolicy(**(values | changes))


def make_message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": 100,
        "kind": Kind.SUBMISSION,
        "reverse_path": parse_address("sender@example.org"),
        "received_at": NOW - 60,
        "expires_at": NOW + 5 * 86400,
        "size": CONTENT.size,
    }
    return Message(**(values | changes))


def make_recipient(identifier: int = 1, **changes: Any) -> Recipient:
    values: dict[str, Any] = {
        "id": identifier,
        "message": 100,
        "parent": 0,
        "address": parse_address(f"r{identifier}@example.net"),
        "original": f"r{identifier}@example.net",
        "orcpt": "",
        "notify": Notify.UNSET,
        "reverse_path": None,
        "state": State.QUEUED,
        "held": False,
        "uncertain": False,
        "priority": 0,
        "destination": "mx:example.net",
        "route_generation": 1,
        "next_attempt": 0.0,
        "attempts": 0,
        "delay_reported_at": 0.0,
        "last_code": 0,
        "last_status": "",
        "last_text": "",
        "owner": 77,
        "lease_until": NOW + 1e9,
        "token": 10 + identifier,
    }
    return Recipient(**(values | changes))


class TinySpool:
    """As much of the contract as the scheduler uses, in dictionaries; it answers 2 ms later, as group commits do."""

    def __init__(self, shard: int, clock: Clock) -> None:
        self.shard = shard
        self._clock = clock
        self._identifiers = IdentifierSource(shard, lambda: NOW + clock.seconds())
        self._messages: dict[int, Message] = {}
        self._rows: dict[int, Recipient] = {}
        self._rows_of: dict[int, list[int]] = {}
        self._contents: dict[int, Content] = {}
        self._journal: dict[int, list[JournalEntry]] = {}

    def new_id(self) -> int:
        return self._identifiers.next()

    def crash(self) -> None:
        """All that was given is durable here."""

    def _later(self, result: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self._clock.callLater(0.002, answer.callback, result)
        return answer

    def _insert(self, acceptance: Acceptance) -> Accepted:
        message = acceptance.message
        self._messages[message.id], self._contents[message.id] = message, acceptance.content
        self._journal[message.id] = [JournalEntry(message.id, message.received_at, Event.ACCEPTED)]
        self._rows_of[message.id] = []
        rows = []
        for new in acceptance.recipients:
            owner = acceptance.claim_for if not new.held and new.next_attempt <= message.received_at else 0
            rows.append(self._row(message.id, new, owner))
        return Accepted(message, tuple(rows))

    def _row(self, message: int, new: NewRecipient, owner: int = 0) -> Recipient:
        row = make_recipient(
            len(self._rows) + 1,
            message=message,
            parent=new.parent,
            address=new.address,
            original=new.original,
            notify=new.notify,
            held=new.held,
            destination=new.destination,
            next_attempt=new.next_attempt,
            owner=owner,
            token=1,
        )
        self._rows[row.id] = row
        self._rows_of[message].append(row.id)
        at = self._messages[message].received_at
        self._journal[message].append(JournalEntry(message, at, Event.QUEUED, row.id))
        return row

    def accept(self, acceptances: Sequence[Acceptance]) -> Deferred[Any]:
        return self._later([self._insert(each) for each in acceptances])

    def _free(self) -> list[Recipient]:
        return [row for row in self._rows.values() if row.state is State.QUEUED and not row.held and not row.owner]

    def destinations_due(self, now: float, limit: int) -> Deferred[Any]:
        first: dict[str, float] = {}
        for row in self._free():
            first[row.destination] = min(first.get(row.destination, row.next_attempt), row.next_attempt)
        rows = sorted(first.items(), key=lambda each: each[1])
        return self._later([DestinationDue(*each) for each in rows[:limit]])

    def claim(self, destination: str, limit: int, owner: int, now: float, lease_until: float) -> Deferred[Any]:
        due = [row for row in self._free() if row.destination == destination and row.next_attempt <= now]
        claimed = []
        for row in sorted(due, key=lambda each: each.id)[:limit]:
            self._rows[row.id] = replace(row, owner=owner, lease_until=lease_until, token=row.token + 1)
            claimed.append(Claimed(self._messages[row.message], self._rows[row.id]))
        return self._later(claimed)

    def settle(self, settlements: Sequence[Settlement]) -> Deferred[Any]:
        return self._later([self._settle(each) for each in settlements])

    def _settle(self, settlement: Settlement) -> Settled:
        stale = tuple(each.recipient for each in settlement.changes if self._rows[each.recipient].token != each.token)
        if stale:
            return Settled(stale)
        for each in settlement.changes:
            row = self._rows[each.recipient]
            self._rows[row.id] = replace(
                row,
                state=each.state,
                next_attempt=each.next_attempt,
                attempts=each.attempts,
                uncertain=each.uncertain,
                delay_reported_at=max(row.delay_reported_at, each.delay_reported_at),
                owner=0,
                token=row.token + 1,
            )
        for entry in settlement.journal:
            self._journal[entry.message].append(entry)
        children = tuple(self._row(settlement.message, each) for each in settlement.children)
        return Settled((), children, tuple(self._insert(each) for each in settlement.reports))

    def unclaim(self, recipients: Sequence[tuple[int, int]]) -> Deferred[Any]:
        for identifier, token in recipients:
            row = self._rows[identifier]
            if row.token == token:
                self._rows[identifier] = replace(row, owner=0, token=token + 1)
        return self._later(None)

    def recover(self, owner: int, now: float, jitter: Callable[[int], float]) -> Deferred[Any]:
        lost = [row for row in self._rows.values() if row.state is State.QUEUED and row.owner not in {0, owner}]
        for row in lost:
            attempts = row.attempts + 1
            later = now + jitter(attempts)
            self._rows[row.id] = replace(row, owner=0, token=row.token + 1, attempts=attempts, next_attempt=later)
            self._journal[row.message].append(JournalEntry(row.message, now, Event.CLAIMED_AGAIN, row.id))
        return self._later(len(lost))

    def content(self, message: int) -> Deferred[Any]:
        return self._later(self._contents[message])

    def message(self, message: int) -> Deferred[Any]:
        return self._later((self._messages[message], tuple(self._rows[each] for each in self._rows_of[message])))

    def events(self, message: int) -> Deferred[Any]:
        return self._later(list(self._journal[message]))

    def alter(self, selection: Selection, change: Change, now: float, by: str) -> Deferred[Any]:
        """An operator's change ends the claim."""
        for row in list(self._rows.values()):
            fits = row.message in selection.messages or str(row.address) == selection.recipient
            if fits and row.state is State.QUEUED:
                held = change is Change.HOLD or (row.held and change is not Change.RELEASE)
                state = State.REMOVED if change is Change.REMOVE else row.state
                due = now if change in {Change.RETRY, Change.RELEASE} else row.next_attempt
                self._rows[row.id] = replace(
                    row, held=held, state=state, next_attempt=due, owner=0, token=row.token + 1
                )
        return self._later(None)

    def status(self) -> Deferred[Any]:
        queued = [row for row in self._rows.values() if row.state is State.QUEUED]
        return self._later(SimpleNamespace(queued=len(queued)))


class Make:
    """The makers, for tests (conftest can't be imported by name)."""

    now = NOW
    content = CONTENT
    configuration = staticmethod(make_configuration)
    router = staticmethod(make_router)
    policy = staticmethod(make_policy)
    message = staticmethod(make_message)
    recipient = staticmethod(make_recipient)
    spool = TinySpool


@pytest.fixture
def make() -> type[Make]:
    return Make
