"""A running daemon and the clients that tests point at it: one user who logs in, and mailboxes for everybody at dev.test.

Everybody exists, so that each test has a mailbox of its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

from mta.testing.daemon import Daemon
from mta.testing.processes import wait_for

USER, PASSWORD = "demo@dev.test", "demo-password"
_UNWANTED = {"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"}


class OpenHouse:
    """A running daemon and what came to its mailboxes."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.authority = daemon.directory / "cert.pem"  # signed by itself

    def letter(self, local: str) -> bytes:
        """A message that tries to be changed on its way: dots, From lines, 8-bit text, long lines, empty lines at the end."""
        lines = [
            f"From: Demo <{USER}>",
            f"To: {local}@dev.test",
            f"Date: {formatdate(1_700_000_000)}",
            f"Message-ID: <{local}.1@client.example>",
            "Subject: what arrives is what was sent",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit",
            "",
            "Grüße aus Köln",
            ".",
            "..",
            ".leading dot",
            "From the start of a line",
            "x" * 900,
            "\ttab and trailing space ",
            "",
            "end",
        ]
        return "".join(line + "\r\n" for line in lines).encode()

    def arrived(self, local: str, count: int = 1, seconds: float = 20.0) -> list[bytes]:
        """What lies in a mailbox, with CRLF again."""

        def look() -> list[bytes] | None:
            found = self.daemon.mailbox(local)
            return found if len(found) >= count else None

        found = wait_for(f"{count} messages for {local}", look, seconds)
        return [each.replace(b"\n", b"\r\n") for each in found]

    def story(self, local: str) -> dict[str, object]:
        """The record of the message whose letter went to `local`."""
        record: dict[str, object] = self.daemon.query("why", f"<{local}.1@client.example>")["messages"][0]["message"]
        return record

    def run(
        self, command: Sequence[str | Path], *, stdin: bytes = b"", check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """A client, without what the machine's owner lets clients trust. Its words are in the error when it fails."""
        wanted = {key: value for key, value in os.environ.items() if key not in _UNWANTED}
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin,
            check=False,
            capture_output=True,
            timeout=60,
            env={**wanted, "HOME": str(self.daemon.directory), "LC_ALL": "C"},
            cwd=self.daemon.directory,
        )
        if check and done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise AssertionError(f"{command[0]} ended with {done.returncode}:\n{said}")
        return done


@contextmanager
def open_house(directory: Path) -> Iterator[OpenHouse]:
    """Started, and ended with the block."""
    routes = (
        f'[[route]]\ndomains = ["dev.test"]\nvia = "maildir:{directory}/mail/{{domain}}/{{local}}"\n'
        '[[route]]\ndomains = ["*"]\nvia = "mx"\n'
    )
    with Daemon(directory, users={USER: PASSWORD}, routes=routes) as daemon:
        yield OpenHouse(daemon)
