"""Files and directories that a configuration names: who can read a secret, what can be written, where it lies.

Each function returns the problem it finds, without a place in the configuration (`Findings.take` adds that), or None.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from mta.config.problem import Problem
from mta.config.secret_file import exposure

DAEMON_USER = "mta"
MOUNTS = Path("/proc/self/mounts")
SOCKET_PATH_LIMIT_OCTETS = 107  # sockaddr_un.sun_path of Linux, without its closing NUL
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"}
_NETWORK_FILE_SYSTEMS |= {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs"}


def check_secret(path: Path, *, owners: Collection[int] = ()) -> Problem | None:
    """Can anybody but root, this process's user and `owners` (uids) read, change or replace this file?

    A file that does not exist keeps no secret: None. Symbolic links are followed as the system does, and every directory on
    the way counts, that of the link and that of its target: who can write there can put another file in its place. The
    sticky bit (/tmp) makes that harmless for what trusted users own.
    """
    trusted = {0, os.geteuid(), *owners}
    try:
        status = path.stat()
        exposed = exposure(path)
        replaceable = _replaceable(path, trusted)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _problem("W304", f"{path} can't be looked at: {error.strerror}")
    if exposed:
        message, _, mend = exposed.partition("; ")
        return _problem("E301", message, mend)
    if status.st_uid not in trusted:
        owner = _name_of(status.st_uid)
        return _problem(
            "E302", f"{path} belongs to {owner}, who can read and change it", f"mend it with: chown root {path}"
        )
    if replaceable is not None:
        return _problem(
            "E303", f"{path} can be replaced by others: {replaceable[0]}", f"mend it with: {replaceable[1]}"
        )
    return None


def _replaceable(path: Path, trusted: Collection[int]) -> tuple[str, str] | None:
    """The first directory entry on the way to `path` that others could exchange; why, and what mends it."""
    for step in _steps(path):
        directory = step.parent.stat()
        if directory.st_uid not in trusted:
            return f"the directory {step.parent} belongs to {_name_of(directory.st_uid)}", f"chown root {step.parent}"
        if not directory.st_mode & stat.S_IWOTH:
            continue
        if not directory.st_mode & stat.S_ISVTX:
            return f"everybody can write {step.parent}", f"chmod o-w {step.parent}"
        entry = step.lstat()
        if entry.st_uid not in trusted:
            return f"{step} belongs to {_name_of(entry.st_uid)}", f"chown -h root {step}"
    return None


def _steps(path: Path) -> Iterator[Path]:
    """Every entry that is looked up on the way to `path`, links followed one by one. Raises OSError for a loop of links."""
    path.stat()  # the system's own verdict on loops
    done = Path("/")
    todo = list(Path(os.path.abspath(path)).parts[1:])
    while todo:
        entry = done / todo.pop(0)
        yield entry
        if entry.is_symlink():
            target = Path(os.path.normpath(os.path.join(done, os.readlink(entry))))
            todo = [*target.parts[1:], *todo]
            done = Path("/")
        else:
            done = entry


def check_readable(path: Path) -> Problem | None:
    """Can the daemon read this file? Asked by root, it is answered for the user mta, if there is one (W304)."""
    if os.geteuid() != 0:
        return None  # who can't read it finds out by reading it
    try:
        user = pwd.getpwnam(DAEMON_USER)
    except KeyError:
        return None
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    try:
        for step in _steps(path):
            status = step.stat()
            wanted = 0o1 if stat.S_ISDIR(status.st_mode) else 0o4
            if not _may(status, user.pw_uid, groups, wanted):
                group = " and ".join(("chgrp mta", f"chmod g+{'x' if wanted == 1 else 'r'}"))
                return _problem(
                    "W304",
                    f"the user {DAEMON_USER} can't read {path}, because of {step}",
                    f"mend it with: {group} {step}",
                )
    except OSError:
        return None
    return None


def _may(status: os.stat_result, uid: int, groups: Collection[int], wanted: int) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode >> 6 & wanted)
    if status.st_gid in groups:
        return bool(status.st_mode >> 3 & wanted)
    return bool(status.st_mode & wanted)


def check_directory(path: Path) -> Problem | None:
    """Can this process's user write in the directory `path`, or make it? E306: something else is in its place. E305: no."""
    existing = path
    while not os.path.lexists(existing):
        existing = existing.parent
    if not os.path.isdir(existing):
        return _problem("E306", f"{existing} is no directory", "name a directory, or move away what is there")
    if os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
        return None
    user = _name_of(os.geteuid())
    what = f"{path} can't be written" if existing == path else f"{path} can't be made"
    owner = _name_of(existing.stat().st_uid)
    hint = f"it belongs to {owner}; as the user of the daemon: sudo -u {DAEMON_USER} mta config check"
    return _problem("E305", f"{what} by {user}: no right to write {existing}", hint)


def check_parent(path: Path) -> Problem | None:
    """Can `path` be made? W309 where not: systemd may make its directory (RuntimeDirectory) only when the daemon starts."""
    problem = check_directory(path.parent)
    return replace(problem, code="W309") if problem is not None else None


def check_socket(path: Path) -> Problem | None:
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_LIMIT_OCTETS:
        return _problem(
            "E307", f"the path of a socket has at most {SOCKET_PATH_LIMIT_OCTETS} octets; this one has {length}"
        )
    if os.path.isdir(path):
        return _problem("E306", f"{path} is a directory", "name a file in it")
    return None


def check_local(path: Path) -> Problem | None:
    """SQLite's write-ahead log shares memory between processes, which no network file system gives."""
    kind = _file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        return _problem(
            "W308", f"{path} is on {kind}, a network file system: mail can be lost there", "use a local disk"
        )
    return None


def _file_system(path: Path) -> str:
    real = os.path.realpath(path)
    best = kind = ""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in mounts.splitlines():
        where, what = line.split(" ")[1:3]
        if len(where) >= len(best) and (real == where or real.startswith(where.rstrip("/") + "/")):
            best, kind = where, what
    return kind


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _problem(code: str, message: str, hint: str = "") -> Problem:
    return Problem("", 0, "", message, hint, code)
