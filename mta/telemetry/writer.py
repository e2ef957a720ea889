"""The thread that writes the event log, so that a slow disk or a blocked pipe never stops the reactor.

A line that can't be written is dropped and counted: mail goes before its log. A torn line (the disk filled in its middle) is
ended before the next one, so that one line stays one event.

The thread shares the GIL with a busy reactor and may wait milliseconds for each turn of its own, so it takes all that waits at once:
the further it falls behind, the fewer turns a line costs.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

STANDARD_OUTPUT = "-"
_MODE = 0o640  # a log names people: readable by mta and its group


class Target:
    """Where lines go: a file opened for appending, or standard output."""

    def __init__(self, path: Path | str) -> None:
        """Raises OSError when the file can't be opened."""
        self.path = path
        self._own = str(path) != STANDARD_OUTPUT
        self.descriptor = (
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE) if self._own else 1
        )

    def write(self, data: memoryview) -> int:
        """Octets written. Waits while a pipe is full. Raises OSError."""
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:  # somebody made our standard output non-blocking
            select.select([], [self.descriptor], [], 1.0)
            return 0

    def close(self) -> None:
        if self._own:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)


WRITE_OCTETS = 1 << 20  # gathered into one write


class _Lines(NamedTuple):
    data: bytes
    number: int


class _Stop(NamedTuple):
    done: Callable[[], None]


class LineWriter:
    """Owns the target and the thread. All methods are called in the reactor thread; none of them blocks.

    `in_reactor(callable)` runs something in the reactor thread (reactor.callFromThread). `lost_lines` and `faults` are written
    by the thread and only read by others.
    """

    def __init__(
        self,
        target: Target,
        in_reactor: Callable[[Callable[[], None]], None],
        *,
        backlog_lines: int,
        report: Callable[[int, str], str],
    ) -> None:
        self._target = target
        self._in_reactor = in_reactor
        self._backlog_lines = backlog_lines
        self._report = report  # (lines lost, why) -> the line that says so
        self._queue: SimpleQueue[_Lines | _Stop | Callable[[], None]] = SimpleQueue()
        self._taken_lines = 0  # reactor thread
        self._done_lines = 0  # writer thread
        self.lost_lines = 0  # writer thread
        self.fault = ""  # writer thread: the last error, "" when the last write went well
        self._torn = False
        self._unreported = 0
        self._unreported_why = ""
        self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    def take(self, data: bytes, number: int) -> bool:
        """Queue `number` whole lines. False: the backlog is full, none was taken."""
        if self._taken_lines - self._done_lines + number > self._backlog_lines:
            return False
        self._taken_lines += number
        self._queue.put(_Lines(data, number))
        return True

    def switch(self, path: Path | str, done: Callable[[OSError | None], None]) -> None:
        """Open `path` anew (logrotate), behind the lines taken before. On an error the old file stays in use."""

        def reopen() -> None:
            error: OSError | None = None
            try:
                target = Target(path)
            except OSError as caught:
                error = caught
            else:
                self._target.close()
                self._target, self._torn = target, False
            self._in_reactor(lambda: done(error))

        self._queue.put(reopen)

    def stop(self, done: Callable[[], None]) -> None:
        """Write what was taken, close, end the thread; then `done` in the reactor thread."""
        self._queue.put(_Stop(done))

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            blocks, number, octets = [], 0, 0
            while isinstance(item, _Lines):
                blocks.append(item.data)
                number += item.number
                octets += len(item.data)
                try:
                    if octets > WRITE_OCTETS:
                        break
                    item = self._queue.get_nowait()
                except Empty:
                    break
            if blocks:
                self._write_or_lose(b"".join(blocks), number)
            if isinstance(item, _Stop):
                self._target.close()
                self._in_reactor(item.done)
                return
            if not isinstance(item, _Lines):
                item()

    def _write_or_lose(self, data: bytes, number: int) -> None:
        try:
            self._write(data)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next lines get their chance
            self.lost_lines += number
            self._unreported += number
            self._unreported_why = self.fault = str(error) or type(error).__name__
        else:
            self._unreported, self.fault = 0, ""
        self._done_lines += number

    def _write(self, data: bytes) -> None:
        if self._unreported:
            data = self._report(self._unreported, self._unreported_why).encode("ascii", "backslashreplace") + data
        if self._torn:
            data = b"\n" + data
        view = memoryview(data)
        while view:
            written = self._target.write(view)
            if written:
                self._torn = view[written - 1] != 0x0A
                view = view[written:]
