"""A mailer from its Debian package, unpacked into var/ and never installed: it would put Postfix out.

It runs in a mount namespace with its own users, hosts and resolver, so that the system's files stay as they are, and below a keeper, so that
its processes are found. Needs root.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mta.testing.processes import greeting, stop, wait_for
from peers import ROOT, WORK, fresh, is_root

KEEPER = ROOT / "bench" / "keeper.py"
RESOLV_CONF = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"  # nobody there: refused at once


class Unpacked:
    """What Exim and sendmail have in common. `users`: name → uid; each gets a group of its name and number."""

    name = ""
    kept = True
    share = 1.0
    sessions: int | None = None
    packages: Sequence[str] = ()
    libraries: Mapping[str, str] = {}  # file of a library → package
    users: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.root = WORK / "packages" / self.name
        self.at = WORK / self.name
        self.pid = self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def missing(self) -> str:
        """What is wanting, as words; unpacks the package at the first call."""
        if not is_root():
            return f"{self.name} (run as root)"
        absent = [package for file, package in self.libraries.items() if not _library(file)]
        if absent:
            return f"{self.name} (apt install {' '.join(absent)})"
        return "" if self._unpack() else f"{self.name} (apt-get download {' '.join(self.packages)} failed)"

    def _unpack(self) -> bool:
        if self.root.exists():
            return True
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            return False
        folder = fresh(WORK / "packages" / f"{self.name}.download")
        command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *self.packages]
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode != 0:
            return False
        half = fresh(WORK / "packages" / f"{self.name}.half")
        for file in sorted(folder.glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(file), str(half)], check=True)
        half.rename(self.root)
        shutil.rmtree(folder)
        return True

    def run(self, command: Sequence[str]) -> None:
        """Start it, and wait for its greeting."""
        prefix = ["unshare", "-m", "sh", "-c", self._mounts() + 'exec "$@"', "sh"]
        with (self.at / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(KEEPER), *prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid
        try:
            wait_for(f"{self.name}'s greeting", self._greets, 30)
        except BaseException:
            self.stop()
            raise

    def _greets(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise SystemExit(f"{self.name} ended:\n{(self.at / 'output').read_text(errors='replace')}")
        return greeting(self.port).startswith(b"220")

    def _mounts(self) -> str:
        host = socket.gethostname().partition(".")[0]
        users = [f"{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin\n" for name, uid in self.users.items()]
        groups = [f"{name}:x:{uid}:\n" for name, uid in self.users.items()]
        texts = {
            "/etc/passwd": Path("/etc/passwd").read_text() + "".join(users),
            "/etc/group": Path("/etc/group").read_text() + "".join(groups),
            "/etc/hosts": f"127.0.0.1 {host}.example {host} localhost\n",
            "/etc/resolv.conf": RESOLV_CONF,
        }
        lines = []
        for path, text in texts.items():
            private = self.at / Path(path).name
            private.write_text(text)
            lines.append(f'mount --bind "{private}" {path} && ')
        return "".join(lines)

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)

    def own(self, directory: Path, user: str) -> Path:
        """Made, and given to a user of its own."""
        directory.mkdir(parents=True, exist_ok=True)
        os.chown(directory, self.users[user], self.users[user])
        return directory


def _library(file: str) -> bool:
    return shutil.which(file) is not None or any(Path("/usr/lib").glob(f"*/{file}"))
