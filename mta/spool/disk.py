"""The spool's place on disk: directories, the lock, the marker, and how much room there is.

ROOT/markers/SHARD      says that the shard exists: without its database, the spool was emptied
ROOT/history/           days of finished messages (history.py), shared by all shards
ROOT/refusals/          refused sessions (refusals.py)
ROOT/SHARD/lock         held by the process that has the shard
ROOT/SHARD/spool.db     the shard's database, with its -wal and -shm
ROOT/SHARD/body/        large bodies, one file each
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mta.mail.identifiers import SHARDS_MAX
from mta.spool.contract import SpoolLocked, SpoolUnusable

ACCEPT_FREE_SHARE = 0.05  # below it, MAIL is answered 452
STOP_FREE_SHARE = 0.02  # below it, what was already let in is not stored either: the rest is for settlements
ROOM_FACTOR = 1.5  # of the message's octets: once in the log, once in the database or file
_ROOM_CACHED_SECONDS = 1.0
# Above both no limit can be met within the second that a look counts for: what is owed is bounded by the log (some 100 MB).
PLENTY_OCTETS, PLENTY_SHARE = 8 << 30, 0.10
_DIRECTORY_MODE = 0o700  # mail is nobody else's business
_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class ShardPaths:
    """Where a shard's things lie."""

    root: Path
    shard: int

    @property
    def directory(self) -> Path:
        return self.root / str(self.shard)

    @property
    def database(self) -> Path:
        return self.directory / "spool.db"

    @property
    def bodies(self) -> Path:
        return self.directory / "body"

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def marker(self) -> Path:
        return self.root / "markers" / str(self.shard)

    @property
    def history(self) -> Path:
        return self.root / "history"

    @property
    def refusals(self) -> Path:
        return self.root / "refusals"


def shards_of(root: Path) -> list[int]:
    """The shards that a spool has, by its markers and directories."""
    found: set[int] = set()
    for folder in (root, root / "markers"):
        if folder.is_dir():
            found.update(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    return sorted(number for number in found if number < SHARDS_MAX)


def prepare(paths: ShardPaths, *, create: bool) -> None:
    """The directories. Raises SpoolUnusable with what an administrator should do."""
    if not 0 <= paths.shard < SHARDS_MAX:
        raise SpoolUnusable(f"there is no shard {paths.shard}: they are numbered 0 to {SHARDS_MAX - 1}")
    if not create and not paths.directory.is_dir():
        raise SpoolUnusable(f"there is no spool in {paths.directory}; the daemon makes it at its first start")
    try:
        for folder in (paths.root, paths.marker.parent, paths.history, paths.refusals, paths.directory, paths.bodies):
            folder.mkdir(mode=_DIRECTORY_MODE, parents=folder == paths.root, exist_ok=True)
        probe = paths.directory / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SpoolUnusable(
            f"the spool directory {error.filename or paths.root} can't be used by user {os.geteuid()}: {error.strerror}. "
            f"Mend it with: chown -R USER {paths.root}"
        ) from error


class ShardLock:
    """An flock on a file of its own: closing any descriptor of the database would drop SQLite's locks, never this one."""

    def __init__(self, path: Path) -> None:
        """Raises SpoolLocked, or SpoolUnusable when the file can't be opened."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        except OSError as error:
            raise SpoolUnusable(f"the lock file {path} can't be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            who = f"process {holder}" if holder else "another process"
            raise SpoolLocked(f"the spool {path.parent} is in use by {who}; stop it first") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_marker(paths: ShardPaths) -> str:
    """ "" where there is none."""
    try:
        return paths.marker.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def check_marker(paths: ShardPaths, *, create: bool) -> None:
    """Before the database is opened: an emptied spool is not silently begun anew. Raises SpoolUnusable."""
    missing = not paths.database.exists() or paths.database.stat().st_size == 0
    if missing and read_marker(paths):
        raise SpoolUnusable(
            f"the spool was emptied: {paths.marker} says that shard {paths.shard} holds mail, but {paths.database} is "
            f"{'empty' if paths.database.exists() else 'gone'}. Restore it from a copy; or, when its mail is given up for "
            f"good, remove {paths.marker} and start again"
        )
    if missing and not create:
        raise SpoolUnusable(f"there is no spool database {paths.database}; the daemon makes it at its first start")


def new_marker() -> str:
    return uuid.uuid4().hex


def write_marker(paths: ShardPaths, marker: str) -> None:
    """Durable when it returns: first the file, then its name. Raises OSError."""
    draft = paths.marker.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
    try:
        os.write(descriptor, marker.encode("ascii") + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(paths.marker)
    sync_directory(paths.marker.parent)
    sync_directory(paths.root)
    sync_directory(paths.directory)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FreeSpace:
    """How much the file system has left, the lesser of space and inodes.

    It is asked at most once a second. What we write ourselves in that second is taken off (`spend`), and when that leaves too little
    it is asked again at once: a fast load on a small disk must not find it full before we look.
    """

    def __init__(
        self, path: Path, seconds: Callable[[], float], statvfs: Callable[[Path], os.statvfs_result] = os.statvfs
    ) -> None:
        self._path, self._seconds, self._statvfs = path, seconds, statvfs
        self._next = float("-inf")
        self.octets = 0
        self.share = 1.0
        self._total = 0
        self._estimated = False
        self._plenty = False  # so much room that nothing needs to be reckoned

    def look(self) -> None:
        now = self._seconds()
        if now < self._next:
            return
        self._next = now + _ROOM_CACHED_SECONDS
        self._estimated = False
        try:
            found = self._statvfs(self._path)
        except OSError:  # what can't be asked can't be trusted
            self.octets, self.share, self._plenty = 0, 0.0, False
            return
        self.octets = found.f_bavail * found.f_frsize
        self._total = found.f_blocks * found.f_frsize
        share = found.f_bavail / found.f_blocks if found.f_blocks else 1.0
        inodes = found.f_favail / found.f_files if found.f_files else 1.0  # some file systems count none
        self.share = min(share, inodes)
        self._plenty = self.octets >= PLENTY_OCTETS and self.share >= PLENTY_SHARE

    def forget(self) -> None:
        """Ask again at the next look: a write has just failed."""
        self._next = float("-inf")

    def spend(self, octets: int) -> None:
        """A message of so many octets is about to be written."""
        spent = ROOM_FACTOR * octets
        self.octets -= int(spent)
        self.share -= spent / self._total if self._total else 0.0
        self._estimated = True
        if self.octets < PLENTY_OCTETS:
            self._plenty = False

    def has_room(self, octets: int, owed: int = 0) -> bool:
        """For a message of so many octets, and what is `owed` to what was accepted before it."""
        if self._plenty and octets < PLENTY_OCTETS // 8 and self._seconds() < self._next:
            return True
        return self._enough(ACCEPT_FREE_SHARE, int(ROOM_FACTOR * octets), owed)

    def must_stop(self) -> bool:
        if self._plenty and self._seconds() < self._next:
            return False
        return not self._enough(STOP_FREE_SHARE, 0, 0)

    def _enough(self, share: float, octets: int, owed: int) -> bool:
        self.look()
        if self._estimated and not self._has(share, octets, owed):
            self.forget()
            self.look()
        return self._has(share, octets, owed)

    def _has(self, share: float, octets: int, owed: int) -> bool:
        owed_share = owed / self._total if self._total else 0.0
        return self.share - owed_share >= share and self.octets - owed >= octets
