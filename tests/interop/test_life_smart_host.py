"""A house that sends through a smart host, whole: the daemon, its configuration and its answers, with a real Postfix that asks for a login."""

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.testing.daemon import Daemon
from mta.testing.exim import PASSWORD, USER
from mta.testing.postfix import PrivatePostfix, missing
from mta.testing.processes import absent, wait_for

WANTING = missing() or absent("saslpasswd2").replace("saslpasswd2", "sasl2-bin")
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(WANTING), reason=f"needs {WANTING}")]


@pytest.fixture(scope="module")
def postfix() -> Iterator[PrivatePostfix]:
    with PrivatePostfix(tls=True, logins={USER: PASSWORD}) as postfix:
        yield postfix


@pytest.fixture
def daemon(postfix: PrivatePostfix, tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "password").write_text("not yet known\n")
    (tmp_path / "password").chmod(0o600)
    daemon = Daemon(
        tmp_path,
        routes=f'[[route]]\ndomains = ["*"]\nvia = "smtp:[127.0.0.1]:{postfix.port}"\n',
        extra=f'[[credential]]\nhost = "127.0.0.1"\nuser = "{USER}"\npassword_file = "password"\n'
        f'[outbound]\nauthorities = "{postfix.authority}"\n[queue]\nretry_min = "1h"\nretry_max = "1h"\n',
        relay_networks=["127.0.0.0/8"],
    )
    with daemon:
        yield daemon


def identifier_of(daemon: Daemon, domain: str) -> str:
    with smtplib.SMTP("127.0.0.1", daemon.mx, timeout=20) as client:
        client.ehlo("me.example")
        client.mail("a@me.example")
        client.rcpt(f"b@{domain}")
        code, text = client.data(b"Subject: by the smart host\r\n\r\nhello\r\n")
    assert code == 250
    return text.decode().split()[-1]


def test_a_wrong_password_waits_and_a_mended_one_sends(daemon: Daemon, postfix: PrivatePostfix) -> None:
    before = len(postfix.messages())
    identifier = identifier_of(daemon, postfix.domain)
    told = wait_for("a deferral", lambda: text if "535" in (text := daemon.mta("why", identifier).stdout) else None)
    assert "certificate verified" in told
    assert "not yet known" not in told
    daemon.directory.joinpath("password").write_text(PASSWORD + "\n")
    daemon.mta("reload")
    daemon.mta("queue", "retry", identifier)
    (message,) = postfix.wait_for_messages(before + 1)[before:]
    assert b"by the smart host" in message
    told = wait_for(
        "the relaying", lambda: text if "relayed" in (text := daemon.mta("why", identifier).stdout) else None
    )
    assert "certificate verified, logged in by SCRAM-SHA-256" in told
    postfix.wait_for_log(f"sasl_method=SCRAM-SHA-256, sasl_username={USER}")
    assert PASSWORD not in daemon.log.read_text() + told


def test_a_password_that_others_can_read_is_refused_at_a_reload(daemon: Daemon) -> None:
    secret = daemon.directory / "password"
    secret.chmod(0o644)
    refused = daemon.mta("reload", check=False)
    assert refused.returncode == 78
    assert f"{secret} holds secrets but has mode 0644" in refused.stderr
    checked = daemon.mta("config", "check", check=False)
    assert f"mend it with: chmod 0640 {secret}" in (checked.stdout + checked.stderr)
