"""A house whose queue lies in memory, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from mta.admin.errors import VerbError
from mta.admin.house import Caller, House, Sought, Story
from mta.admin.operations import VERBS
from mta.config.model import Configuration
from mta.config.settings import Settings
from mta.mail.address import NULL_PATH, parse_address
from mta.mail.envelope import Content, Kind, Message, NewRecipient, Recipient, State
from mta.mail.identifiers import format_id
from mta.spool.contract import (
    Acceptance,
    Altered,
    Change,
    Claimed,
    DestinationRecord,
    DestinationWaiting,
    Event,
    JournalEntry,
    Page,
    Selection,
    SpoolStatus,
)
from mta.telemetry.eventlog import NullLog
from mta.testing.house import house_configuration
from mta.testing.steered_spool import SteeredSpool

NOW = 1_767_225_600.0


class QueueSpool(SteeredSpool):
    """What the queue's verbs ask of a shard; mail is put in by `put`."""

    def __init__(self, shard: int = 0) -> None:
        super().__init__(lambda: NOW)
        self.shard = shard
        self.rows: list[Claimed] = []
        self.journal: list[JournalEntry] = []
        self.altered: list[tuple[Change, int]] = []
        self.records: list[DestinationRecord] = []
        self.numbers: list[DestinationWaiting] = []

    def destinations(self) -> Deferred[list[DestinationRecord]]:
        return succeed(self.records)

    def waiting(self) -> Deferred[list[DestinationWaiting]]:
        return succeed(self.numbers)

    def put(self, sender: str, *recipients: str, age: float = 0.0, message_id: str = "", held: bool = False) -> str:
        """A queued message; its ID."""
        identifier = self.new_id() | self.shard << 14
        reverse_path = parse_address(sender) if sender else NULL_PATH
        message = Message(identifier, Kind.RELAY, reverse_path, NOW - age, NOW + 5e5, 1000, message_id=message_id)
        new = tuple(
            NewRecipient(parse_address(each), each, "mx:" + each.rpartition("@")[2], held=held) for each in recipients
        )
        accepted = self._insert(Acceptance(message, new, Content(b"", b"")))
        for number, row in enumerate(accepted.recipients):
            row = replace(row, id=identifier + number + 1, next_attempt=NOW - age)  # noqa: PLW2901
            self.rows.append(Claimed(message, row))
        self.journal.append(JournalEntry(identifier, NOW - age, Event.ACCEPTED, 0, {"kind": "relay"}))
        return format_id(identifier)

    def _fits(self, row: Claimed, s: Selection) -> bool:
        message, recipient = row.message, row.recipient
        return (
            recipient.state in s.states
            and (not s.messages or message.id in s.messages)
            and (s.held is None or recipient.held is s.held)
            and (not s.sender or _address_fits(str(message.reverse_path), s.sender))
            and (not s.recipient or _address_fits(str(recipient.address), s.recipient))
            and (not s.destination or recipient.destination == s.destination)
            and (not s.older_than or message.received_at < s.older_than)
            and (not s.due_after or recipient.next_attempt > s.due_after)
        )

    def select(self, selection: Selection, limit: int, cursor: int = 0) -> Deferred[Page]:
        rows = [row for row in self.rows if row.recipient.id > cursor and self._fits(row, selection)]
        page = rows[:limit]
        return succeed(Page(tuple(page), page[-1].recipient.id if len(rows) > limit else 0))

    def alter(
        self, selection: Selection, change: Change, now: float, by: str, limit: int = 500, cursor: int = 0
    ) -> Deferred[Altered]:
        hits = [row for row in self.rows if row.recipient.id > cursor and self._fits(row, selection)]
        for row in hits[:limit]:
            new = {
                Change.HOLD: {"held": True},
                Change.RELEASE: {"held": False},
                Change.RETRY: {"next_attempt": now},
                Change.REMOVE: {"state": State.REMOVED},
            }[change]
            self.rows[self.rows.index(row)] = Claimed(row.message, replace(row.recipient, **new))  # type: ignore[arg-type]
            self.journal.append(JournalEntry(row.message.id, now, Event.HELD, row.recipient.id, {"by": by}))
        self.altered.append((change, len(hits[:limit])))
        ids = tuple(row.recipient.id for row in hits[:limit])
        return succeed(Altered(len(ids), hits[limit - 1].recipient.id if len(hits) > limit else 0, ids))

    def message(self, message: int) -> Deferred[tuple[Message, tuple[Recipient, ...]] | None]:
        rows = [row for row in self.rows if row.message.id == message]
        return succeed((rows[0].message, tuple(row.recipient for row in rows)) if rows else None)

    def content(self, message: int) -> Deferred[Content]:
        return succeed(Content(b"Subject: x\r\nX-Odd: \x1b\xff\r\n", b""))

    def events(self, message: int) -> Deferred[list[JournalEntry]]:
        return succeed([entry for entry in self.journal if entry.message == message])

    def status(self) -> Deferred[SpoolStatus]:
        return succeed(SpoolStatus(self.shard, 1, len(self.rows), 0, 0, 0.0, 4096, 0, 1 << 30, 0.5, 1, 1))


def _address_fits(address: str, pattern: str) -> bool:
    if pattern == "<>":
        return not address
    return address.endswith(pattern) if pattern.startswith("@") else address == pattern


class MemoryArchive:
    """Finished mail and refusals."""

    def __init__(self) -> None:
        self.kept: list[Story] = []
        self.notes: list[dict[str, object]] = []

    def stories(self, sought: Sought) -> Deferred[list[Story]]:
        return succeed([story for story in self.kept if self._fits(story, sought)][-sought.limit :])

    def _fits(self, story: Story, sought: Sought) -> bool:
        addresses = [str(story.message.reverse_path), *(str(each.address) for each in story.recipients)]
        return (
            story.message.id == sought.message
            or bool(sought.message_id and story.message.message_id == sought.message_id)
            or bool(sought.address and any(_address_fits(each, sought.address) for each in addresses))
        )

    def refusals(self, sought: Sought) -> Deferred[list[Mapping[str, object]]]:
        return succeed([note for note in self.notes if sought.address in {note["sender"], note["recipient"]}])


class SchedulerDouble:
    """A scheduler that remembers what it was told."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.heard: list[tuple[Change, Altered]] = []
        self.flushed: list[tuple[str, ...] | None] = []
        self.live: list[dict[str, Any]] = []

    def altered(self, change: Change, altered: Altered) -> None:
        self.heard.append((change, altered))

    def flush(self, destinations: tuple[str, ...] | None = None) -> int:
        self.flushed.append(destinations)
        return 2

    def known(self) -> list[str]:
        return [each["destination"] for each in self.live]

    def destinations(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        live = {each["destination"]: each for each in self.live}
        return [live[key] for key in keys if key in live]

    def busy(self, keys: Iterable[str]) -> list[tuple[int, str]]:
        return [(each["in_memory"] + each["in_flight"], each["destination"]) for each in self.destinations(keys)]

    def status(self) -> dict[str, object]:
        return {"shard": self.shard, "in_flight": 3}


class EventList(NullLog):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, message: int = 0, /, **fields: Any) -> None:
        self.events.append((name, fields))


class Furnished:
    """A house with two shards, and its verbs as plain calls."""

    def __init__(self, configuration: Configuration | None = None) -> None:
        from pathlib import Path

        self.settings = Settings(configuration or house_configuration(), 4, Path("/etc/mta/mta.toml"))
        self.spools = [QueueSpool(0), QueueSpool(1)]
        self.archive = MemoryArchive()
        self.schedulers = [SchedulerDouble(0), SchedulerDouble(1)]
        self.log = EventList()
        self.house = House(
            settings=lambda: self.settings,
            spools=self.spools,  # type: ignore[arg-type]
            archive=self.archive,
            schedulers=self.schedulers,
            log=self.log,
            now=lambda: NOW,
            started_at=NOW - 60,
        )
        self.caller = Caller(0, "root")

    def do(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """The verb's result; raises what it raises. It must be done at once."""
        results: list[dict[str, Any]] = []
        failures: list[Exception] = []
        done = Deferred.fromCoroutine(VERBS[verb].operation(self.house, self.caller, arguments))
        done.addCallbacks(results.append, lambda failure: failures.append(failure.value))
        if failures:
            raise failures[0]
        return results[0]

    def refused(self, verb: str, **arguments: Any) -> VerbError:
        with pytest.raises(VerbError) as caught:
            self.do(verb, **arguments)
        return caught.value

    def all_pages(self, verb: str, **arguments: Any) -> list[dict[str, Any]]:
        pages = [self.do(verb, **arguments)]
        while pages[-1]["cursor"]:
            pages.append(self.do(verb, cursor=pages[-1]["cursor"], **arguments))
        return pages


@pytest.fixture
def furnished() -> Furnished:
    return Furnished()
