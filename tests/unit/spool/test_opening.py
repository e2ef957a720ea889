"""What a spool refuses to start on, and what it says then."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest

from mta.mail.identifiers import shard_of
from mta.spool import database
from mta.spool.contract import SpoolLocked, SpoolUnusable
from mta.spool.database import SCHEMA, check_sqlite, migrate, newest_schema
from mta.spool.disk import shards_of
from mta.spool.sqlite import SqliteSpool, open_spool
from mta.testing.pumped_reactor import PumpedReactor
from mta.testing.spools import START, SqliteHouse, letter


def opened(root: Path, shard: int = 0, *, create: bool = True) -> SqliteSpool:
    return open_spool(root, shard, reactor=PumpedReactor(), clock=lambda: START, create=create)


def close(spool: SqliteSpool) -> None:
    spool._reactor.wait(spool.close())  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.9.0"])
def test_an_old_sqlite_is_refused(version: str) -> None:
    with pytest.raises(SpoolUnusable, match=r"3\.51\.3 or newer.*apsw"):
        check_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "4.0.0"])
def test_a_newer_sqlite_is_taken(version: str) -> None:
    check_sqlite(version)


def test_a_daemon_with_an_old_sqlite_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database.apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(SpoolUnusable):
        opened(tmp_path / "spool")
    assert not (tmp_path / "spool").exists()


def test_a_spool_in_use_is_refused_and_names_who_has_it(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(SpoolLocked, match=r"in use by process \d+"):
        opened(tmp_path)
    close(first)
    close(opened(tmp_path))


def test_the_log_is_synced_at_every_commit(sqlite: SqliteHouse) -> None:
    connection = sqlite.sqlite._writer._connection
    assert (connection.pragma("journal_mode"), connection.pragma("synchronous")) == ("wal", 2)


def test_nothing_is_made_where_only_an_old_spool_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(SpoolUnusable, match="there is no spool"):
        opened(tmp_path / "spool", create=False)
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("how", ["removed", "emptied", "directory"])
def test_an_emptied_spool_is_not_begun_anew(tmp_path: Path, how: str) -> None:
    close(opened(tmp_path))
    if how == "directory":
        shutil.rmtree(tmp_path / "0")
    else:
        (tmp_path / "0" / "spool.db").unlink()
        if how == "emptied":
            (tmp_path / "0" / "spool.db").touch()
    with pytest.raises(SpoolUnusable, match=r"was emptied.*Restore it.*remove .*markers/0"):
        opened(tmp_path)
    (tmp_path / "markers" / "0").unlink()
    close(opened(tmp_path))


def test_another_spools_database_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        close(opened(tmp_path / name))
    shutil.copy(tmp_path / "a" / "0" / "spool.db", tmp_path / "b" / "0" / "spool.db")
    with pytest.raises(SpoolUnusable, match="is not the database that"):
        opened(tmp_path / "b")


def test_another_shards_database_is_refused(tmp_path: Path) -> None:
    for shard in (0, 1):
        close(opened(tmp_path, shard))
    shutil.copy(tmp_path / "0" / "spool.db", tmp_path / "1" / "spool.db")
    with pytest.raises(SpoolUnusable, match="the database of shard 0"):
        opened(tmp_path, 1)


def test_shards_stand_side_by_side_and_their_ids_tell_them(tmp_path: Path) -> None:
    spools = [opened(tmp_path, shard) for shard in (0, 1, 7)]
    assert [shard_of(spool.new_id()) for spool in spools] == [0, 1, 7]
    assert shards_of(tmp_path) == [0, 1, 7]
    for spool in spools:
        close(spool)


def test_a_file_that_is_no_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    close(opened(tmp_path))
    (tmp_path / "0" / "spool.db").write_bytes(b"not a database " * 1000)
    with pytest.raises(SpoolUnusable, match=r"is damaged.*\.recover"):
        opened(tmp_path)
    (tmp_path / "0" / "spool.db").unlink()
    (tmp_path / "markers" / "0").unlink()
    close(opened(tmp_path))  # the lock was let go


def test_a_place_that_is_no_directory_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnusable, match=r"can't be used by user \d+.*chown"):
        opened(tmp_path / "file" / "spool")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    close(opened(tmp_path))
    connection = apsw.Connection(str(tmp_path / "0" / "spool.db"))
    connection.execute("UPDATE meta SET schema_version = 99")
    connection.close()
    with pytest.raises(SpoolUnusable, match="schema 99, written by a newer release"):
        opened(tmp_path)


KNOWN = newest_schema(SCHEMA / "spool")


@pytest.fixture
def later_schema(tmp_path: Path) -> Path:
    """The schema of some release to come: ours, and one step more."""
    folder = tmp_path / "schema"
    shutil.copytree(SCHEMA / "spool", folder)
    (folder / f"{KNOWN + 1:04}.sql").write_text(
        "ALTER TABLE message ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';\n"
        "CREATE TABLE novelty (key TEXT PRIMARY KEY);\n"
    )
    return folder


def test_an_older_schema_is_brought_up_to_date_and_its_mail_stays(sqlite: SqliteHouse, later_schema: Path) -> None:
    number = sqlite.spool.new_id()
    sqlite.wait(sqlite.spool.accept((letter(number),)))
    sqlite.wait(sqlite.spool.close())
    connection = apsw.Connection(str(sqlite.root / "0" / "spool.db"))
    assert migrate(connection, later_schema) == (KNOWN, KNOWN + 1)
    assert migrate(connection, later_schema) == (KNOWN + 1, KNOWN + 1)
    assert connection.execute("SELECT id, colour FROM message").fetchall() == [(number, "red")]
    assert connection.execute("SELECT count(*) FROM novelty").get == 0
    connection.close()


def test_a_step_that_fails_leaves_the_old_schema(sqlite: SqliteHouse, later_schema: Path) -> None:
    sqlite.wait(sqlite.spool.close())
    with (later_schema / f"{KNOWN + 1:04}.sql").open("a") as file:
        file.write("INSERT INTO nowhere VALUES (1);\n")
    connection = apsw.Connection(str(sqlite.root / "0" / "spool.db"))
    with pytest.raises(apsw.SQLError):
        migrate(connection, later_schema)
    assert connection.execute("SELECT schema_version FROM meta").get == KNOWN
    assert "colour" not in [row[1] for row in connection.execute("PRAGMA table_info(message)")]
    connection.close()


def test_ids_are_never_given_twice_though_the_clock_steps_back(sqlite: SqliteHouse) -> None:
    given = {sqlite.spool.new_id() for _ in range(100)}
    sqlite.wait(sqlite.spool.accept((letter(max(given)),)))
    for committed in (True, False):
        sqlite.now -= 86400
        sqlite.crash(committed=committed)
        fresh = {sqlite.spool.new_id() for _ in range(100)}
        assert min(fresh) > max(given)
        given |= fresh


def test_ids_are_never_given_twice_after_a_clean_stop(sqlite: SqliteHouse) -> None:
    last = sqlite.spool.new_id()
    sqlite.wait(sqlite.spool.close())
    sqlite.now -= 3600
    sqlite._open()
    assert sqlite.spool.new_id() > last


def test_a_clock_that_jumped_ahead_is_remembered_with_the_mail_it_numbered(sqlite: SqliteHouse) -> None:
    sqlite.now += 10 * 365 * 86400
    ahead = sqlite.spool.new_id()
    sqlite.wait(sqlite.spool.accept((letter(ahead),)))
    sqlite.now = START
    sqlite.crash(committed=False)
    assert sqlite.spool.new_id() > ahead


def test_journal_numbers_grow_over_restarts(sqlite: SqliteHouse) -> None:
    first = sqlite.sqlite.next_seq()
    sqlite.now -= 86400
    sqlite.crash(committed=False)
    assert sqlite.sqlite.next_seq() > first
