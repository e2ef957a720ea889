from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.spool import refusals as file
from mta.spool.refusals import Refusals, search_refusals
from mta.testing.pumped_reactor import PumpedReactor


@pytest.fixture
def reactor() -> PumpedReactor:
    return PumpedReactor()


@pytest.fixture
def refusals(tmp_path: Path, reactor: PumpedReactor) -> Iterator[Refusals]:
    made = Refusals(tmp_path, 1 << 20, reactor)
    yield made
    made.close()


def note(number: int, **fields: object) -> dict[str, object]:
    return {
        "at": float(number), "client": "192.0.2.1", "sender": f"s{number}@example.org", "recipient": "r@example.net",
        "reply": "550 5.7.1 no", **fields,
    }  # fmt: skip


def written(refusals: Refusals, reactor: PumpedReactor) -> None:
    while refusals._writing or refusals._waiting:
        reactor._one()


def test_what_is_noted_is_found_newest_first(refusals: Refusals, reactor: PumpedReactor) -> None:
    for number in range(3):
        refusals.note(note(number))
    written(refusals, reactor)
    assert [one["at"] for one in refusals.search("r@example.net")] == [2.0, 1.0, 0.0]
    assert [one["at"] for one in refusals.search("r@example.net", 1)] == [2.0]
    for text in ("s1@example.org", "S1@Example.ORG", "<s1@example.org>".strip("<>")):
        assert [one["at"] for one in refusals.search(text)] == [1.0]
    assert len(refusals.search("@example.org")) == 3
    assert len(refusals.search("192.0.2.1")) == 3
    assert refusals.search("550") == []
    assert refusals.search("ample.org") == []


def test_the_null_sender_and_lists_of_recipients_are_found(refusals: Refusals, reactor: PumpedReactor) -> None:
    refusals.note(note(1, sender="<>", recipient="a@x.example,b@x.example"))
    written(refusals, reactor)
    for text in ("<>", "a@x.example", "b@x.example", "@x.example"):
        assert len(refusals.search(text)) == 1, text


def test_text_from_the_wire_stays_in_its_line(refusals: Refusals, reactor: PumpedReactor) -> None:
    evil = 'a"\n{"at": 9}\n\udcff\u2028@example.org'
    refusals.note(note(1, sender=evil))
    refusals.note(note(2))
    written(refusals, reactor)
    assert [one["at"] for one in refusals.search("r@example.net")] == [2.0, 1.0]
    assert refusals.search("r@example.net")[1]["sender"] == evil
    assert (refusals.folder / "refusals.jsonl").read_bytes().count(b"\n") == 2


def test_both_files_together_keep_to_the_limit(refusals: Refusals, reactor: PumpedReactor, tmp_path: Path) -> None:
    refusals.limit_octets = 20_000
    for number in range(1000):
        refusals.note(note(number))
        if number % 20 == 19:
            written(refusals, reactor)
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 5_000 < total < 25_000
    found = [one["at"] for one in refusals.search("r@example.net", 1000)]
    assert found == [float(number) for number in range(999, 999 - len(found), -1)]


def test_a_thread_that_cannot_keep_up_loses_notes_and_never_blocks(
    refusals: Refusals, reactor: PumpedReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BACKLOG_LINES", 10)
    slow = threading.Event()
    refusals._lane.send(slow.wait, 10)
    before = file.LOST.value
    for number in range(25):
        refusals.note(note(number))
    assert file.LOST.value - before == 15
    slow.set()
    written(refusals, reactor)
    assert len(refusals.search("r@example.net")) == 10


def test_a_disk_that_refuses_costs_notes_only(tmp_path: Path, reactor: PumpedReactor) -> None:
    refusals = Refusals(tmp_path / "gone", 1 << 20, reactor)
    before = file.LOST.value
    refusals.note(note(1))
    written(refusals, reactor)
    assert file.LOST.value - before == 1
    (tmp_path / "gone").mkdir()
    refusals.note(note(2))
    written(refusals, reactor)
    assert [one["at"] for one in refusals.search("")] == [2.0]
    refusals.close()


def test_a_torn_line_costs_one_note(tmp_path: Path, reactor: PumpedReactor) -> None:
    (tmp_path / "refusals.jsonl").write_bytes(b'{"at": 1, "sender": "s@example.or')
    refusals = Refusals(tmp_path, 1 << 20, reactor)
    refusals.note(note(2))
    refusals.close()
    assert [one["at"] for one in search_refusals(tmp_path, "")] == [2.0]


def test_what_waits_is_written_at_the_end(tmp_path: Path, reactor: PumpedReactor) -> None:
    refusals = Refusals(tmp_path, 1 << 20, reactor)
    for number in range(500):
        refusals.note(note(number))
    refusals.close()
    assert len(search_refusals(tmp_path, "", 1000)) == 500


def test_nothing_is_found_where_nothing_was(tmp_path: Path) -> None:
    assert search_refusals(tmp_path, "@example.org") == []
