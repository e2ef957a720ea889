"""Large bodies: streamed, bounded, durable before they are named, and gone when nobody names them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mta.mail.envelope import BodyFile, State
from mta.mail.identifiers import format_id
from mta.spool import body as bodies
from mta.spool.contract import SpoolError, SpoolFailed, SpoolFull
from mta.testing.spools import HEADER, OWNER, House, SqliteHouse, digest, letter, outcome

BLOCK = b"x" * 65535 + b"\n"


def stream(house: House, blocks: int = 4) -> tuple[int, BodyFile]:
    number = house.spool.new_id()
    writer = house.spool.body_writer(number, lambda: None)
    for _ in range(blocks):
        writer.write(BLOCK)
    return number, house.wait(writer.finish())


def folder(sqlite: SqliteHouse) -> list[str]:
    return sorted(path.name for path in (sqlite.root / "0" / "body").iterdir())


def settle_lanes(sqlite: SqliteHouse) -> None:
    """What the body threads were given is done."""
    for lane in sqlite.sqlite._bodies._lanes:
        sqlite.wait(lane.submit(lambda: None))


def test_a_streamed_body_is_read_back_whole(house: House) -> None:
    number, body = stream(house)
    assert body.size == 4 * len(BLOCK)
    house.wait(house.spool.accept((letter(number, body=body, sha256=digest(HEADER, BLOCK * 4)),)))
    content = house.wait(house.spool.content(number))
    assert content.body == body
    assert house.spool.body_path(body).read_bytes() == BLOCK * 4


def test_an_empty_body_is_a_file_too(house: House) -> None:
    _, body = stream(house, 0)
    assert (body.size, house.spool.body_path(body).read_bytes()) == (0, b"")


def test_a_damaged_file_is_found(sqlite: SqliteHouse) -> None:
    number, body = stream(sqlite)
    sqlite.wait(sqlite.spool.accept((letter(number, body=body, sha256=digest(HEADER, BLOCK * 4)),)))
    path = sqlite.spool.body_path(body)
    path.write_bytes(BLOCK * 3 + BLOCK[::-1])
    with pytest.raises(SpoolFailed):
        sqlite.wait(sqlite.spool.content(number))
    path.unlink()
    with pytest.raises(SpoolFailed, match="gone"):
        sqlite.wait(sqlite.spool.content(number))
    told = sqlite.wait(sqlite.spool.message(number))
    assert told is not None
    assert told[1][0].held


def test_a_slow_disk_pauses_who_writes_and_lets_him_go_on(sqlite: SqliteHouse) -> None:
    slow = threading.Event()
    for lane in sqlite.sqlite._bodies._lanes:
        lane.send(slow.wait, 10)
    resumed: list[int] = []
    writer = sqlite.spool.body_writer(sqlite.spool.new_id(), lambda: resumed.append(1))
    taken = 0
    while writer.write(BLOCK):
        taken += len(BLOCK)
        assert taken <= bodies.QUEUE_OCTETS
    assert not resumed
    slow.set()
    settle_lanes(sqlite)
    assert resumed == [1]
    assert sqlite.wait(writer.finish()).size == taken + len(BLOCK)


def test_what_is_aborted_is_gone(sqlite: SqliteHouse) -> None:
    for ended in (False, True):
        writer = sqlite.spool.body_writer(sqlite.spool.new_id(), lambda: None)
        writer.write(BLOCK)
        if ended:
            sqlite.wait(writer.finish())
        writer.abort()
        writer.abort()
        assert writer.write(BLOCK)
        settle_lanes(sqlite)
        assert folder(sqlite) == []
        with pytest.raises(SpoolError):
            sqlite.wait(writer.finish())


def test_an_abort_that_comes_late_does_not_take_an_accepted_body(house: House) -> None:
    number = house.spool.new_id()
    writer = house.spool.body_writer(number, lambda: None)
    writer.write(BLOCK)
    body = house.wait(writer.finish())
    accepted = house.spool.accept((letter(number, body=body, sha256=digest(HEADER, BLOCK)),))
    writer.abort()
    house.wait(accepted)
    writer.abort()
    if isinstance(house, SqliteHouse):
        settle_lanes(house)
    assert house.wait(house.spool.content(number)).body == body
    assert house.spool.body_path(body).read_bytes() == BLOCK


def test_a_body_whose_message_was_not_stored_is_removed(sqlite: SqliteHouse) -> None:
    number, body = stream(sqlite)
    with pytest.raises(SpoolError):
        sqlite.wait(sqlite.spool.accept((letter(number, body=body, helo="\udcff"),)))
    settle_lanes(sqlite)
    assert folder(sqlite) == []


def test_bodies_that_no_row_names_are_removed_at_the_next_start(sqlite: SqliteHouse) -> None:
    kept, body = stream(sqlite)
    sqlite.wait(sqlite.spool.accept((letter(kept, body=body),)))
    stream(sqlite)
    sqlite.spool.body_writer(sqlite.spool.new_id(), lambda: None).write(BLOCK)
    settle_lanes(sqlite)
    assert len(folder(sqlite)) == 3
    sqlite.crash(committed=True)
    assert folder(sqlite) == [format_id(kept)]


def test_a_body_goes_with_its_message(sqlite: SqliteHouse) -> None:
    number, body = stream(sqlite)
    (accepted,) = sqlite.wait(sqlite.spool.accept((letter(number, body=body, claim_for=OWNER),)))
    sqlite.wait(sqlite.spool.settle((outcome(accepted.recipients[0], State.RELAYED),)))
    assert sqlite.wait(sqlite.spool.move_finished(0)) == 1
    assert sqlite.wait(sqlite.spool.move_finished(0)) == 0
    assert folder(sqlite) == []


def test_file_and_directory_are_synced_before_it_is_told(sqlite: SqliteHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(bodies.os, "fdatasync", lambda descriptor: done.append("file"))
    monkeypatch.setattr(bodies, "sync_directory", lambda path: done.append(path.name))
    writer = sqlite.spool.body_writer(sqlite.spool.new_id(), lambda: None)
    writer.write(BLOCK)
    told = writer.finish().addCallback(lambda body: done.append("told"))
    sqlite.wait(told)
    assert done == ["file", "body", "told"]


@pytest.mark.parametrize(
    ("errno", "error"), [(28, SpoolFull), (122, SpoolFull), (24, SpoolFull), (5, SpoolFailed), (30, SpoolFailed)]
)
@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_a_body_that_cannot_be_written_fails_and_leaves_nothing(
    sqlite: SqliteHouse, monkeypatch: pytest.MonkeyPatch, call: str, errno: int, error: type[SpoolError]
) -> None:
    writer = sqlite.spool.body_writer(sqlite.spool.new_id(), lambda: None)
    writer.write(BLOCK)
    settle_lanes(sqlite)

    def fail(*_: object) -> int:
        raise OSError(errno, os.strerror(errno))

    with monkeypatch.context() as patch:
        patch.setattr(bodies.os, call, fail)
        writer.write(BLOCK)
        with pytest.raises(error):
            sqlite.wait(writer.finish())
    assert folder(sqlite) == []
    writer.abort()


def test_memory_stays_bounded_while_a_large_body_streams(sqlite: SqliteHouse) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ready: list[bool] = []
    writer = sqlite.spool.body_writer(sqlite.spool.new_id(), lambda: ready.append(True))
    for _ in range(1024):  # 64 MiB
        if not writer.write(bytes(65536)):
            while not ready:
                sqlite.reactor._one()
            ready.clear()
    assert sqlite.wait(writer.finish()).size == 64 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB


def test_a_body_that_ends_after_the_spool_is_refused(sqlite: SqliteHouse) -> None:
    writer = sqlite.spool.body_writer(sqlite.spool.new_id(), lambda: None)
    writer.write(BLOCK)
    sqlite.wait(sqlite.spool.close())
    with pytest.raises(SpoolError):
        sqlite.wait(writer.finish())
    writer.abort()


def test_a_body_path_lies_in_the_shard(sqlite: SqliteHouse) -> None:
    number, body = stream(sqlite)
    assert sqlite.spool.body_path(body) == Path(sqlite.root, "0", "body", format_id(number))
