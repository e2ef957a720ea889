"""A real txmta daemon for tests: its own directory, free ports on loopback, ended by its own pid.

with Daemon(tmp_path, users={"demo@dev.test": "demo-password"}) as daemon:
    smtplib.SMTP("127.0.0.1", daemon.mx)
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mta.testing.processes import free_port, greeting, stop, wait_for

HOSTNAME = "mail.dev.test"


class Daemon:
    """`routes`, `extra` are TOML text; `prefix` is put before the command (strace, faketime ...).

    `store`: where spool and mailboxes lie instead of in `directory`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        users: Mapping[str, str] | None = None,
        routes: str = "",
        extra: str = "",
        relay_networks: Sequence[str] = (),
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        store: Path | None = None,
        hostname: str = HOSTNAME,
    ) -> None:
        self.directory = directory
        self.hostname = hostname
        self.mx, self.submission, self.submissions = free_port(), free_port(), free_port()
        self.metrics = free_port()
        self.config = directory / "mta.toml"
        self.mail = (store or directory) / "mail"
        self.spool = (store or directory) / "spool"
        self.log = directory / "mta.log"
        self.output = directory / "output"
        self.users = users
        self.prefix = list(prefix)
        self.environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._prepared = False
        directory.mkdir(parents=True, exist_ok=True)
        self._routes = routes or self._default_routes()
        self._extra = extra
        self._networks = list(relay_networks)
        self.write_config()

    def _default_routes(self) -> str:
        exists = "users" if self.users is not None else "any"
        return (
            f'[[route]]\ndomains = ["dev.test"]\nrecipients = "{exists}"\n'
            f'via = "maildir:{self.mail}/{{domain}}/{{local}}"\n\n[[route]]\ndomains = ["*"]\nvia = "mx"\n'
        )

    def write_config(self) -> None:
        """The file as the daemon reads it at its next start or reload."""
        d = self.directory
        auth = ""
        if self.users is not None:
            auth = f'[auth]\nmechanisms = ["SCRAM-SHA-256", "PLAIN", "LOGIN"]\n[[auth.backend]]\nkind = "users"\npath = "{d}/users.db"\n'
        self.config.write_text(
            f'hostname = "{self.hostname}"\npostmaster = "postmaster@dev.test"\n'
            f"relay_networks = {json.dumps(self._networks)}\n"
            f'[spool]\npath = "{self.spool}"\n'
            f'[tls]\ncertificate = "{d}/cert.pem"\nprivate_key = "{d}/key.pem"\n'
            f'[control]\nsocket = "{d}/mta.sock"\n[log]\npath = "{self.log}"\n'
            f'[metrics]\nendpoint = "tcp:{self.metrics}:interface=127.0.0.1"\n'
            f'[[listener]]\nname = "mx"\nendpoints = ["tcp:{self.mx}:interface=127.0.0.1"]\nkind = "mx"\n'
            f'[[listener]]\nname = "submission"\nendpoints = ["tcp:{self.submission}:interface=127.0.0.1"]\nkind = "submission"\n'
            f'[[listener]]\nname = "submissions"\nendpoints = ["tcp:{self.submissions}:interface=127.0.0.1"]\n'
            f'kind = "submission"\ntls = "implicit"\n'
            f"{auth}{self._routes}{self._extra}"
        )
        self.config.chmod(0o600)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "MTA_TEST_ONLY": "1", **self.environment}

    def prepare(self) -> None:
        """Certificate and users, once."""
        if self._prepared:
            return
        self._prepared = True
        key = self.directory / "key.pem"
        if not key.exists():
            command = [sys.executable, "-m", "mta.tls.selfsigned", "--certificate", str(self.directory / "cert.pem")]
            command += ["--key", str(key), self.hostname]
            subprocess.run(command, check=True, env=self._environment(), stdout=subprocess.DEVNULL)
        for name, password in (self.users or {}).items():
            self.mta("user", "add", name, "--stdin", stdin=password + "\n")

    def start(self, *, wait: bool = True) -> Daemon:
        if self.process is not None and self.process.poll() is None:
            raise RuntimeError("this daemon runs already; `with` starts it, so don't start it before")
        self.prepare()
        command = [*self.prefix, sys.executable, "-m", "twisted.scripts.twistd"]
        twistd = Path(sys.executable).with_name("twistd")
        if twistd.exists():
            command = [*self.prefix, str(twistd)]
        atexit.register(self.kill)  # a test that fails between start and stop leaves nothing running
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "-n", "--pidfile=", "mta", "--config", str(self.config)],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=self._environment(),
                cwd=self.directory,
            )
        if wait:
            try:
                wait_for("the daemon's greeting", self._greets, 30)
            except BaseException:
                self.kill()
                raise
        return self

    def _greets(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"the daemon ended with {code}:\n{self.output.read_text()[-4000:]}")
        return greeting(self.mx).startswith(b"220")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, to all of its processes."""
        atexit.unregister(self.kill)
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def stop(self) -> int:
        atexit.unregister(self.kill)
        return stop(self.process) if self.process is not None else 0

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def mta(
        self, *arguments: str, stdin: str | bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """The mta command on this daemon's configuration."""
        text = stdin.decode() if isinstance(stdin, bytes) else stdin
        return subprocess.run(
            [sys.executable, "-m", "mta.cli.main", "--config", str(self.config), *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=check,
            env=self._environment(),
            timeout=60,
        )

    def query(self, *arguments: str) -> Any:
        """The mta command with --json, parsed."""
        return json.loads(self.mta(*arguments, "--json").stdout)

    def mailbox(self, local: str, domain: str = "dev.test") -> list[bytes]:
        """The messages in a maildir's new/, oldest first."""
        folder = self.mail / domain / local / "new"
        return [path.read_bytes() for path in sorted(folder.glob("*"))] if folder.is_dir() else []

    def events(self, name: str = "") -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if not name or f" {name} " in line + " "]
