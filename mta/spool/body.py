"""Large bodies: streamed to files by threads, so that neither the reactor waits for the disk nor memory grows with a message.

A body is written under its final name while nothing refers to it: what a crash leaves behind belongs to no message, and is
removed at the next start. It is durable, with its directory, before `finish` fires; only then a row may name it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mta.mail.envelope import BodyFile
from mta.mail.identifiers import format_id
from mta.spool.contract import SpoolError, SpoolFailed, SpoolFull
from mta.spool.disk import sync_directory
from mta.spool.lane import Lane, Reactor

QUEUE_OCTETS = 256 * 1024  # of one body on the way to the disk; beyond it the transport is paused
RESUME_OCTETS = 64 * 1024
LANES = 2  # one slow sync must not stop every other body
FOLDER = "body"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class Bodies:
    """The body files of a shard."""

    def __init__(self, directory: Path, shard: int, reactor: Reactor) -> None:
        self._directory = directory
        self._lanes = [Lane(f"spool-{shard}-body-{number}", reactor) for number in range(LANES)]
        self._turn = 0
        self._loose: dict[str, FileWriter] = {}  # bodies that no row is meant to name yet

    def writer(self, message: int, resume: Callable[[], None]) -> FileWriter:
        self._turn += 1
        name = f"{FOLDER}/{format_id(message)}"
        lane = self._lanes[self._turn % LANES]
        writer = FileWriter(self._directory / name, name, lane, resume, lambda: self._loose.pop(name, None))
        self._loose[name] = writer
        return writer

    def take(self, body: BodyFile) -> FileWriter | None:
        """A row is about to name it: from now on `abort` does nothing, however late it comes."""
        writer = self._loose.pop(body.path, None)
        if writer is not None:
            writer.taken = True
        return writer

    def path(self, body: BodyFile) -> Path:
        return self._directory / body.path

    def unlink(self, names: Iterable[str]) -> None:
        """Files whose messages are gone for good. Blocks. What can't be removed now is an orphan at the next start."""
        for name in names:
            with contextlib.suppress(OSError):
                (self._directory / name).unlink()

    def stop(self) -> None:
        for lane in self._lanes:
            lane.stop()

    def join(self) -> None:
        for lane in self._lanes:
            lane.join()


def remove_orphans(directory: Path, referenced: set[str]) -> int:
    """At start, before anything is written: bodies that no row names. How many they were."""
    orphans = [path for path in (directory / FOLDER).iterdir() if f"{FOLDER}/{path.name}" not in referenced]
    for path in orphans:
        path.unlink()
    return len(orphans)


class FileWriter:
    """A BodyWriter. Its methods are called in the reactor thread; those with an underscore and `in_lane` run in the lane."""

    def __init__(
        self, path: Path, name: str, lane: Lane, resume: Callable[[], None], forget: Callable[[], object]
    ) -> None:
        self._path, self._name, self._lane, self._resume, self._forget = path, name, lane, resume, forget
        self.taken = False  # a row names it, or is about to: it is not ours to remove
        self._queued = 0  # octets handed over and not yet written
        self._paused = self._ended = self._durable = False
        self._size = 0  # in the lane from here on
        self._descriptor = -1
        self._fault: OSError | None = None

    def write(self, block: bytes) -> bool:
        if self._ended:
            return True
        self._queued += len(block)
        self._lane.submit(self._write_in_lane, block).addBoth(self._written, len(block))
        if self._queued > QUEUE_OCTETS:
            self._paused = True
        return not self._paused

    def finish(self) -> Deferred[BodyFile]:
        if self._ended:
            return _fail(SpoolError("the body was ended before"))
        self._ended = True
        return self._lane.submit(self._finish_in_lane).addErrback(self._failed)

    def abort(self) -> None:
        if not self.taken:
            self.discard()

    def discard(self) -> None:
        """Remove it, taken or not: its row was not stored."""
        self._ended = True
        self._forget()
        self._lane.send(self._abort_in_lane)

    def _written(self, result: object, octets: int) -> None:
        self._queued -= octets
        if self._paused and self._queued <= RESUME_OCTETS:
            self._paused = False
            self._resume()  # also after its end: who paused reading for this body must read on

    def _failed(self, failure: Failure) -> BodyFile:
        error = failure.value
        if isinstance(error, OSError):
            if error.errno in _NO_SPACE:
                raise SpoolFull(f"no space left for a large body: {error.strerror}") from error
            raise SpoolFailed(f"a large body could not be written: {error.strerror}") from error
        failure.raiseException()
        raise AssertionError

    # --- in the lane ----------------------------------------------------------------------------------------------

    def _write_in_lane(self, block: bytes) -> None:
        if self._fault is not None or self._durable:
            return
        try:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            view = memoryview(block)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._size += len(block)
        except OSError as error:  # told by `finish`; the peer's octets until then go nowhere
            self._fault = error
            self._remove()

    def _finish_in_lane(self) -> BodyFile:
        if self._descriptor < 0 and self._fault is None:
            self._write_in_lane(b"")
        try:
            if self._fault is not None:
                raise self._fault
            os.fdatasync(self._descriptor)
            self._close()
            sync_directory(self._path.parent)
        except OSError:
            self._remove()
            raise
        self._durable = True
        return BodyFile(self._name, self._size)

    def _abort_in_lane(self) -> None:
        if self._fault is None:
            self._fault = OSError(errno.ECANCELED, "aborted")
            self._remove()

    def _remove(self) -> None:
        created = self._descriptor >= 0 or self._durable or self._size
        self._close()
        if created:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def _fail(error: SpoolError) -> Deferred[BodyFile]:
    deferred: Deferred[BodyFile] = Deferred()
    deferred.errback(error)
    return deferred
