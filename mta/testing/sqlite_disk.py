"""The real spool in a simulated house: SQLite on a real disk, whose work takes no simulated time.

hub = house.txmta("hub.test", spool=SqliteDisk(tmp_path, house.clock.now))

Each call is waited for, so that what happens next does not depend on threads. A crash opens another spool on a copy of the files as
they were at that moment. Call `close_files` at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from mta.spool.day import Told
from mta.testing.spools import SqliteHouse


class SqliteDisk:
    """A Spool. `now`: wall time."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._now = now
        folder.mkdir(parents=True, exist_ok=True)
        self._house = SqliteHouse(folder)
        self._house.now = now()
        self.shard = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._house.spool, name)
        return _Patient(found, self) if callable(found) else found

    def wait(self, result: Any) -> Any:
        """A Deferred that has fired in the place of one that has not."""
        if not isinstance(result, Deferred):
            return result
        try:
            return succeed(self._house.wait(result))
        except Exception:  # noqa: BLE001 - it is the caller's
            return fail(Failure())

    def tell_time(self) -> None:
        self._house.now = self._now()

    def body_writer(self, message: int, resume: Callable[[], None]) -> Any:
        return _Body(self._house.spool.body_writer(message, resume), self)

    @property
    def history(self) -> dict[int, Told]:
        return {told.message.id: told for told in self._house.told()}

    def crash(self) -> SqliteDisk:
        self._house.crash(committed=True)
        return self

    def close_files(self) -> None:
        """Threads and files of all its lives."""
        self._house.close()


class _Patient:
    """A method whose answer is waited for."""

    def __init__(self, method: Callable[..., Any], disk: SqliteDisk) -> None:
        self._method, self._disk = method, disk

    def __call__(self, *args: Any, **kw: Any) -> Any:
        self._disk.tell_time()
        return self._disk.wait(self._method(*args, **kw))


class _Body:
    """A BodyWriter, whose queue never fills: each block is on its way before the next one comes."""

    def __init__(self, writer: Any, disk: SqliteDisk) -> None:
        self._writer, self._disk = writer, disk

    def write(self, block: bytes) -> bool:
        self._writer.write(block)
        return True

    def finish(self) -> Any:
        return self._disk.wait(self._writer.finish())

    def abort(self) -> None:
        self._writer.abort()
