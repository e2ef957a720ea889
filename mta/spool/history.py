"""The history: finished messages, a file a day, found by ID, address, Message-ID or a next hop's queue ID.

Readable by other processes, while the daemon runs and when it is stopped. Retention unlinks whole days. Blocking: it is used in
a thread of the spool, or by a command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import apsw

from mta.mail.identifiers import TEXT_LENGTH, made_at, parse_id
from mta.spool.contract import SpoolError
from mta.spool.day import Day, Finished, Told, day_name, days

_LEFTOVERS = ("", "-journal")


class History:
    """The folder of days of a spool, all shards together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def search(self, text: str, limit: int = 20) -> list[Told]:
        """Messages that fit a queue ID, an address, "@domain", a Message-ID or a next hop's queue ID; newest first.

        Raises SpoolError when a day can't be read.
        """
        found: list[Told] = []
        if len(text) == TEXT_LENGTH:
            with contextlib.suppress(ValueError):
                told = self.message(parse_id(text))
                if told is not None:
                    found.append(told)
        for name, path in days(self.folder):
            if len(found) >= limit:
                break
            with _reading(name, path) as day:
                for identifier in day.find(text, limit - len(found)):
                    told = day.message(identifier)
                    if told is not None:
                        found.append(told)
        return found

    def message(self, identifier: int) -> Told | None:
        """A finished message. It ended after it was made, so the days before are not opened. Raises SpoolError."""
        first = day_name(made_at(identifier) - 86400)  # an ID may be made ahead of the clock; a day is much more
        for name, path in reversed([one for one in days(self.folder) if one[0] >= first]):
            with _reading(name, path) as day:
                told = day.message(identifier)
            if told is not None:
                return told
        return None

    def copy(self, database: Path, vfs: str | None, told: Iterable[Finished]) -> None:
        """Copy finished messages to their days: those of their last journal entries, so that a copy made twice is one.

        Durable when it returns. Raises apsw.Error.
        """
        by_day: dict[str, list[Finished]] = {}
        for one in told:
            by_day.setdefault(day_name(one.at), []).append(one)
        for name, those in by_day.items():
            with contextlib.closing(Day(self.folder / f"{name}.db", write=True)) as day:
                day.copy(database, vfs, those)

    def mend(self) -> None:
        """At start: end what a crash cut off in a day's file, which a reader may not. Raises apsw.Error."""
        for _, path in days(self.folder):
            if path.with_name(path.name + "-journal").exists():
                Day(path, write=True).close()

    def retain(self, now: float, seconds: float, octets: int) -> list[str]:
        """Unlink days that ended more than `seconds` ago, then the oldest until the rest fits; today stays. Their names."""
        oldest, today = day_name(now - seconds), day_name(now)
        gone: list[str] = []
        total = 0
        for name, path in days(self.folder):
            total += path.stat().st_size
            if name < today and (name < oldest or total > octets):
                for leftover in _LEFTOVERS:
                    path.with_name(path.name + leftover).unlink(missing_ok=True)
                gone.append(name)
        return gone


class _reading(contextlib.AbstractContextManager[Day]):  # noqa: N801 - reads as a verb
    """A day opened to read, its faults in our words."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path

    def __enter__(self) -> Day:
        try:
            self._day = Day(self._path)
        except apsw.Error as error:
            raise SpoolError(f"the history of {self._name} can't be opened: {error}") from error
        return self._day

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._day.close()
        if isinstance(error, apsw.Error):
            raise SpoolError(f"the history of {self._name} can't be read: {error}") from error
