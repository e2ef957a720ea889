"""What happened, from three places; and how the house is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import fail, succeed

from mta.admin.errors import CONFIGURATION, NOT_FOUND, TEMPORARY, UNAVAILABLE, USAGE
from mta.admin.house import Reloaded, Story
from mta.mail.envelope import State
from mta.mail.identifiers import parse_id
from mta.spool.contract import Claimed, DestinationRecord, Event, JournalEntry, SpoolError


def finish(furnished: Any, identifier: str, spool: int = 0) -> None:
    """Move a message from the spool to the history."""
    shard, number = furnished.spools[spool], parse_id(identifier)
    rows = [row for row in shard.rows if row.message.id == number]
    shard.rows = [row for row in shard.rows if row.message.id != number]
    journal = (*(each for each in shard.journal if each.message == number),)
    done = JournalEntry(number, furnished.house.now(), Event.RELAYED, rows[0].recipient.id, {"code": 250})
    recipients = tuple(replace(row.recipient, state=State.RELAYED) for row in rows)
    furnished.archive.kept.append(Story(rows[0].message, recipients, (*journal, done)))


def test_by_id_in_the_spool_and_in_the_history(furnished: Any) -> None:
    queued = furnished.spools[0].put("a@example.org", "b@example.net")
    finished = furnished.spools[1].put("a@example.org", "b@example.net")
    finish(furnished, finished, 1)
    (story,) = furnished.do("why", what=queued)["messages"]
    assert [entry["kind"] for entry in story["entries"]] == ["accepted"]
    (story,) = furnished.do("why", what=finished)["messages"]
    assert [entry["kind"] for entry in story["entries"]] == ["accepted", "relayed"]


def test_by_address_everywhere_merged_oldest_first(furnished: Any) -> None:
    first = furnished.spools[0].put("bob@example.net", "x@example.org", age=100)
    second = furnished.spools[1].put("a@example.org", "bob@example.net", "c@example.net", age=50)
    third = furnished.spools[0].put("a@example.org", "bob@example.net")
    furnished.spools[0].put("a@example.org", "other@example.net")
    finish(furnished, first)
    furnished.archive.notes = [
        {"at": 2.0, "sender": "bob@example.net", "recipient": "y", "reply": "550"},
        {"at": 1.0, "sender": "x", "recipient": "bob@example.net", "reply": "550"},
        {"at": 1.0, "sender": "x", "recipient": "y", "reply": "550"},
    ]
    data = furnished.do("why", what="<bob@EXAMPLE.net>".strip("<>"))
    assert {story["message"]["id"] for story in data["messages"]} == {first, second, third}
    identifiers = [parse_id(story["message"]["id"]) for story in data["messages"]]
    assert identifiers == sorted(identifiers)
    assert [note["at"] for note in data["refusals"]] == [1.0, 2.0]


def test_by_message_id_with_and_without_brackets(furnished: Any) -> None:
    identifier = furnished.spools[0].put("a@example.org", "b@example.net", message_id="<4711@mail.example.org>")
    furnished.spools[0].put("a@example.org", "b@example.net", message_id="<4712@mail.example.org>")
    for what in ("<4711@mail.example.org>", "4711@mail.example.org"):
        assert [story["message"]["id"] for story in furnished.do("why", what=what)["messages"]] == [identifier]


def test_the_newest_are_told_when_there_are_many(furnished: Any) -> None:
    identifiers = [furnished.spools[0].put("a@example.org", "b@example.net") for _ in range(30)]
    data = furnished.do("why", what="@example.net", limit=5)
    assert [story["message"]["id"] for story in data["messages"]] == identifiers[-5:]
    assert data["more"] is True


def test_what_is_unknown_is_said_to_be(furnished: Any) -> None:
    for what in ("0000000000001", "nobody@example.net", "<none@example.net>"):
        assert furnished.refused("why", what=what).code == NOT_FOUND
    assert furnished.refused("why", what="4F2XYZ1abc").code == NOT_FOUND
    for what in ("", "x", "two words"):
        assert furnished.refused("why", what=what).code == USAGE


def test_by_client_login_or_a_next_hop_s_queue_id(furnished: Any) -> None:
    spool = furnished.spools[0]
    identifiers = [spool.put("a@example.org", "b@example.net") for _ in range(4)]
    row = spool.rows[0]
    spool.rows[0] = Claimed(replace(row.message, client_ip="192.0.2.7"), row.recipient)
    row = spool.rows[1]
    spool.rows[1] = Claimed(replace(row.message, authcid="Bob"), row.recipient)
    row = spool.rows[2]
    spool.rows[2] = Claimed(row.message, replace(row.recipient, last_text="Ok: queued as 4F2XYZ1abc"))
    for what, identifier in zip(("192.0.2.7", "bob", "4F2XYZ1abc"), identifiers, strict=False):
        assert [story["message"]["id"] for story in furnished.do("why", what=what)["messages"]] == [identifier]


def test_a_history_that_cannot_be_read_is_temporary(furnished: Any) -> None:
    furnished.archive.stories = lambda sought: fail(SpoolError("the history of 2026-01-01 can't be read"))
    assert furnished.refused("why", what="a@example.org").code == TEMPORARY


def test_status_has_the_busiest_destinations_and_looks_for_them_in_many_turns(furnished: Any) -> None:
    furnished.schedulers[0].live = [
        {"destination": f"mx:{number}", "in_memory": number, "in_flight": 0} for number in range(10_000)
    ]
    turns: list[int] = []
    furnished.house.pause = lambda: succeed(turns.append(1))
    scheduler, _ = furnished.do("status")["schedulers"]
    assert len(turns) == 4
    assert [each["in_memory"] for each in scheduler["destinations"]] == list(range(9999, 9949, -1))


def test_status_tells_of_spools_schedulers_and_troubles(furnished: Any) -> None:
    furnished.spools[1].status = lambda: succeed(
        replace(furnished.spools[0].status().result, shard=1, failing="No space left on device")
    )
    furnished.house.parts = {"sessions": lambda: 17}
    data = furnished.do("status")
    assert data["hostname"] == "mail.dev.test"
    assert data["generation"] == 4
    assert data["sessions"] == 17
    assert data["schedulers"] == [{"shard": shard, "in_flight": 3, "destinations": []} for shard in (0, 1)]
    assert [spool["shard"] for spool in data["spools"]] == [0, 1]
    assert data["troubles"] == ["spool shard 1: No space left on device"]


def test_reload_tells_the_generation_and_what_waits_for_a_restart(furnished: Any) -> None:
    furnished.house.reload = lambda: succeed(Reloaded(5, restart=("spool.path",)))
    assert furnished.do("config.reload") == {"generation": 5, "restart": ["spool.path"]}
    assert furnished.log.events == [("reloaded", {"by": "root", "generation": 5, "restart": "spool.path"})]


def test_a_refused_reload_tells_all_problems(furnished: Any) -> None:
    furnished.house.reload = lambda: succeed(Reloaded(4, problems=("mta.toml:3: one", "mta.toml:9: two")))
    error = furnished.refused("config.reload")
    assert error.code == CONFIGURATION
    assert error.details == {"problems": ["mta.toml:3: one", "mta.toml:9: two"], "generation": 4}
    furnished.house.reload = None
    assert furnished.refused("config.reload").code == UNAVAILABLE


def test_what_waits_for_a_suspended_destination_is_told_why(furnished: Any) -> None:
    identifier = furnished.spools[0].put("a@example.org", "b@example.net")
    assert furnished.do("why", what=identifier)["suspended"] == {}
    row = {
        "destination": "mx:example.net",
        "suspended_until": furnished.house.now() + 60,
        "last_reply": "4.4.1 refused",
    }
    furnished.schedulers[0].live = [row]
    assert furnished.do("why", what=identifier)["suspended"] == {
        "mx:example.net": {"suspended_until": furnished.house.now() + 60, "last_reply": "4.4.1 refused"}
    }


def test_of_a_stopped_daemon_the_record_tells_it(furnished: Any) -> None:
    identifier = furnished.spools[0].put("a@example.org", "b@example.net")
    until = furnished.house.now() + 60
    furnished.spools[0].records = [DestinationRecord("mx:example.net", until, 1, 0, 421, "4.7.0", "busy")]
    furnished.house.readers, furnished.house.spools, furnished.house.schedulers = furnished.spools, (), ()
    told = furnished.do("why", what=identifier)["suspended"]
    assert told == {"mx:example.net": {"suspended_until": until, "last_reply": "421 4.7.0 busy"}}
