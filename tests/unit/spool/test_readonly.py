"""The spool of a stopped daemon is read without being changed; a whole spool as a daemon has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mta.config.model import Spool as SpoolTable
from mta.mail.envelope import State
from mta.spool.contract import Selection, SpoolLocked, SpoolUnusable
from mta.spool.readonly import open_reader, open_readers
from mta.spool.root import SpoolRoot
from mta.testing.pumped_reactor import PumpedReactor
from mta.testing.spools import OWNER, START, SqliteHouse, letter, outcome


def now(deferred: Deferred[Any]) -> Any:
    """Of a reader: its Deferreds have fired."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    (result,) = results
    return result


@pytest.fixture
def number(sqlite: SqliteHouse) -> int:
    made = sqlite.spool.new_id()
    sqlite.wait(sqlite.spool.accept((letter(made, "a@example.net", "b@example.net", claim_for=OWNER),)))
    return made


def check(root: Path, number: int) -> None:
    reader = open_reader(root)
    message, recipients = now(reader.message(number))
    assert (message.id, len(recipients)) == (number, 2)
    assert len(now(reader.select(Selection(), 10)).rows) == 2
    assert len(now(reader.events(number))) == 3
    assert now(reader.content(number)).body == b"Hello\r\n"
    status = now(reader.status())
    assert (status.messages, status.queued, status.claimed) == (1, 2, 2)
    reader.close()


def test_a_stopped_daemons_spool_is_read(sqlite: SqliteHouse, number: int) -> None:
    sqlite.wait(sqlite.spool.close())
    check(sqlite.root, number)
    check(sqlite.root, number)


def test_a_running_daemons_spool_is_read_beside_it(sqlite: SqliteHouse, number: int) -> None:
    check(sqlite.root, number)
    sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id()),)))


def test_a_killed_daemons_spool_is_read_with_what_is_only_in_its_log(sqlite: SqliteHouse, number: int) -> None:
    copy = sqlite.root.parent / "copy"
    subprocess.run(["cp", "-r", sqlite.root, copy], check=True)
    assert (copy / "0" / "spool.db-wal").stat().st_size
    check(copy, number)


@pytest.mark.real
def test_it_is_read_where_the_reader_may_not_write(sqlite: SqliteHouse, number: int) -> None:
    if os.geteuid():
        pytest.skip("needs root (unshare -m)")
    sqlite.wait(sqlite.spool.close())
    program = (
        "import sys; from pathlib import Path; from mta.spool.readonly import open_reader\n"
        "reader = open_reader(Path(sys.argv[1])); print(reader._connection.execute('SELECT count(*) FROM message').get)"
    )
    place = sqlite.root
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$2" -c "$1" "$0"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, str(place), program, sys.executable],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip("needs unshare -m")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_where_there_is_none_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpoolUnusable, match="there is no spool"):
        open_reader(tmp_path)
    assert open_readers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def reactor() -> PumpedReactor:
    return PumpedReactor()


@pytest.fixture
def table(tmp_path: Path) -> SpoolTable:
    return SpoolTable(path=tmp_path / "spool", shards=2)


@pytest.fixture
def root(table: SpoolTable, reactor: PumpedReactor) -> Iterator[SpoolRoot]:
    made = SpoolRoot(table, reactor=reactor, now=lambda: START)
    made.open()
    yield made
    reactor.wait(made.close())


def test_a_spool_has_its_shards_and_each_is_locked(root: SpoolRoot, table: SpoolTable, reactor: PumpedReactor) -> None:
    assert [spool.shard for spool in root.spools] == [0, 1]
    with pytest.raises(SpoolLocked):
        SpoolRoot(table, reactor=reactor, now=lambda: START).open()
    assert [reader.shard for reader in open_readers(table.path)] == [0, 1]


def test_shards_are_added_and_never_forgotten(root: SpoolRoot, table: SpoolTable, reactor: PumpedReactor) -> None:
    reactor.wait(root.close())
    fewer = SpoolTable(path=table.path, shards=1)
    with pytest.raises(SpoolUnusable, match="2 shards"):
        SpoolRoot(fewer, reactor=reactor, now=lambda: START).open()
    more = SpoolRoot(SpoolTable(path=table.path, shards=3), reactor=reactor, now=lambda: START)
    assert [spool.shard for spool in more.open()] == [0, 1, 2]
    reactor.wait(more.close())


def test_the_history_is_kept_in_its_bounds_by_a_thread(root: SpoolRoot, reactor: PumpedReactor) -> None:
    (_, spool) = root.spools
    number = spool.new_id()
    (accepted,) = reactor.wait(spool.accept((letter(number, message_id="<1@example.org>", claim_for=OWNER),)))
    reactor.wait(spool.settle((outcome(accepted.recipients[0], State.DELIVERED),)))
    reactor.wait(spool.move_finished(START))
    assert len(reactor.wait(root.in_thread(lambda: root.history.search("<1@example.org>")))) == 1
    assert reactor.wait(root.retain(START + 15 * 86400)) == ["2027-01-15"]
    assert root.history.message(number) is None
