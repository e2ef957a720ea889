"""The history: found by what a postmaster knows of a message, kept as long as told, copied once however often it is tried."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from mta.mail.envelope import State
from mta.mail.identifiers import format_id
from mta.spool.contract import Event, SpoolError, SpoolFailed, SpoolFull, SpoolUnusable
from mta.spool.day import Day, peer_ids
from mta.spool.history import History
from mta.testing.spools import OWNER, START, SqliteHouse, letter, outcome, recipient

DAY = 86400.0


def finished(sqlite: SqliteHouse, *recipients: str, at: float = START, text: str = "", **fields: object) -> int:
    number = sqlite.spool.new_id()
    (accepted,) = sqlite.wait(
        sqlite.spool.accept((letter(number, *recipients, now=at, claim_for=OWNER, **fields),))  # type: ignore[arg-type]
    )
    settlements = [outcome(one, State.RELAYED, at, code=250, text=text) for one in accepted.recipients]
    sqlite.wait(sqlite.spool.settle(settlements))
    return number


def move(sqlite: SqliteHouse) -> History:
    sqlite.wait(sqlite.spool.move_finished(sqlite.now))
    return History(sqlite.root / "history")


def found(history: History, text: str) -> list[int]:
    return [told.message.id for told in history.search(text)]


def test_a_message_is_found_by_all_that_it_is_known_by(sqlite: SqliteHouse) -> None:
    other = finished(sqlite, "other@example.com", sender="someone@example.com")
    number = finished(sqlite, "User@example.net", message_id="<A.b@Example.org>", text="2.0.0 Ok: queued as 4FxYz1abcd")
    history = move(sqlite)
    for text in (
        format_id(number), format_id(number).lower(), "sender@example.org", "@example.org", "user@example.net",
        "<User@Example.NET>", "@example.net", "<A.b@Example.org>", "a.b@example.org", "4FxYz1abcd",
    ):  # fmt: skip
        assert found(history, text) == [number], text
    assert found(history, "@example.com") == [other]
    assert found(history, "nobody@example.net") == []
    assert found(history, "") == []


def test_it_has_its_recipients_and_its_whole_journal(sqlite: SqliteHouse) -> None:
    number = finished(sqlite, "a@example.net", "b@example.net")
    sqlite.wait(sqlite.spool.message(number))
    told = move(sqlite).message(number)
    assert told is not None
    assert [str(one.address) for one in told.recipients] == ["a@example.net", "b@example.net"]
    kinds = [entry.kind for entry in told.journal]
    assert kinds == [Event.ACCEPTED, Event.QUEUED, Event.QUEUED, Event.RELAYED, Event.RELAYED]


@pytest.mark.parametrize(
    ("reply", "identifiers"),
    [
        ("2.0.0 Ok: queued as 4FxYz1abcd", ["4fxyz1abcd"]),
        ("OK id=1qTxyz-000Abc-1D", ["1qtxyz-000abc-1d"]),
        ("2.0.0 OK  1700000000 a1-20020a170906.123 - gsmtp", ["1700000000", "a1-20020a170906.123"]),
        ("2.0.0 46ABCDEF001234 Message accepted for delivery", ["46abcdef001234"]),
        ("delivered to user@example.org", []),
        ("2.1.5 Ok", []),
        (" ".join(f"token{n}" for n in range(50)), ["token0", "token1", "token2", "token3"]),
    ],
)
def test_a_next_hops_queue_id_is_found_in_its_reply(reply: str, identifiers: list[str]) -> None:
    assert peer_ids(reply) == identifiers


def test_the_newest_come_first_and_the_limit_holds(sqlite: SqliteHouse) -> None:
    numbers = [finished(sqlite, at=START + day * DAY) for day in (0, 0, 1, 2)]
    history = move(sqlite)
    assert [told.message.id for told in history.search("@example.org", 3)] == numbers[::-1][:3]


def test_copying_twice_leaves_one(sqlite: SqliteHouse) -> None:
    """A crash between the copy and the deletion; the second try may be on another day."""
    number = finished(sqlite)
    assert sqlite.sqlite._mover.copy(10) == [number]
    sqlite.now += DAY
    sqlite.crash(committed=True)
    assert sqlite.wait(sqlite.spool.move_finished(sqlite.now)) == 1
    assert [told.message.id for told in sqlite.told()] == [number]
    assert sqlite.wait(sqlite.spool.message(number)) is None


def test_what_could_not_be_copied_is_tried_again(sqlite: SqliteHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(sqlite)

    def full(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Day, "copy", full)
        with pytest.raises(SpoolFull):
            sqlite.wait(sqlite.spool.move_finished(START))
    assert sqlite.wait(sqlite.spool.status()).messages == 1
    assert sqlite.wait(sqlite.spool.move_finished(START)) == 1


def test_what_a_newer_release_has_begun_to_write_stays_to_be_copied(
    sqlite: SqliteHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(sqlite)

    def newer(*_: object) -> None:
        raise SpoolUnusable("it has schema 9, written by a newer release")

    with monkeypatch.context() as patch:
        patch.setattr("mta.spool.day.migrate", newer)
        with pytest.raises(SpoolFailed, match="newer release"):
            sqlite.wait(sqlite.spool.move_finished(START))
    assert sqlite.wait(sqlite.spool.move_finished(START)) == 1


def test_what_was_finished_before_a_restart_is_moved_after_it(sqlite: SqliteHouse) -> None:
    finished(sqlite)
    sqlite.crash(committed=True)
    assert sqlite.wait(sqlite.spool.move_finished(START)) == 1


def test_days_that_are_over_go_by_age(sqlite: SqliteHouse) -> None:
    for day in range(5):
        finished(sqlite, at=START + day * DAY)
    history = move(sqlite)
    assert history.retain(START + 4 * DAY, 2 * DAY, 1 << 30) == ["2027-01-16", "2027-01-15"]
    assert len(history.search("@example.org")) == 3


def test_days_that_are_too_many_go_by_size_and_today_stays(sqlite: SqliteHouse) -> None:
    for day in range(4):
        finished(sqlite, at=START + day * DAY)
    history = move(sqlite)
    size = max(path.stat().st_size for path in history.folder.iterdir())
    assert history.retain(START + 3 * DAY, 365 * DAY, 2 * size) == ["2027-01-16", "2027-01-15"]
    assert history.retain(START + 3 * DAY, 365 * DAY, 0) == ["2027-01-17"]
    assert len(history.search("@example.org")) == 1


def test_a_large_new_day_is_not_kept_at_the_cost_of_the_order(tmp_path: Path) -> None:
    for name, size in (("2027-01-01", 10), ("2027-01-02", 1000), ("2027-01-03", 10)):
        (tmp_path / f"{name}.db").write_bytes(bytes(size))
    assert History(tmp_path).retain(START, 1e9, 100) == ["2027-01-02", "2027-01-01"]


def test_another_process_reads_it_while_the_daemon_runs(sqlite: SqliteHouse) -> None:
    number = finished(sqlite)
    history = move(sqlite)
    program = (
        "import sys; from pathlib import Path; from mta.spool.history import History\n"
        "print([told.message.id for told in History(Path(sys.argv[1])).search('@example.net')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, history.folder], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == f"[{number}]\n"


def test_a_day_that_is_being_made_is_empty(tmp_path: Path) -> None:
    """The file is there before its tables: who asks just then gets an answer, not an error."""
    apsw.Connection(str(tmp_path / "2026-01-01.db")).close()
    history = History(tmp_path)
    assert found(history, "someone@example.org") == []
    assert history.message(1) is None


def test_a_day_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "2027-01-15.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SpoolError, match="history of 2027-01-15"):
        History(tmp_path).search("@example.org")


def test_a_day_cut_off_by_a_crash_is_mended_at_the_start(sqlite: SqliteHouse) -> None:
    number = finished(sqlite)
    (path,) = move(sqlite).folder.iterdir()
    cut = (
        "import apsw, os, sys; c = apsw.Connection(sys.argv[1]); c.execute('PRAGMA cache_size=1; PRAGMA cache_spill=1; "
        "BEGIN; DELETE FROM message; DELETE FROM term'); "
        "c.execute('CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 999) "
        "SELECT i, randomblob(4000) FROM n'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", cut, path], check=False, timeout=30)
    journal = path.with_name(path.name + "-journal")
    assert journal.exists()
    sqlite.crash(committed=True)
    history = History(sqlite.root / "history")
    assert not (history.folder / journal.name).exists()
    assert found(history, "@example.net") == [number]


def test_a_report_without_a_sender_is_found_by_its_recipient(sqlite: SqliteHouse) -> None:
    number = sqlite.spool.new_id()
    (accepted,) = sqlite.wait(
        sqlite.spool.accept((letter(number, recipient("who@example.com"), sender="", claim_for=OWNER),))
    )
    sqlite.wait(sqlite.spool.settle((outcome(accepted.recipients[0], State.FAILED),)))
    assert found(move(sqlite), "who@example.com") == [number]
