"""Finished mail and refusals, found on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import succeed

from mta.admin.archive import FileArchive
from mta.admin.house import Sought
from mta.mail.address import parse_address
from mta.mail.envelope import Content, Kind, Message, NewRecipient
from mta.mail.identifiers import EPOCH_MS, IdentifierSource, format_id
from mta.spool.birth import born
from mta.spool.contract import Acceptance, Event
from mta.spool.history import History
from mta.spool.journal import folded_row

NOW = 1_767_225_600.0


@pytest.fixture
def archive(tmp_path: Path) -> FileArchive:
    for name in ("history", "refusals"):
        (tmp_path / name).mkdir()
    return FileArchive(History(tmp_path / "history"), tmp_path / "refusals", lambda work: succeed(work()))


def finish(folder: Path, *recipients: str, message_id: str = "") -> int:
    assert EPOCH_MS / 1000 < NOW
    new_id = IdentifierSource(0, lambda: NOW).next
    message = Message(new_id(), Kind.RELAY, parse_address("a@example.org"), NOW, NOW, 10, message_id=message_id)
    new = tuple(NewRecipient(parse_address(each), each, "mx:example.net") for each in recipients)
    rows = born(Acceptance(message, new, Content(b"", b"")), new_id)
    History(folder).add([(message, rows, [folded_row(Event.ACCEPTED, message.id, 1, NOW, rows)])])
    return message.id


def test_finished_mail_is_found_by_all_its_names(archive: Any, tmp_path: Path) -> None:
    identifier = finish(tmp_path / "history", "bob@example.net", message_id="<1@Example.org>")
    for sought in (
        Sought(message=identifier),
        Sought(address="bob@example.net"),
        Sought(address="@example.org"),
        Sought(message_id="<1@Example.org>"),
    ):
        (story,) = archive.stories(sought).result
        assert format_id(story.message.id) == format_id(identifier)
        assert [entry.kind for entry in story.journal] == [Event.ACCEPTED, Event.QUEUED]
    assert archive.stories(Sought(address="x@example.net")).result == []


def test_refusals_are_found_by_address_and_client(archive: Any, tmp_path: Path) -> None:
    note = {"at": NOW, "client": "192.0.2.7", "sender": "<>", "recipient": "bob@dev.test", "reply": "550"}
    (tmp_path / "refusals/refusals.jsonl").write_text(json.dumps(note) + "\n")
    for sought in (Sought(address="bob@dev.test"), Sought(address="@dev.test"), Sought(word="192.0.2.7")):
        assert archive.refusals(sought).result == [note]
    for sought in (Sought(message=5), Sought(message_id="<1@x>"), Sought(word="192.0.2.8")):
        assert archive.refusals(sought).result == []
