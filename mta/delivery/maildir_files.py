"""The file work of maildir delivery: blocking, so it is called in a thread; several deliveries at once share their syncs.

For each delivery: written under `tmp`, fsynced, renamed into `new`, and `new` fsynced, before it counts as delivered: a power
cut later loses nothing (law 1), and a reader never sees half a message. A failure leaves nothing behind but the reader's peace.

Below the route's root no symbolic link is followed: each directory is opened by its parent's descriptor with O_NOFOLLOW, and the
file is created by descriptor too, so nobody who owns a mailbox can lead a delivery elsewhere (SAFETY 3.6).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mta.delivery.mailbox_path import MailboxPath
from mta.delivery.rendition import local_lines
from mta.mail.outcome import Deferred, Delivered

COPY_BLOCK_OCTETS = 256 * 1024
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# RFC 3463: 4.2.2 mailbox full, 4.3.1 mail system full, 4.3.0 other
_STATUS = {errno.ENOSPC: "4.3.1", errno.EDQUOT: "4.2.2"}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One copy for one mailbox. `head`: header, empty line, and the body when it is in memory; `body`: a file to append."""

    path: MailboxPath
    head: bytes
    body: Path | None = None
    body_octets: int = 0


class MaildirFiles:
    """Writes into maildirs. One object may be used by several threads. `now`: wall clock, seconds; `host`: for file names."""

    def __init__(self, host: str, now: Callable[[], float], process: int | None = None) -> None:
        # The maildir convention: no "/" and no ":" in a name
        self._host = host.replace("/", "\\057").replace(":", "\\072")
        self._now = now
        self._process = os.getpid() if process is None else process
        self._count = itertools.count(1)  # next() is atomic

    def deliver(self, deliveries: Sequence[Delivery]) -> list[Delivered | Deferred]:
        """Deliver all; the outcomes in their order. Never raises an OSError."""
        batch = _Batch()
        try:
            for index, delivery in enumerate(deliveries):
                self._write(batch, index, delivery)
            batch.publish()
        finally:
            batch.close()
        return [batch.outcomes[index] for index in range(len(deliveries))]

    def _write(self, batch: _Batch, index: int, delivery: Delivery) -> None:
        try:
            maildir = batch.maildir(delivery.path)
            name = self._unique_name()
            descriptor = os.open(name, _NEW_FILE, FILE_MODE, dir_fd=maildir.tmp)
        except OSError as error:
            batch.outcomes[index] = _deferred(error)
            return
        file = _File(index, maildir, name, descriptor, delivery.path.relative)
        batch.files.append(file)
        try:
            file.size = _fill(descriptor, delivery)
        except OSError as error:
            batch.drop(file, error)

    def _unique_name(self) -> str:
        """As the maildir convention has it: seconds, microseconds, process, count, host."""
        at = self._now()
        seconds = int(at)
        return f"{seconds}.M{int((at - seconds) * 1_000_000)}P{self._process}Q{next(self._count)}.{self._host}"


@dataclass(slots=True)
class _Maildir:
    tmp: int
    new: int


@dataclass(slots=True)
class _File:
    """A file under tmp, open."""

    index: int
    maildir: _Maildir
    name: str
    descriptor: int
    relative: str
    size: int = 0


@dataclass(slots=True)
class _Batch:
    """Directories open, files written and outcomes known so far."""

    maildirs: dict[MailboxPath, _Maildir] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)
    files: list[_File] = field(default_factory=list)
    outcomes: dict[int, Delivered | Deferred] = field(default_factory=dict)

    def drop(self, file: _File, error: OSError) -> None:
        """This one failed before it was published."""
        self.outcomes[file.index] = _deferred(error)
        with contextlib.suppress(OSError):  # readers of a maildir clear tmp of files older than 36 hours
            os.unlink(file.name, dir_fd=file.maildir.tmp)

    def maildir(self, path: MailboxPath) -> _Maildir:
        """Opened, made where it is missing. Raises OSError."""
        found = self.maildirs.get(path)
        if found is None:
            at = _open_root(path.root)
            try:
                for name in path.below:
                    below, _ = _enter(name, at)
                    os.close(at)
                    at = below
                tmp, _ = self._keep(_enter("tmp", at))
                new, made = self._keep(_enter("new", at))
                if made:
                    os.close(_enter("cur", at)[0])  # a maildir has three; readers rely on it
            finally:
                os.close(at)
            found = self.maildirs[path] = _Maildir(tmp, new)
        return found

    def _keep(self, opened: tuple[int, bool]) -> tuple[int, bool]:
        self.descriptors.append(opened[0])
        return opened

    def publish(self) -> None:
        """Sync, from tmp to new, one sync for each directory: only now is it delivered.

        Files are synced after all were written: one commit of the file system's journal serves them all.
        """
        for file in self.files:
            if file.index not in self.outcomes:
                try:
                    os.fsync(file.descriptor)
                except OSError as error:
                    self.drop(file, error)
        renamed: dict[int, list[tuple[int, str]]] = {}
        for file in self.files:
            if file.index in self.outcomes:
                continue
            final = f"{file.name},S={file.size}"
            try:
                os.rename(file.name, final, src_dir_fd=file.maildir.tmp, dst_dir_fd=file.maildir.new)
            except OSError as error:
                self.drop(file, error)
                continue
            place = f"{file.relative}/new/{final}" if file.relative else f"new/{final}"
            renamed.setdefault(file.maildir.new, []).append((file.index, place))
        for directory, done in renamed.items():
            problem: OSError | None = None
            try:
                os.fsync(directory)
            except OSError as error:
                problem = error
            for index, place in done:
                # After a failed sync nobody knows what is on disk: the message may be there, and it is tried again.
                self.outcomes[index] = (
                    Delivered(250, "2.0.0", f"maildir {place}") if problem is None else _deferred(problem, True)
                )

    def close(self) -> None:
        for file in self.files:
            os.close(file.descriptor)
        for descriptor in self.descriptors:
            os.close(descriptor)


def _open_root(root: str) -> int:
    try:
        return os.open(root, _ROOT)
    except FileNotFoundError:
        os.makedirs(root, DIRECTORY_MODE, exist_ok=True)
        _sync_directory(os.path.dirname(os.path.abspath(root)))
        return os.open(root, _ROOT)


def _enter(name: str, parent: int) -> tuple[int, bool]:
    """A directory below `parent`, and whether it was made. Raises OSError: ENOTDIR or ELOOP for a link."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent), False
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # another thread made it
            os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
        os.fsync(parent)
        return os.open(name, _DIRECTORY, dir_fd=parent), True


def _fill(descriptor: int, delivery: Delivery) -> int:
    """Write it all; the octets written. Raises OSError, also when the body's file is shorter than it was."""
    size = _write_all(descriptor, local_lines(delivery.head))
    if delivery.body is None:
        return size
    copied, held = 0, b""
    with delivery.body.open("rb", buffering=0) as body:
        while block := body.read(COPY_BLOCK_OCTETS):
            copied += len(block)
            block = held + block
            held = b"\r" if block.endswith(b"\r") else b""
            size += _write_all(descriptor, local_lines(block[: len(block) - len(held)]))
    if copied != delivery.body_octets:
        raise OSError(errno.EIO, f"the stored body has {copied} octets of {delivery.body_octets}")
    return size + _write_all(descriptor, held)


def _write_all(descriptor: int, data: bytes) -> int:
    done = os.write(descriptor, data) if data else 0
    while done < len(data):
        done += os.write(descriptor, memoryview(data)[done:])
    return len(data)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, _ROOT)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _deferred(error: OSError, uncertain: bool = False) -> Deferred:
    """Every trouble of the disk is temporary: somebody can mend it."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    detail = f": {error.strerror}" if error.strerror and error.strerror != reason else ""
    return Deferred(0, _STATUS.get(error.errno or 0, "4.3.0"), f"maildir: {reason}{detail}", uncertain)
