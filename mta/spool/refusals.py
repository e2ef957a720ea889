"""What was refused, for `mta why`: lines of JSON in two files, the newer and the older, that together keep to a limit.

Never synced, and no part of the spool: an attacker must not make us write that. `note` costs the reactor one call and never
blocks; what the thread can't keep up with is dropped and counted.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mta.spool.lane import Lane, Reactor
from mta.telemetry.metrics import counters

BACKLOG_LINES = 5_000  # waiting for the thread
_TOGETHER = 200
_NEW, _OLD = "refusals.jsonl", "refusals.1.jsonl"
_TAIL_OCTETS = 1 << 16

LOST = counters("mta_refusals_lost_total", "Refusals that were not remembered: too many at once, or no space").bound()
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


class Refusals:
    """`note` is called in the reactor thread. `limit_octets` is for both files together."""

    def __init__(self, folder: Path, limit_octets: int, reactor: Reactor) -> None:
        self.folder = folder
        self.limit_octets = limit_octets
        self._lane = Lane("refusals", reactor)
        self._waiting: list[Mapping[str, object]] = []
        self._writing = 0
        self._descriptor = -1
        self._octets = 0

    def note(self, entry: Mapping[str, object]) -> None:
        """Remember a refusal: JSON-able values; "at", "client", "sender" and "recipient" are what it is found by."""
        if len(self._waiting) + self._writing >= BACKLOG_LINES:
            LOST.value += 1
            return
        self._waiting.append(entry)
        if not self._writing:
            self._write()

    def _write(self) -> None:
        batch, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
        self._writing = len(batch)
        self._lane.submit(self._append, batch).addCallbacks(self._written, self._written)

    def _written(self, lost: object) -> None:
        if lost:
            LOST.value += self._writing
        self._writing = 0
        if self._waiting:
            self._write()

    def close(self) -> None:
        if self._waiting:
            self._lane.send(self._append, self._waiting)
            self._waiting = []
        self._lane.send(self._close)
        self._lane.stop()
        self._lane.join()

    # --- in the lane ----------------------------------------------------------------------------------------------

    def _append(self, batch: list[Mapping[str, object]]) -> bool:
        """True: they were lost."""
        data = "".join([_encode(dict(entry)) + "\n" for entry in batch]).encode("ascii")
        try:
            if self._descriptor < 0:
                self._open()
            self._octets += os.write(self._descriptor, data)
            if self._octets > self.limit_octets // 2:
                self._close()
                (self.folder / _NEW).replace(self.folder / _OLD)
        except OSError:
            self._close()
            return True
        return False

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self.folder / _NEW, flags, 0o600)
        self._octets = os.fstat(self._descriptor).st_size
        if self._octets:  # a line may be torn: a crash, or a full disk
            os.write(self._descriptor, b"\n")

    def _close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def search(self, text: str, limit: int = 20) -> list[dict[str, object]]:
        """What fits an address, "@domain", or a peer's address; "" fits all. Newest first. Blocks; any thread or process."""
        return search_refusals(self.folder, text, limit)


def search_refusals(folder: Path, text: str, limit: int = 20) -> list[dict[str, object]]:
    """The same, of a daemon that may be stopped."""
    found: list[dict[str, object]] = []
    sought = text.strip().lower()
    needle = _encode(sought)[1:-1].encode("ascii")
    for name in (_NEW, _OLD):
        for line in _lines_backwards(folder / name):
            if len(found) >= limit:
                return found
            if needle not in line.lower():
                continue
            try:
                entry = json.loads(line)
            except ValueError:  # torn
                continue
            if isinstance(entry, dict) and (not sought or _fits(entry, sought)):
                found.append(entry)
    return found


def _fits(entry: dict[str, object], sought: str) -> bool:
    for key in ("sender", "recipient", "client", "auth"):
        for value in str(entry.get(key, "")).lower().split(","):
            bare = value.strip().strip("<>")
            if sought == (bare or value) or (sought.startswith("@") and bare.endswith(sought)):
                return True
    return False


def _lines_backwards(path: Path) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        end = os.fstat(descriptor).st_size
        rest = b""
        while end > 0:
            size = min(_TAIL_OCTETS, end)
            end -= size
            lines = (os.pread(descriptor, size, end) + rest).split(b"\n")
            rest = lines[0]
            yield from reversed([line for line in lines[1:] if line])
        if rest:
            yield rest
    finally:
        os.close(descriptor)
