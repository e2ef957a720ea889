"""Debian packages that can't be installed beside Postfix (all MTAs conflict), unpacked into a directory of their own.

    root = unpacked("exim4-daemon-light", "exim4-base")      # root / "usr/sbin/exim4"

They are fetched once for a machine. What they need of the system beside that (libraries) is the caller's affair.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

KEPT = Path("/var/tmp/mta-testing")  # all above it may be passed by everybody: daemons change to users of their own
_FIRST_ID = 61001  # of users that the packages would have made


class Unavailable(Exception):
    """The packages are not to be had here; the message says why."""


def missing(*packages: str) -> str:
    """What is wanting, or "": for pytest.skip. Fetches them when it can."""
    try:
        unpacked(*packages)
    except Unavailable as error:
        return f"{', '.join(packages)} ({error})"
    return ""


def unpacked(*packages: str) -> Path:
    """The directory that holds them, as if it were /. Raises Unavailable."""
    target = KEPT / "-".join(packages)
    if target.is_dir():
        return target
    if os.geteuid() != 0:
        raise Unavailable("fetched and started by root")
    KEPT.mkdir(mode=0o755, parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=KEPT))
    try:
        making.chmod(0o755)
        (making / "root").mkdir(mode=0o755)
        _run(["apt-get", "download", "-qq", *packages], making)
        for archive in making.glob("*.deb"):
            _run(["dpkg", "-x", str(archive), str(making / "root")], making)
        try:
            (making / "root").rename(target)
        except OSError:  # another test was quicker
            if not target.is_dir():
                raise
    except OSError as error:
        raise Unavailable(str(error)) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return target


def _run(command: Sequence[str], directory: Path) -> None:
    environment = os.environ | {"TMPDIR": "/var/tmp", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False, timeout=120)
    if done.returncode != 0:
        raise Unavailable(done.stderr.decode(errors="replace").strip().splitlines()[-1][:200])


def users(directory: Path, *names: str) -> tuple[dict[str, int], dict[Path, Path]]:
    """Users of these names for a private /etc: their uids (which are their gids too), and what is to be mounted where."""
    ids = {name: _FIRST_ID + number for number, name in enumerate(names)}
    passwd, group = directory / "passwd", directory / "group"
    passwd.write_text(
        Path("/etc/passwd").read_text()
        + "".join(f"{n}:x:{i}:{i}::/nonexistent:/usr/sbin/nologin\n" for n, i in ids.items())
    )
    group.write_text(Path("/etc/group").read_text() + "".join(f"{n}:x:{i}:\n" for n, i in ids.items()))
    return ids, {passwd: Path("/etc/passwd"), group: Path("/etc/group")}


def in_private_mounts(mounts: Mapping[Path, Path], command: Sequence[str]) -> list[str]:
    """The command, with each key mounted over its value, seen by nobody else. The process keeps its ID: it is killed as usual."""
    steps = [f"mount --bind '{source}' '{target}'" for source, target in mounts.items()]
    return ["unshare", "-m", "sh", "-c", " && ".join([*steps, 'exec "$@"']), "sh", *command]
