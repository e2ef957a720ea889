"""What a spool in memory holds, and how it is looked at and changed: the tables of MemorySpool, without its commits.

`fits` and `is_delayed` say in Python what the SQL of the other backend says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from mta.mail.address import Address
from mta.mail.envelope import BodyFile, Content, Kind, Message, Notify, Recipient, State
from mta.spool.contract import (
    Claimed,
    DestinationDue,
    DestinationRecord,
    Event,
    JournalEntry,
    Page,
    RecipientChange,
    Selection,
    SpoolError,
)
from mta.spool.day import Told
from mta.spool.journal import queued_entry
from mta.spool.queries import lower_ascii, split_address
from mta.spool.works import LEASE_ENDED


@dataclass
class Stored:
    """All that is committed."""

    messages: dict[int, tuple[Message, Content]] = field(default_factory=dict)
    recipients: dict[int, Recipient] = field(default_factory=dict)
    of_message: dict[int, list[int]] = field(default_factory=dict)
    journal: dict[int, list[JournalEntry]] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    history: dict[int, Told] = field(default_factory=dict)
    destinations: dict[str, DestinationRecord] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    high_water: int = 0
    accepted: int = 0
    commits: int = 0

    def note(self, entry: JournalEntry) -> None:
        self.journal.setdefault(entry.message, []).append(entry)

    def insert(self, recipient: Recipient, at: float) -> None:
        self.recipients[recipient.id] = recipient
        self.of_message[recipient.message].append(recipient.id)
        self.note(queued_entry(recipient, at))

    def waiting(self) -> Iterable[Recipient]:
        return (one for one in self.recipients.values() if one.state is State.QUEUED and not one.held and not one.owner)

    def end_leases(self, now: float) -> None:
        for one in list(self.recipients.values()):
            if one.owner and one.lease_until <= now:
                self.put(one, owner=0, lease_until=0.0, token=one.token + 1)
                self.note(JournalEntry(one.message, now, Event.CLAIMED_AGAIN, one.id, LEASE_ENDED))

    def put(self, recipient: Recipient, **changes: Any) -> Recipient:
        changed = self.recipients[recipient.id] = replace(recipient, **changes)
        if changed.state is not State.QUEUED:
            self.finished.add(changed.message)
        return changed

    def first_times(self) -> list[DestinationDue]:
        first: dict[str, float] = {}
        for one in self.waiting():
            first[one.destination] = min(one.next_attempt, first.get(one.destination, one.next_attempt))
        return [DestinationDue(name, at) for at, name in sorted((at, name) for name, at in first.items())]

    def of(self, message: int) -> tuple[Recipient, ...]:
        return tuple([self.recipients[one] for one in self.of_message.get(message, ())])

    def select(self, selection: Selection, limit: int, cursor: int) -> Page:
        rows: list[Claimed] = []
        for number in sorted(self.messages):
            if number < cursor:
                continue
            message = self.messages[number][0]
            fitting = [Claimed(message, one) for one in self.of(number) if fits(selection, message, one)]
            if fitting and len(rows) >= limit:
                return Page(tuple(rows), number)
            rows += fitting
        return Page(tuple(rows), 0)

    def current(self, change: RecipientChange) -> bool:
        one = self.recipients.get(change.recipient)
        return one is not None and one.token == change.token and one.state is State.QUEUED


class MemoryBody:
    """A BodyWriter."""

    def __init__(self, name: str, bodies: dict[str, bytes], taken: set[str]) -> None:
        self._name, self._bodies, self._taken = name, bodies, taken
        self._blocks: list[bytes] = []
        self._ended = False

    def write(self, block: bytes) -> bool:
        self._blocks.append(block)
        return True

    def finish(self) -> Deferred[BodyFile]:
        if self._ended:
            return fail(SpoolError("the body was ended before"))
        self._ended = True
        body = self._bodies[self._name] = b"".join(self._blocks)
        return succeed(BodyFile(self._name, len(body)))

    def abort(self) -> None:
        self._ended = True
        self._blocks.clear()
        if self._name not in self._taken:
            self._bodies.pop(self._name, None)


def is_delayed(message: Message, one: Recipient, since: float) -> bool:
    """What `hops.overdue` says in SQL."""
    return (
        not one.delay_reported_at
        and max(message.received_at, message.not_before) <= since
        and message.kind in {Kind.SUBMISSION, Kind.LOCAL}
        and (not one.notify or bool(one.notify & Notify.DELAY and not one.notify & Notify.NEVER))
        and bool(message.reverse_path if one.reverse_path is None else one.reverse_path)
    )


def fits(selection: Selection, message: Message, one: Recipient) -> bool:
    """What `queries.where` says in SQL."""
    sender = message.reverse_path if one.reverse_path is None else one.reverse_path
    return (
        (not selection.messages or message.id in selection.messages)
        and (not selection.recipients or one.id in selection.recipients)
        and (not selection.states or one.state in selection.states)
        and (selection.held is None or one.held is selection.held)
        and (not selection.sender or _is(sender, selection.sender))
        and (not selection.recipient or _is(one.address, selection.recipient))
        and (not selection.destination or one.destination == selection.destination)
        and (not selection.older_than or message.received_at < selection.older_than)
        and (not selection.younger_than or message.received_at > selection.younger_than)
        and (not selection.due_after or message.not_before <= selection.due_after < one.next_attempt)
    )


def _is(address: Address, text: str) -> bool:
    local, domain = split_address(text)
    return address.domain == domain and (local is None or lower_ascii(address.local) == local)
