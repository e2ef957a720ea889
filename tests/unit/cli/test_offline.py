"""The verbs that read, on the files of a stopped daemon."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from typing import Any

import pytest

import mta.spool.database
from mta.mail.address import parse_address
from mta.mail.envelope import Content, Kind, Message, NewRecipient
from mta.mail.identifiers import IdentifierSource, format_id
from mta.spool import readonly
from mta.spool.birth import born
from mta.spool.contract import Acceptance, Event
from mta.spool.database import migrate, open_writer
from mta.spool.disk import ShardPaths
from mta.spool.journal import folded_row
from mta.spool.rows import recipient_row, stored_message_row

SCHEMA = Path(mta.spool.database.__file__).parent / "schema/spool"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mta.toml"
    path.write_text(
        f'hostname = "mail.dev.test"\npostmaster = "postmaster@dev.test"\n[spool]\npath = "spool"\n'
        f'[control]\nsocket = "{tmp_path}/mta.sock"\n'
        '[[listener]]\nname = "mx"\nendpoints = ["tcp:2525"]\nkind = "mx"\ntls = "none"\n'
        '[[route]]\ndomains = ["*"]\nvia = "mx"\n'
    )
    return path


def store(root: Path, shard: int, *recipients: str, message_id: str = "") -> str:
    """A message in a shard of a spool that nobody has open."""
    paths = ShardPaths(root, shard)
    paths.directory.mkdir(parents=True, exist_ok=True)
    connection = open_writer(paths.database)
    migrate(connection, SCHEMA)
    new_id = IdentifierSource(shard, time.time, connection.execute("SELECT max(id) FROM recipient").get or 0).next
    content = Content(b"Subject: x\r\n", b"y\r\n")
    message = Message(
        new_id(), Kind.RELAY, parse_address("a@example.org"), time.time() - 60, 9e9, 17, message_id=message_id
    )
    new = tuple(NewRecipient(parse_address(each), each, "mx:example.net") for each in recipients)
    rows = born(Acceptance(message, new, content), new_id)
    with connection:
        for table, row in (
            ("message", stored_message_row(message, content)),
            *(("recipient", recipient_row(each)) for each in rows),
            ("journal", folded_row(Event.ACCEPTED, message.id, 1, message.received_at, rows)),
        ):
            connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
    connection.close()
    return format_id(message.id)


def test_the_queue_is_listed_over_all_shards(mta: Any, tmp_path: Path) -> None:
    expected = [store(tmp_path / "spool", 0, "b@example.net"), store(tmp_path / "spool", 1, "c@example.net")]
    ended = mta("queue", "list", "--json")
    assert [row["id"] for row in json.loads(ended.out)] == expected
    assert ended.err == "mta: the daemon is not running; reading its files\n"
    assert [
        row["id"] for row in json.loads(mta("queue", "list", "--recipient", "@example.net", "-n1", "--json").out)
    ] == expected[:1]


def test_a_message_is_shown_and_explained(mta: Any, tmp_path: Path) -> None:
    identifier = store(tmp_path / "spool", 1, "b@example.net", "c@example.net", message_id="<1@example.org>")
    assert f"{identifier} from <a@example.org>" in mta("queue", "show", identifier).out
    for what in (identifier, "c@example.net", "<1@example.org>"):
        told = mta("why", what).out
        assert "accepted from this machine without login in clear text" in told
        assert "<c@example.net> queued for mx:example.net" in told
    assert "Subject: x" in mta("queue", "show", "--header", identifier).out
    assert mta("why", "nobody@example.net").code == 1


def test_destinations_are_told_with_what_suspended_them(mta: Any, tmp_path: Path) -> None:
    store(tmp_path / "spool", 0, "b@example.net", "c@example.net")
    connection = open_writer(tmp_path / "spool/0/spool.db")
    until = time.time() + 600
    connection.execute(
        "INSERT INTO destination VALUES ('mx:dead.example', ?, 2, 0, 0, '4.4.1', 'connection refused')", (until,)
    )
    connection.close()
    rows = {row["destination"]: row for row in json.loads(mta("queue", "destinations", "--json").out)}
    assert (rows["mx:example.net"]["waiting"], rows["mx:example.net"]["suspended_until"]) == (2, 0)
    assert (rows["mx:dead.example"]["suspended_until"], rows["mx:dead.example"]["last_reply"]) == (
        until, "4.4.1 connection refused",
    )  # fmt: skip
    assert "suspended until" in mta("queue", "destinations").out
    assert mta("queue", "flush").code == 69


def test_status_says_that_it_is_stopped(mta: Any, tmp_path: Path) -> None:
    store(tmp_path / "spool", 0, "b@example.net", "c@example.net")
    ended = mta("status", "--json")
    assert ended.code == 69
    data = json.loads(ended.out)
    assert data["running"] is False
    assert (data["spools"][0]["messages"], data["spools"][0]["queued"]) == (1, 2)
    assert mta("status").out.startswith("mail.dev.test: stopped\n")


def test_nothing_is_changed_or_locked(mta: Any, tmp_path: Path) -> None:
    identifier = store(tmp_path / "spool", 0, "b@example.net")
    database = tmp_path / "spool/0/spool.db"
    before = (database.read_bytes(), database.stat().st_mtime_ns)
    mta("queue", "list")
    assert mta("queue", "delete", identifier).code == 69
    assert (database.read_bytes(), database.stat().st_mtime_ns) == before
    assert not (tmp_path / "spool/0/lock").exists()


def test_a_missing_spool_and_a_broken_configuration_are_said_plainly(mta: Any, tmp_path: Path, config: Path) -> None:
    ended = mta("queue", "list")
    assert ended.code == 69
    assert f"there is no spool in {tmp_path}/spool" in ended.err
    config.write_text(config.read_text() + "nonsense = 1\n")
    ended = mta("queue", "list")
    assert ended.code == 78
    assert "nonsense" in ended.err


def test_a_damaged_database_is_temporary(mta: Any, tmp_path: Path) -> None:
    store(tmp_path / "spool", 0, "b@example.net")
    (tmp_path / "spool/0/spool.db").write_bytes(b"this is no database" * 1000)
    assert mta("queue", "list").code == 75


def test_files_of_others_are_refused(mta: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "spool", 0, "b@example.net")

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(readonly, "_connect", refuse)  # root, as whom tests may run, may read everything
    ended = mta("queue", "list")
    assert ended.code == 77
    assert f"you may not read the spool in {tmp_path}/spool: the spool {tmp_path}/spool/0/spool.db" in ended.err
