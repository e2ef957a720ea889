"""A private OpenSMTPD: unpacked, not installed, on a port of its own. Everything for `domain` (o.example) goes into one maildir.

Clear text alone: Debian 12's can't do STARTTLS as a server (OpenSSL 3). Its paths are compiled in, so it runs in mounts of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from mta.testing import unpacked
from mta.testing.processes import free_port, greeting, stop, wait_for

PACKAGES = ("opensmtpd",)
_CONFIGURATION = """\
listen on 127.0.0.1 port {port} hostname {host}
action "here" maildir "{at}/mail/box" virtual {{ "@" = osmail }}
match from any for domain "{domain}" action "here"
"""


def missing() -> str:
    """What is wanting, or ""."""
    return unpacked.missing(*PACKAGES)


class PrivateOpenSmtpd:
    """Public after `start`: `port`, `output` (what it prints)."""

    domain = "o.example"

    def __init__(self, *, host: str = "mx.os.example") -> None:
        self.host = host
        self.directory = Path(tempfile.mkdtemp(prefix="mta-opensmtpd-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.output = self.directory / "output"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 20.0) -> None:
        """Raises RuntimeError with its own words when it will not run."""
        at, root = self.directory, unpacked.unpacked(*PACKAGES)
        self.port = free_port()
        configuration = at / "smtpd.conf"
        configuration.write_text(_CONFIGURATION.format(at=at, host=self.host, port=self.port, domain=self.domain))
        ids, mounts = unpacked.users(at, "opensmtpd", "opensmtpq", "osmail")
        for name in ("varspool", "varlib", "run", "mail"):
            (at / name).mkdir(mode=0o755)
        (at / "varspool" / "smtpd").mkdir(mode=0o711)
        (at / "varlib" / "opensmtpd" / "empty").mkdir(parents=True)
        shutil.chown(at / "mail", ids["osmail"], ids["osmail"])
        mounts |= {
            at / "varspool": Path("/var/spool"),
            at / "varlib": Path("/var/lib"),
            at / "run": Path("/run"),
            self._libexec(root): Path("/usr/libexec"),
        }
        output = self.output.open("wb")
        self._process = subprocess.Popen(
            unpacked.in_private_mounts(
                mounts, [str(root / "usr/sbin/smtpd"), "-d", "-T", "smtp", "-f", str(configuration)]
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output.close()
        try:
            wait_for("OpenSMTPD's greeting", lambda: greeting(self.port).startswith(b"220"), seconds)
        except TimeoutError as error:
            said = self.output.read_text(errors="replace")[-2000:]
            self.stop()
            raise RuntimeError(f"OpenSMTPD did not answer: {said}") from error

    def _libexec(self, root: Path) -> Path:
        """Its helpers, where it looks for them: /usr/libexec/opensmtpd."""
        found = next(each.parent for each in root.rglob("mail.maildir"))
        libexec = self.directory / "libexec"
        libexec.mkdir(mode=0o755)
        shutil.copytree(found, libexec / "opensmtpd", symlinks=True)
        return libexec

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            stop(process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> PrivateOpenSmtpd:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def messages(self) -> list[bytes]:
        """The files of the maildir, oldest first."""
        new = self.directory / "mail" / "box" / "new"
        if not new.is_dir():
            return []
        return [each.read_bytes() for each in sorted(new.iterdir(), key=lambda each: each.stat().st_mtime_ns)]

    def wait_for_messages(self, count: int, seconds: float = 20.0) -> list[bytes]:
        """At least so many; raises TimeoutError."""
        return wait_for(
            f"{count} messages in OpenSMTPD's maildir",
            lambda: found if len(found := self.messages()) >= count else None,
            seconds,
        )
