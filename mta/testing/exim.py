"""A private Exim: unpacked, not installed, on a port of its own.

Everything for `domain` (e.example) goes into one maildir; tmp@ is deferred, bad@ refused, gone@ taken and then bounced. With TLS, USER may log in inside it by PLAIN
or LOGIN, and mail for `guarded_domain` is for those who did.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trustme

from mta.testing import unpacked
from mta.testing.processes import free_port, greeting, stop, wait_for

PACKAGES = ("exim4-daemon-light", "exim4-base")
USER, PASSWORD = "relay", "tr0ub4dor"

_CONFIGURATION = """\
exim_path = {binary}
spool_directory = {at}/spool
log_file_path = {at}/log/%slog
pid_file_path = {at}/exim.pid
primary_hostname = {host}
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
keep_environment =
log_selector = +all
acl_smtp_rcpt = rcpt
acl_smtp_data = data
tls_advertise_hosts = {tls_for}
tls_certificate = {at}/cert.pem
tls_privatekey = {at}/key.pem
dsn_advertise_hosts = *
accept_8bitmime = true
begin acl
rcpt:
  defer local_parts = tmp
    message = 4.2.0 later
  deny local_parts = bad
    message = 5.1.1 nobody
  accept authenticated = *
  accept domains = {domain}
  deny message = 5.7.1 log in first
data:
  accept
begin routers
bounced:
  driver = redirect
  local_parts = gone
  allow_fail
  data = :fail: 550 5.1.1 moved out
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = {at}/mail
  create_directory
  maildir_format
  user = Debian-exim
  envelope_to_add
begin retry
* * F,1h,1m
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""


def missing() -> str:
    """What is wanting, or ""."""
    return unpacked.missing(*PACKAGES)


class PrivateExim:
    """Public after `start`: `port`, `log` (its main log), `authority` (PEM file of the certificate's issuer)."""

    domain, guarded_domain = "e.example", "guarded.example"

    def __init__(self, *, host: str = "mx.exim.example", tls: bool = False) -> None:
        self.host, self.tls = host, tls
        self.directory = Path(tempfile.mkdtemp(prefix="mta-exim-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.log = self.directory / "log" / "mainlog"
        self.authority = self.directory / "ca.pem"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 20.0) -> None:
        """Raises RuntimeError with Exim's own words when it will not run."""
        at, root = self.directory, unpacked.unpacked(*PACKAGES)
        self.port = free_port()
        authority = trustme.CA()
        issued = authority.issue_cert(self.host, "127.0.0.1")
        authority.cert_pem.write_to_path(str(self.authority))
        issued.private_key_pem.write_to_path(str(at / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(at / "cert.pem"))
        binary = root / "usr/sbin/exim4"
        (at / "exim.conf").write_text(
            _CONFIGURATION.format(
                binary=binary, at=at, host=self.host, port=self.port, domain=self.domain,
                tls_for="*" if self.tls else "", user=USER, password=PASSWORD,
            )
        )  # fmt: skip
        ids, mounts = unpacked.users(at, "Debian-exim")
        for name in ("spool", "log", "mail"):
            (at / name).mkdir()
        for owned in ("spool", "log", "mail", "key.pem"):
            shutil.chown(at / owned, ids["Debian-exim"], ids["Debian-exim"])
        (at / "key.pem").chmod(0o600)
        output = (at / "output").open("wb")
        self._process = subprocess.Popen(
            unpacked.in_private_mounts(mounts, [str(binary), "-C", str(at / "exim.conf"), "-bdf", "-q1m"]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output.close()
        try:
            wait_for("Exim's greeting", lambda: greeting(self.port).startswith(b"220"), seconds)
        except TimeoutError as error:
            said = (at / "output").read_text(errors="replace") + self.log_text()
            self.stop()
            raise RuntimeError(f"Exim did not answer: {said[-2000:]}") from error

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            stop(process)
            # Its deliveries outlive it for a moment, and make their directories anew.
            wait_for("the end of Exim's deliveries", lambda: not self._works())
        shutil.rmtree(self.directory, ignore_errors=True)

    def _works(self) -> bool:
        mark = str(self.directory).encode()
        return any(mark in command for command in _commands())

    def __enter__(self) -> PrivateExim:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def messages(self) -> list[bytes]:
        """The files of the maildir, oldest first."""
        new = self.directory / "mail" / "new"
        return (
            [each.read_bytes() for each in sorted(new.iterdir(), key=lambda each: each.stat().st_mtime_ns)]
            if new.is_dir()
            else []
        )

    def wait_for_messages(self, count: int, seconds: float = 20.0) -> list[bytes]:
        """At least so many; raises TimeoutError."""
        return wait_for(
            f"{count} messages in Exim's maildir",
            lambda: found if len(found := self.messages()) >= count else None,
            seconds,
        )

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _commands() -> Iterator[bytes]:
    """The command lines of all processes."""
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield each.read_bytes()
