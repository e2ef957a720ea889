"""A private Postfix: its own configuration, queue, port and log, beside any other on the machine.

    postfix = PrivatePostfix(tls=True)
    postfix.start()                       # accepts on 127.0.0.1:postfix.port
    ...
    postfix.messages()                    # what arrived in its maildir, oldest first
    postfix.stop()

It lives in a directory of its own under /var/tmp, gone with `stop`: below pytest's temporary directory Postfix's users can't pass,
and each pytest that starts closes it again. Everything for `domain` (d.example) goes into one maildir; `discard_domain` is swallowed; tmp@ and bad@ of `domain` are refused with
450 and 550. Needs the package postfix and root (Postfix changes to its own user).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import trustme

from mta.testing.processes import free_port, greeting, stop, wait_for

MASTER = Path("/usr/lib/postfix/sbin/master")
MASTER_CF = Path("/usr/share/postfix/master.cf.dist")
_MAILBOX_UID = 65534  # nobody
_REALM = "example.test"


def missing() -> str:
    """The package that is wanting for it, or ""; for pytest.skip."""
    if not MASTER.exists() or not MASTER_CF.exists():
        return "postfix"
    return "" if os.geteuid() == 0 else "postfix (started by root)"


class PrivatePostfix:
    """`directory`: where to live instead, when it and all above it may be passed by everybody; it is kept.

    `tls`: offer STARTTLS with a certificate for `host`. `settings`: main.cf beyond, or instead of, what stands here.

    `logins`: passwords by name (without a domain): then it is a smart host, which relays for those who logged in and for nobody else,
    by every mechanism of Cyrus SASL, inside TLS alone (package sasl2-bin).

    `services`: further lines of master.cf. Public after `start`: `port`, `log` (file), `mailbox` (maildir), `authority` (PEM file of the
    certificate's issuer).
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        domain: str = "d.example",
        discard_domain: str = "drop.example",
        host: str = "pf.example",
        tls: bool = False,
        settings: Mapping[str, str] | None = None,
        services: Sequence[str] = (),
        logins: Mapping[str, str] | None = None,
    ) -> None:
        self._own = directory is None or not _passable(directory)
        if directory is None or self._own:
            directory = Path(tempfile.mkdtemp(prefix="mta-postfix-", dir="/var/tmp"))
            directory.chmod(0o711)
        self.directory = directory
        self.domain = domain
        self.discard_domain = discard_domain
        self.host = host
        self.tls = tls
        self.settings = dict(settings or {})
        self.services = tuple(services)
        self.logins = dict(logins or {})
        self.port = 0
        self.log = directory / "log"
        self.mailbox = directory / "mail" / "all"
        self.authority = directory / "ca.pem"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 30.0) -> None:
        """Raises RuntimeError with Postfix's own words when it will not run."""
        self._prepare()
        check = subprocess.run(
            ["postfix", "-c", str(self.directory / "etc"), "check"], capture_output=True, check=False, timeout=60
        )
        if check.returncode != 0:
            raise RuntimeError(f"postfix check: {check.stderr.decode(errors='replace')}")
        self._process = subprocess.Popen(
            [str(MASTER), "-c", str(self.directory / "etc"), "-d"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for("Postfix's greeting", lambda: greeting(self.port).startswith(b"220"), seconds)
        except TimeoutError as error:
            said = self.log_text()[-2000:]
            self.stop()
            raise RuntimeError(f"Postfix did not answer: {said}") from error

    @property
    def pid(self) -> int:
        """Of its master; raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("this Postfix is not running")
        return self._process.pid

    def stop(self) -> None:
        """Its children go with it."""
        process, self._process = self._process, None
        if process is not None:
            stop(process)
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> PrivatePostfix:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def messages(self) -> list[bytes]:
        """The files of the maildir, oldest first."""
        new = self.mailbox / "new"
        if not new.is_dir():
            return []
        return [each.read_bytes() for each in sorted(new.iterdir(), key=lambda each: each.stat().st_mtime_ns)]

    def arrived(self) -> int:
        """How many there are, without reading them."""
        new = self.mailbox / "new"
        return sum(1 for _ in new.iterdir()) if new.is_dir() else 0

    def wait_for_messages(self, count: int, seconds: float = 20.0) -> list[bytes]:
        """At least so many; raises TimeoutError."""
        return wait_for(
            f"{count} messages in Postfix's maildir",
            lambda: found if len(found := self.messages()) >= count else None,
            seconds,
        )

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for_log(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """The first line part that fits the regular expression; raises TimeoutError."""
        return wait_for(f"{pattern!r} in Postfix's log", lambda: re.search(pattern, self.log_text()), seconds)

    def queue(self) -> list[str]:
        """One JSON line (postqueue -j) for each message that it still has."""
        listing = subprocess.run(
            ["postqueue", "-c", str(self.directory / "etc"), "-j"], capture_output=True, check=False, timeout=30
        )
        return listing.stdout.decode().splitlines()

    def _prepare(self) -> None:
        at = self.directory
        for name in ("etc", "spool", "data", "mail"):
            (at / name).mkdir(parents=True, exist_ok=True)
        shutil.chown(at / "data", "postfix")
        os.chown(at / "mail", _MAILBOX_UID, _MAILBOX_UID)
        self.port = free_port()
        if self.logins:
            self._keep_passwords()
        lines = dict(self._settings(), **self.settings)
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (at / "etc" / "main.cf").write_text(text)
        (at / "etc" / "master.cf").write_text(self._services())

    def _settings(self) -> dict[str, str]:
        at, domain = self.directory, self.domain
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": f"{at}/spool",
            "data_directory": f"{at}/data",
            "maillog_file_prefixes": str(at),
            "maillog_file": str(self.log),
            "myhostname": self.host,
            "mydestination": "",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "virtual_mailbox_domains": domain,
            "virtual_mailbox_base": f"{at}/mail",
            "virtual_mailbox_maps": "static:all/",
            "virtual_uid_maps": f"static:{_MAILBOX_UID}",
            "virtual_gid_maps": f"static:{_MAILBOX_UID}",
            "relay_domains": self.discard_domain,
            "transport_maps": f"inline:{{ {{ {self.discard_domain} = discard: }} }}",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_recipient_restrictions": f"check_recipient_access inline:{{ {{ tmp@{domain} = 450 4.2.0 later }},"
            f" {{ bad@{domain} = 550 5.1.1 nobody }} }}, permit",
        }
        if self.tls:
            certificate, key = self._certificate()
            settings |= {
                "smtpd_tls_cert_file": str(certificate),
                "smtpd_tls_key_file": str(key),
                "smtpd_tls_security_level": "may",
                "smtpd_tls_loglevel": "1",
            }
        if self.logins:
            settings |= {
                "mynetworks": "",
                "smtpd_sasl_auth_enable": "yes",
                "smtpd_sasl_security_options": "noanonymous",
                "smtpd_sasl_local_domain": _REALM,
                "smtpd_tls_auth_only": "yes",
                "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
                "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject",
                "smtpd_sender_restrictions": "",
            }
        return settings

    def _keep_passwords(self) -> None:
        """In a sasldb2 of its own: clear text, so that SCRAM and the others can be served."""
        kept = self.directory / "etc" / "sasl"
        kept.mkdir(exist_ok=True)
        database = kept / "sasldb2"
        lines = {
            "pwcheck_method": "auxprop",
            "auxprop_plugin": "sasldb",
            "sasldb_path": str(database),
            "mech_list": "PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256",
        }
        (kept / "smtpd.conf").write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
        for user, password in self.logins.items():
            command = ["saslpasswd2", "-p", "-c", "-f", str(database), "-u", _REALM, user]
            subprocess.run(command, input=password.encode(), check=True, capture_output=True, timeout=20)
        shutil.chown(database, "postfix")

    def _certificate(self) -> tuple[Path, Path]:
        authority = trustme.CA()
        issued = authority.issue_cert(self.host, "127.0.0.1")
        certificate, key = self.directory / "cert.pem", self.directory / "key.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        for number, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(str(certificate), append=number > 0)
        return certificate, key

    def _services(self) -> str:
        """The usual services without chroot, without those for pipes, and our port instead of 25."""
        lines = []
        for line in MASTER_CF.read_text().splitlines():
            if line.startswith("#") or re.match(r"smtp +inet", line):
                continue
            if line.endswith("pipe"):
                break
            lines.append(re.sub(r"^((?:[^ ]+ +){4})y ", r"\1n ", line))
        lines.append(f"127.0.0.1:{self.port} inet n - n - - smtpd")
        return "\n".join([*lines, *self.services, ""])


def _passable(directory: Path) -> bool:
    existing = [each for each in (directory, *directory.parents) if each.exists()]
    return all(each.stat().st_mode & 0o001 for each in existing)
