"""A disk that can lose its power: ext4 in a file, seen by one process and its children alone.

    disk = PowerDisk(tmp_path)
    daemon = Daemon(tmp_path, store=disk.mount, prefix=disk.prefix)
    ...
    disk.cut(daemon.pid)          # what was not synced is gone; every later write fails with EIO
    daemon.kill()
    disk.wait_until_free()        # then it can be mounted again, and ext4 replays its journal

The cut is ext4's own shutdown call without a flush of its journal: what a machine loses with its power, the process sees at once. Needs root,
unshare, loop devices.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mta.testing.processes import wait_for

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
_CHECK = "import apsw, sys; print(apsw.Connection(sys.argv[1]).execute('pragma integrity_check').fetchall())"


def missing() -> str:
    """What is wanting for it, or ""; for pytest.mark.skipif."""
    programs = {"mkfs.ext4": "e2fsprogs", "unshare": "util-linux", "losetup": "mount"}
    absent = [package for program, package in programs.items() if shutil.which(program, path=_PATH) is None]
    if os.geteuid() != 0:
        absent.append("root")
    if not Path("/dev/loop-control").exists():
        absent.append("loop devices")
    return ", ".join(absent)


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class PowerDisk:
    """`mount` is where the process that is started behind `prefix` sees it; to all others the directory is empty."""

    def __init__(self, directory: Path, mib: int = 512) -> None:
        self.image, self.mount = directory / "disk.img", directory / "disk"
        self.mount.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True, env={"PATH": _PATH})

    @property
    def prefix(self) -> list[str]:
        """What to put before a command. The command keeps its pid; the mount goes when the last of its children has gone."""
        script = f'mount -o loop "{self.image}" "{self.mount}" && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, "sh"]

    def cut(self, pid: int) -> None:
        """Switch it off under the process that has it."""
        root = os.open(f"/proc/{pid}/root{self.mount}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(root, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(root)

    def wait_until_free(self) -> None:
        """The kernel lets go of it a moment after the last process; a second mount before would be of a disk in use."""
        command = ["losetup", "--noheadings", "--associated", str(self.image)]
        wait_for("the disk to be free", lambda: not subprocess.run(command, capture_output=True, check=True).stdout, 20)

    def run(self, *command: str) -> str:
        """Of a command that sees it: what it printed. Raises CalledProcessError."""
        done = subprocess.run([*self.prefix, *command], capture_output=True, check=True, text=True)
        self.wait_until_free()
        return done.stdout

    def integrity(self, database: Path) -> str:
        """SQLite's verdict on a database there: `[('ok',)]`."""
        return self.run(sys.executable, "-c", _CHECK, str(database)).strip()


def eatmydata() -> str:
    """The library that makes every fsync a lie (package libeatmydata1), or ""."""
    found: Sequence[Path] = sorted(Path("/usr/lib").glob("*/libeatmydata.so*"))
    return str(found[0]) if found else ""
