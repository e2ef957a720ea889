"""The log takes everything, loses as little as it can, says what it lost, and never stops the mail."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mta.telemetry.eventlog import STOP_TIMEOUT_SECONDS, EventLog, NullLog
from mta.telemetry.writer import LineWriter, Target

AT = "2026-01-01T12:00:00.123Z"


class ThreadedClock(Clock):
    """A Clock whose callFromThread collects; `settle` runs what the thread sent."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Semaphore(0)
        self.sent: list[Callable[[], None]] = []

    def callFromThread(self, call: Callable[[], None]) -> None:
        self.sent.append(call)
        self.arrived.release()

    def settle(self) -> None:
        assert self.arrived.acquire(timeout=5)
        self.sent.pop(0)()


@pytest.fixture
def clock() -> ThreadedClock:
    return ThreadedClock()


def make(clock: ThreadedClock, path: Path, **more: object) -> EventLog:
    return EventLog(clock, path, stamp=lambda: AT, **more)  # type: ignore[arg-type]


def finish(clock: ThreadedClock, log: EventLog) -> None:
    done = log.stop()
    clock.settle()
    assert done.called


def test_events_reach_the_file_in_order(clock: ThreadedClock, tmp_path: Path) -> None:
    log = make(clock, tmp_path / "log")
    log.event("early", n=0)
    log.start()
    log.event("accepted", 1, from_="<a@b>")
    clock.advance(1)
    log.event("last")
    finish(clock, log)
    assert (tmp_path / "log").read_text() == f"{AT} early n=0\n{AT} accepted id=0000000000001 from=<a@b>\n{AT} last\n"
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_many_events_are_handed_over_at_once(clock: ThreadedClock, tmp_path: Path) -> None:
    log = make(clock, tmp_path / "log")
    log.start()
    for _ in range(100):
        log.event("x")
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(1)
    assert clock.getDelayedCalls() == []
    finish(clock, log)


def test_a_value_that_cannot_be_shown_still_logs_the_event(clock: ThreadedClock, tmp_path: Path) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    log = make(clock, tmp_path / "log")
    log.start()
    log.event("refused", 1, helo=Broken())  # type: ignore[arg-type]
    log.event("refused", -1 << 70)
    finish(clock, log)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == f"{AT} refused log_fault=RuntimeError fields=helo"
    assert len(lines) == 2


class FailingTarget(Target):
    """Fails with `error` while it is set; writes `most` octets at a time."""

    error: OSError | None = None
    most = 1 << 30

    def write(self, data: memoryview) -> int:
        if self.error is not None:
            raise self.error
        return super().write(data[: self.most])


def faulty(clock: ThreadedClock, path: Path, **more: object) -> tuple[EventLog, FailingTarget]:
    log, target = make(clock, path, **more), FailingTarget(path)
    log._open(target)
    return log, target


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not happen")


def test_a_full_disk_drops_lines_and_says_so_later(clock: ThreadedClock, tmp_path: Path) -> None:
    log, target = faulty(clock, tmp_path / "log")
    target.error = OSError(errno.ENOSPC, "No space left on device")
    log.event("one")
    log.event("two")
    clock.advance(1)
    wait_for(lambda: log.fault != "")
    assert log.fault == "[Errno 28] No space left on device"
    target.error = None
    log.event("three")
    clock.advance(1)
    assert log.dropped_lines == 2
    finish(clock, log)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0].endswith(' log-dropped lines=2 why="[Errno 28] No space left on device"')
    assert lines[1:] == [f"{AT} three"]


def test_a_torn_line_is_ended_before_the_next(clock: ThreadedClock, tmp_path: Path) -> None:
    log, target = faulty(clock, tmp_path / "log")
    sound, target.most = target.write, 10

    def half(data: memoryview) -> int:
        target.error = OSError(errno.ENOSPC, "full")
        target.write = sound  # type: ignore[method-assign]
        return os.write(target.descriptor, data[:10])

    target.write = half  # type: ignore[method-assign]
    log.event("torn")
    clock.advance(1)
    wait_for(lambda: log.fault != "")
    target.error = None
    log.event("whole")
    finish(clock, log)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == f"{AT} torn"[:10]
    assert "log-dropped lines=1" in lines[1]
    assert lines[2] == f"{AT} whole"


def test_a_stuck_target_neither_blocks_nor_grows(clock: ThreadedClock, tmp_path: Path) -> None:
    log, target = faulty(clock, tmp_path / "log", backlog_lines=10)
    release = threading.Event()
    sound = target.write

    def stuck(data: memoryview) -> int:
        release.wait(10)
        return sound(data)

    target.write = stuck  # type: ignore[method-assign]
    for number in range(25):
        log.event("x", n=number)
        clock.advance(1)
    assert log.dropped_lines == 15
    done = log.stop()
    assert not done.called
    clock.advance(STOP_TIMEOUT_SECONDS)
    assert done.called  # the daemon ends all the same
    release.set()


def test_lines_dropped_at_a_stuck_target_are_reported_when_it_moves(clock: ThreadedClock, tmp_path: Path) -> None:
    log, target = faulty(clock, tmp_path / "log", backlog_lines=2)
    release = threading.Event()
    sound = target.write

    def stuck(data: memoryview) -> int:
        release.wait(10)
        return sound(data)

    target.write = stuck  # type: ignore[method-assign]
    for number in range(5):
        log.event("x", n=number)
        clock.advance(1)
    release.set()
    wait_for(lambda: log._writer is not None and log._writer._done_lines == 2)
    log.event("x", n=5)
    finish(clock, log)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "x n=0",
        "x n=1",
        'log-dropped lines=3 why="the target is stuck"',
        "x n=5",
    ]


def test_reopen_follows_logrotate(clock: ThreadedClock, tmp_path: Path) -> None:
    log = make(clock, tmp_path / "log")
    log.start()
    log.event("before")
    (tmp_path / "log").rename(tmp_path / "log.1")
    done = log.reopen()
    clock.settle()
    assert done.called
    log.event("after")
    finish(clock, log)
    assert (tmp_path / "log.1").read_text() == f"{AT} before\n"
    assert (tmp_path / "log").read_text() == f"{AT} after\n"


def test_a_failed_reopen_keeps_the_old_file(clock: ThreadedClock, tmp_path: Path) -> None:
    log = make(clock, tmp_path / "log")
    log.start()
    failures: list[object] = []
    log.reopen(tmp_path / "none" / "log").addErrback(failures.append)
    clock.settle()
    assert len(failures) == 1
    finish(clock, log)
    assert f"{AT} log-reopen-failed path={tmp_path}/none/log" in (tmp_path / "log").read_text()


def test_start_with_a_target_that_cannot_be_opened_raises(clock: ThreadedClock, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        make(clock, tmp_path / "none" / "log").start()


def test_standard_output_is_a_target_and_stays_open() -> None:
    target = Target("-")
    target.close()
    os.fstat(target.descriptor)


def test_null_log_takes_everything() -> None:
    log = NullLog()
    log.event("accepted", 1, from_="x")
    assert log.stop().called


def test_the_writer_thread_ends(clock: ThreadedClock, tmp_path: Path) -> None:
    writer = LineWriter(Target(tmp_path / "log"), clock.callFromThread, backlog_lines=5, report=lambda n, why: "")
    writer.stop(lambda: None)
    clock.settle()
    writer._thread.join(5)
    assert not writer._thread.is_alive()
