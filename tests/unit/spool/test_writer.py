"""The writer: many works in one commit, and what becomes of them when the disk fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from twisted.internet.defer import Deferred, gatherResults

from mta.mail.envelope import State
from mta.spool import writer as writing
from mta.spool.contract import Change, Event, JournalEntry, Selection, SpoolError, SpoolFailed, SpoolFull
from mta.spool.sqlite import SqliteSpool, open_spool
from mta.testing.pumped_reactor import PumpedReactor
from mta.testing.spools import OWNER, START, SqliteHouse, letter, outcome


def commits(sqlite: SqliteHouse) -> int:
    return sqlite.sqlite._writer.commits


def stand_before_the_writer(sqlite: SqliteHouse) -> threading.Event:
    """No commit is made until the event is set."""
    sqlite.hold_commits()
    assert sqlite._hold is not None
    return sqlite._hold


def test_what_waits_is_committed_together(sqlite: SqliteHouse) -> None:
    before = commits(sqlite)
    go = stand_before_the_writer(sqlite)
    waiting = [sqlite.spool.accept((letter(sqlite.spool.new_id()),)) for _ in range(40)]
    go.set()
    sqlite.wait(gatherResults(waiting))
    assert commits(sqlite) - before <= 2  # the first may have gone alone


def test_the_reactor_is_woken_once_for_a_batch(sqlite: SqliteHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    go = stand_before_the_writer(sqlite)
    wakes: list[object] = []
    call = sqlite.reactor.callFromThread
    monkeypatch.setattr(sqlite.reactor, "callFromThread", lambda *args: (wakes.append(args), call(*args)))
    waiting = [sqlite.spool.accept((letter(sqlite.spool.new_id()),)) for _ in range(40)]
    go.set()
    sqlite.wait(gatherResults(waiting))
    assert len(wakes) <= 2


def test_settlements_wait_for_one_another_but_not_long(sqlite: SqliteHouse) -> None:
    (accepted,) = sqlite.wait(
        sqlite.spool.accept((letter(sqlite.spool.new_id(), *["a@example.net"] * 20, claim_for=OWNER),))
    )
    before = commits(sqlite)
    started = time.monotonic()
    waiting: list[Deferred[object]] = [
        sqlite.spool.settle((outcome(one, State.DELIVERED),)) for one in accepted.recipients
    ]
    sqlite.wait(gatherResults(waiting))
    assert commits(sqlite) - before <= 2
    assert time.monotonic() - started < 1


def test_a_lone_settlement_is_committed_though_nothing_joins_it(sqlite: SqliteHouse) -> None:
    (accepted,) = sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id(), claim_for=OWNER),)))
    (done,) = sqlite.wait(sqlite.spool.settle((outcome(accepted.recipients[0], State.DELIVERED),)))
    assert done.stale == ()


def test_a_value_that_cannot_be_stored_hurts_only_its_owner(sqlite: SqliteHouse) -> None:
    go = stand_before_the_writer(sqlite)
    good = [sqlite.spool.accept((letter(sqlite.spool.new_id()),)) for _ in range(3)]
    bad = sqlite.spool.accept((letter(sqlite.spool.new_id(), helo="\udcff"),))
    twice = sqlite.spool.new_id()
    same = [sqlite.spool.accept((letter(twice),)) for _ in range(2)]
    go.set()
    with pytest.raises(SpoolError, match="surrogates"):
        sqlite.wait(bad)
    sqlite.wait(gatherResults(good))
    sqlite.wait(same[0])
    with pytest.raises(SpoolError, match="UNIQUE"):
        sqlite.wait(same[1])
    assert sqlite.wait(sqlite.spool.status()).messages == 4


def test_without_space_acceptances_fail_and_settlements_that_fit_go_on(sqlite: SqliteHouse) -> None:
    (accepted,) = sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id(), claim_for=OWNER),)))
    connection = sqlite.sqlite._writer._connection
    pages = connection.pragma("page_count")
    connection.execute(f"PRAGMA max_page_count={pages + 1}")
    go = stand_before_the_writer(sqlite)
    large = sqlite.spool.accept((letter(sqlite.spool.new_id(), body=bytes(100_000)),))
    settled = sqlite.spool.settle((outcome(accepted.recipients[0], State.DELIVERED),))
    go.set()
    with pytest.raises(SpoolFull):
        sqlite.wait(large)
    assert sqlite.wait(settled)[0].stale == ()
    connection.execute("PRAGMA max_page_count=1000000")
    sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id(), body=bytes(100_000)),)))


def test_another_programs_lock_refuses_the_batch_and_not_one_after_the_other(sqlite: SqliteHouse) -> None:
    sqlite.sqlite._writer._connection.set_busy_timeout(200)
    go = stand_before_the_writer(sqlite)
    started = time.monotonic()
    waiting = [sqlite.spool.accept((letter(sqlite.spool.new_id()),)) for _ in range(30)]
    for each in waiting:
        with pytest.raises(SpoolError, match="another program"):
            sqlite.wait(each)
    assert time.monotonic() - started < 3
    go.set()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id()),)))
            break
        except SpoolError:
            continue
    assert sqlite.wait(sqlite.spool.status()).messages == 1


class Faulty(apsw.VFS):
    """A disk whose syncs of the log can fail."""

    def __init__(self) -> None:
        self.failing = 0  # that many more times
        self.no_log = False  # nothing opens
        super().__init__("faulty-disk", "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:
        text = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        if self.no_log and text.endswith("-wal"):
            raise apsw.CantOpenError("no such disk")
        return FaultyFile(self, name, flags, text)


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: Faulty, name: object, flags: list[int], text: str) -> None:
        self.disk, self.text = disk, text
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        if self.disk.failing > 0 and self.text.endswith("-wal"):
            self.disk.failing -= 1
            raise apsw.IOError("the disk says EIO")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[Faulty]:
    made = Faulty()
    yield made
    made.unregister()


@pytest.fixture
def spool(disk: Faulty, tmp_path: Path) -> Iterator[SqliteSpool]:
    reactor = PumpedReactor()
    made = open_spool(tmp_path, 0, reactor=reactor, clock=lambda: START, create=True, vfs="faulty-disk")
    yield made
    reactor.wait(made.close())


def wait(spool: SqliteSpool, deferred: Deferred[object]) -> object:
    return spool._reactor.wait(deferred)  # type: ignore[attr-defined]


def test_after_a_failed_sync_the_batch_is_refused_and_the_shard_serves_again(spool: SqliteSpool, disk: Faulty) -> None:
    kept = spool.new_id()
    wait(spool, spool.accept((letter(kept, claim_for=OWNER),)))
    first = spool._writer._connection
    disk.failing = 1
    refused = spool.new_id()
    with pytest.raises(SpoolFailed, match="EIO"):
        wait(spool, spool.accept((letter(refused),)))
    assert spool._writer._connection is not first  # opened anew, not tried again
    wait(spool, spool.accept((letter(spool.new_id()),)))
    assert wait(spool, spool.message(kept)) is not None
    assert wait(spool, spool.message(refused)) is None
    status = wait(spool, spool.status())
    assert (status.failing, status.messages, status.claimed) == ("", 2, 1)  # type: ignore[attr-defined]


def test_a_disk_that_stays_broken_is_believed_nothing_until_it_is_whole(
    spool: SqliteSpool, disk: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "REOPEN_SECONDS", 0.05)
    (accepted,) = wait(spool, spool.accept((letter(spool.new_id(), claim_for=OWNER),)))  # type: ignore[misc]
    disk.failing, disk.no_log = 1, True
    for _ in range(3):
        with pytest.raises(SpoolFailed):
            wait(spool, spool.accept((letter(spool.new_id()),)))
        with pytest.raises(SpoolFailed):
            wait(spool, spool.settle((outcome(accepted.recipients[0], State.DELIVERED),)))
        assert not spool.has_room(1)
    assert "CantOpen" in spool._writer.failing
    disk.no_log = False
    deadline = time.monotonic() + 10
    while spool._writer.failing and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    wait(spool, spool.accept((letter(spool.new_id()),)))
    (done,) = wait(spool, spool.settle((outcome(accepted.recipients[0], State.DELIVERED),)))  # type: ignore[misc]
    assert done.stale == ()
    assert spool.has_room(1)


def test_a_refused_message_that_reached_the_log_all_the_same_is_removed(spool: SqliteSpool) -> None:
    """The sync may fail behind a commit that the next reader of the log finds whole."""
    ghost = spool.new_id()
    writer = spool._writer

    def commit_then_fail(batch: list[object]) -> None:
        type(writer)._transact(writer, batch)  # type: ignore[arg-type]
        del writer._transact  # type: ignore[attr-defined]
        raise apsw.IOError("the disk says EIO")

    writer._transact = commit_then_fail  # type: ignore[assignment, method-assign]
    with pytest.raises(SpoolFailed):
        wait(spool, spool.accept((letter(ghost),)))
    wait(spool, spool.accept((letter(spool.new_id()),)))
    assert wait(spool, spool.message(ghost)) is None
    assert wait(spool, spool.status()).messages == 1  # type: ignore[attr-defined]


def test_a_claim_that_nobody_heard_of_is_free_again_when_its_commit_reached_the_log(spool: SqliteSpool) -> None:
    failed = letter(spool.new_id(), claim_for=OWNER)
    report = letter(spool.new_id(), claim_for=OWNER)
    waiting = letter(spool.new_id())
    (accepted, _) = wait(spool, spool.accept((failed, waiting)))  # type: ignore[misc]
    settlement = replace(outcome(accepted.recipients[0], State.FAILED), reports=(report,))
    writer = spool._writer

    def commit_then_fail(batch: list[object]) -> None:
        type(writer)._transact(writer, batch)  # type: ignore[arg-type]
        del writer._transact  # type: ignore[attr-defined]
        raise apsw.IOError("the disk says EIO")

    (destination,) = {each.destination for each in waiting.recipients}
    for ask in (
        lambda: spool.settle((settlement,)),
        lambda: spool.claim(destination, 10, OWNER, START + 1, START + 1e9),
    ):
        writer._transact = commit_then_fail  # type: ignore[assignment, method-assign]
        with pytest.raises(SpoolFailed):
            wait(spool, ask())
    for message in (report.message.id, waiting.message.id):
        _, rows = wait(spool, spool.message(message))  # type: ignore[misc]
        assert [row.owner for row in rows] == [0] * len(rows)
    assert wait(spool, spool.status()).claimed == 0  # type: ignore[attr-defined]


def disk_with(percent: float) -> Callable[[Path], os.statvfs_result]:
    """What statvfs says of a disk of 4 TiB with so much left."""
    blocks = 1 << 30
    free = int(blocks * percent / 100)
    return lambda _: os.statvfs_result((4096, 4096, blocks, free, free, 1000, 900, 900, 0, 255))


def test_below_two_percent_nothing_more_is_let_in_and_settlements_go_on(sqlite: SqliteHouse) -> None:
    (accepted,) = sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id(), claim_for=OWNER),)))
    sqlite.sqlite.space._statvfs = disk_with(1.9)
    sqlite.reactor.advance(2)
    with pytest.raises(SpoolFull):
        sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id()),)))
    assert not sqlite.spool.has_room(1)
    (done,) = sqlite.wait(sqlite.spool.settle((outcome(accepted.recipients[0], State.DELIVERED),)))
    assert done.stale == ()
    sqlite.sqlite.space._statvfs = disk_with(4.9)
    sqlite.reactor.advance(2)
    assert not sqlite.spool.has_room(1)
    sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id()),)))  # what had begun before may end
    sqlite.sqlite.space._statvfs = disk_with(5.1)
    sqlite.reactor.advance(1)
    assert sqlite.spool.has_room(1 << 30)
    assert not sqlite.spool.has_room(1 << 40)


def test_the_log_is_brought_to_an_end_when_nobody_writes(sqlite: SqliteHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CHECKPOINT_IDLE_SECONDS", 0.02)
    database = sqlite.root / "0" / "spool.db"
    before = database.stat().st_size
    sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id(), body=bytes(100_000)),)))
    sqlite.wait(sqlite.spool.alter(Selection(), Change.HOLD, START, "root"))
    deadline = time.monotonic() + 10
    while database.stat().st_size <= before + 50_000 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert database.stat().st_size > before + 50_000


def test_the_log_does_not_grow_without_end_beside_a_reader(
    sqlite: SqliteHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CHECKPOINT_PAGES", 20)
    monkeypatch.setattr(writing, "CHECKPOINT_PAGES_MAX", 20)
    log = sqlite.root / "0" / "spool.db-wal"
    for _ in range(60):
        sqlite.wait(sqlite.spool.accept((letter(sqlite.spool.new_id(), body=bytes(100_000)),)))
        sqlite.wait(sqlite.spool.status())
    assert log.stat().st_size < 2_000_000


DISK_FULL = """
import sys, time
from pathlib import Path
from mta.mail.envelope import State
from mta.spool.contract import SpoolFull
from mta.spool.sqlite import open_spool
from mta.testing.pumped_reactor import PumpedReactor
from mta.testing.spools import OWNER, letter, outcome

place = Path(sys.argv[1])
reactor = PumpedReactor()
spool = open_spool(place / "spool", 0, reactor=reactor, clock=time.time, create=True)
ballast = place / "ballast"
accepted = []
told_no_room = False
for _ in range(2000):
    reactor.advance(2)
    if not spool.has_room(20_000):
        told_no_room = True
        break
    accepted += reactor.wait(spool.accept((letter(spool.new_id(), body=bytes(20_000), claim_for=OWNER),)))
assert told_no_room and len(accepted) > 10, "has_room never said no"
with open(ballast, "wb", buffering=0) as file:      # somebody else takes the rest
    try:
        while file.write(bytes(4096)): pass
    except OSError:
        pass
reactor.advance(2)
for _ in range(3):
    try:
        reactor.wait(spool.accept((letter(spool.new_id(), body=bytes(100_000)),)))
        raise SystemExit("accepted on a full disk")
    except SpoolFull:
        pass
writer = spool.body_writer(spool.new_id(), lambda: None)
writer.write(bytes(200_000))
try:
    reactor.wait(writer.finish())
    raise SystemExit("stored a body on a full disk")
except SpoolFull:
    pass
assert not list((place / "spool/0/body").iterdir()), "a part of a body is left"
ballast.unlink()
reactor.advance(2)
reactor.wait(spool.settle([outcome(one.recipients[0], State.DELIVERED) for one in accepted]))
assert reactor.wait(spool.move_finished(time.time(), 5000)) == len(accepted)
reactor.wait(spool.accept((letter(spool.new_id(), body=bytes(20_000)),)))
reactor.wait(spool.close())
print("ok", len(accepted))
"""


@pytest.mark.real
def test_a_full_disk_refuses_and_recovers_without_a_restart(tmp_path: Path) -> None:
    mount = ["unshare", "-m", "sh", "-c"]
    if subprocess.run([*mount, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root (unshare -m)")
    command = f"mount -t tmpfs -o size=8m tmpfs '{tmp_path}' && exec '{sys.executable}' -c \"$0\" '{tmp_path}'"
    done = subprocess.run([*mount, command, DISK_FULL], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout[:3]) == (0, "ok "), done.stderr


def test_an_entry_that_is_no_json_is_told_as_text(sqlite: SqliteHouse) -> None:
    number = sqlite.spool.new_id()
    entry = JournalEntry(number, START, Event.REROUTED, 0, {"path": Path("/x")})
    sqlite.wait(sqlite.spool.accept((letter(number, journal=(entry,)),)))
    assert sqlite.wait(sqlite.spool.events(number))[-1].data == {"path": "/x"}


def test_a_wait_that_brings_nobody_is_not_made_each_time(sqlite: SqliteHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(writing, "time", SlowClock(naps))
    for _ in range(60):
        go = stand_before_the_writer(sqlite)
        pair = [sqlite.spool.accept((letter(sqlite.spool.new_id()),)) for _ in range(2)]
        go.set()
        sqlite.wait(gatherResults(pair))
    assert 1 <= len(naps) < 30


class SlowClock:
    """The module time, its naps counted and not taken."""

    monotonic = staticmethod(time.monotonic)
    perf_counter = staticmethod(time.perf_counter)

    def __init__(self, naps: list[float]) -> None:
        self.sleep = naps.append
