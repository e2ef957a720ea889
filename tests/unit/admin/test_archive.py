"""Finished mail and refusals, found on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import succeed

from mta.admin.archive import FileArchive
from mta.admin.house import Sought
from mta.mail.envelope import State
from mta.mail.identifiers import format_id
from mta.spool.contract import Event
from mta.spool.history import History
from mta.testing.spools import OWNER, START, SqliteHouse, letter, outcome

NOW = 1_767_225_600.0


@pytest.fixture
def archive(tmp_path: Path) -> FileArchive:
    for name in ("history", "refusals"):
        (tmp_path / name).mkdir()
    return FileArchive(History(tmp_path / "history"), tmp_path / "refusals", lambda work: succeed(work()))


def finish(folder: Path, address: str, message_id: str) -> int:
    """A message that came and was delivered, and is in the history of `folder`."""
    house = SqliteHouse(folder)
    (accepted,) = house.wait(
        house.spool.accept(
            (letter(house.spool.new_id(), address, sender="a@example.org", claim_for=OWNER, message_id=message_id),)
        )
    )
    house.wait(house.spool.settle([outcome(one, State.RELAYED) for one in accepted.recipients]))
    assert house.wait(house.spool.move_finished(START)) == 1
    house.close()
    return accepted.message.id


def test_finished_mail_is_found_by_all_its_names(tmp_path: Path) -> None:
    identifier = finish(tmp_path, "bob@example.net", "<1@Example.org>")
    history = History(tmp_path / "0" / "history")
    archive: Any = FileArchive(history, tmp_path / "refusals", lambda work: succeed(work()))
    for sought in (
        Sought(message=identifier),
        Sought(address="bob@example.net"),
        Sought(address="@example.org"),
        Sought(message_id="<1@Example.org>"),
    ):
        (story,) = archive.stories(sought).result
        assert format_id(story.message.id) == format_id(identifier)
        assert [entry.kind for entry in story.journal] == [Event.ACCEPTED, Event.QUEUED, Event.RELAYED]
    assert archive.stories(Sought(address="x@example.net")).result == []


def test_refusals_are_found_by_address_and_client(archive: Any, tmp_path: Path) -> None:
    note = {"at": NOW, "client": "192.0.2.7", "sender": "<>", "recipient": "bob@dev.test", "reply": "550"}
    (tmp_path / "refusals/refusals.jsonl").write_text(json.dumps(note) + "\n")
    for sought in (Sought(address="bob@dev.test"), Sought(address="@dev.test"), Sought(word="192.0.2.7")):
        assert archive.refusals(sought).result == [note]
    for sought in (Sought(message=5), Sought(message_id="<1@x>"), Sought(word="192.0.2.8")):
        assert archive.refusals(sought).result == []
