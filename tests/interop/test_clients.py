"""Other people's clients: each logs in as it likes to, and what it sent lies in the maildir, octet for octet."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path

import pytest

from mta.testing.open_house import PASSWORD, USER, OpenHouse
from mta.testing.processes import absent

pytestmark = pytest.mark.real


def needs(package: str) -> pytest.MarkDecorator:
    """Skips with the name of what is absent; in CI that is a failure (tests/conftest.py)."""
    return pytest.mark.skipif(bool(absent(package)), reason=f"needs the Debian package {package}")


def check_submitted(house: OpenHouse, local: str, mechanism: str) -> None:
    """The letter is there unchanged, logged in by the mechanism, over TLS."""
    (message,) = house.arrived(local)
    assert message.endswith(house.letter(local))
    assert b" with ESMTPSA id " in message.partition(b"\r\n\r\n")[0]
    story = house.story(local)
    assert (story["auth"], story["mechanism"]) == (USER, mechanism)
    assert str(story["tls"]).startswith("TLSv1.3 ")


# --- swaks ------------------------------------------------------------------------------------------------------------


def swaks(house: OpenHouse, local: str, *options: str) -> list[str | Path]:
    letter = house.daemon.directory / f"{local}.eml"
    letter.write_bytes(house.letter(local).removesuffix(b"\r\n"))  # swaks adds a newline of its own
    trust = ["--tls-verify", "--tls-ca-path", str(house.authority)]
    return ["swaks", *trust, "--from", USER, "--to", f"{local}@dev.test", "--data", f"@{letter}", *options]


@needs("swaks")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
def test_swaks_logs_in(house: OpenHouse, mechanism: str, implicit: bool) -> None:
    local = f"swaks-{mechanism}-{implicit}".lower()
    port = house.daemon.submissions if implicit else house.daemon.submission
    login = ["--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD]
    tls = "--tls-on-connect" if implicit else "--tls"
    house.run(swaks(house, local, "--server", f"127.0.0.1:{port}", tls, *login))
    check_submitted(house, local, mechanism)


@needs("swaks")
def test_swaks_pipelines(house: OpenHouse) -> None:
    local = "swaks-pipeline"
    house.run(swaks(house, local, "--server", f"127.0.0.1:{house.daemon.mx}", "--pipeline"))
    (message,) = house.arrived(local)
    assert message.endswith(house.letter(local))


@needs("swaks")
def test_swaks_with_a_wrong_password_is_refused(house: OpenHouse) -> None:
    server = ["--server", f"127.0.0.1:{house.daemon.submission}", "--tls"]
    login = ["--auth", "PLAIN", "--auth-user", USER, "--auth-password", "wrong"]
    done = house.run(swaks(house, "swaks-wrong", *server, *login), check=False)
    assert done.returncode == 28
    assert b"535 5.7.8" in done.stdout


@needs("swaks")
def test_swaks_may_not_relay(house: OpenHouse) -> None:
    command = ["swaks", "--server", f"127.0.0.1:{house.daemon.mx}", "--from", "a@x.example", "--to", "b@y.example"]
    done = house.run(command, check=False)
    assert done.returncode == 24
    assert b"550 5.7.1 Relaying denied" in done.stdout


# --- curl -------------------------------------------------------------------------------------------------------------


@needs("curl")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_curl_logs_in(house: OpenHouse, mechanism: str, scheme: str) -> None:
    local = f"curl-{scheme}-{mechanism}".lower()
    letter = house.daemon.directory / f"{local}.eml"
    letter.write_bytes(house.letter(local))
    port = house.daemon.submission if scheme == "smtp" else house.daemon.submissions
    url = [f"{scheme}://localhost:{port}/client.example", "--ssl-reqd", "--cacert", str(house.authority)]
    login = ["--user", f"{USER}:{PASSWORD}", "--login-options", f"AUTH={mechanism}"]
    envelope = ["--mail-from", USER, "--mail-rcpt", f"{local}@dev.test", "--upload-file", str(letter)]
    house.run(["curl", "-q", "-sSv", "-4", *url, *login, *envelope])
    check_submitted(house, local, mechanism)


@needs("curl")
def test_curl_with_a_wrong_password_is_refused(house: OpenHouse) -> None:
    url = [f"smtps://localhost:{house.daemon.submissions}", "--cacert", str(house.authority)]
    envelope = ["--mail-from", USER, "--mail-rcpt", "x@dev.test", "--upload-file", "-"]
    done = house.run(["curl", "-q", "-sS", "-4", *url, "--user", f"{USER}:wrong", *envelope], check=False)
    assert done.returncode == 67


# --- msmtp ------------------------------------------------------------------------------------------------------------


@needs("msmtp")
@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("starttls", [True, False], ids=["starttls", "tls"])
def test_msmtp_logs_in(house: OpenHouse, mechanism: str, starttls: bool) -> None:
    local = f"msmtp-{mechanism}-{starttls}".lower()
    port = house.daemon.submission if starttls else house.daemon.submissions
    tls = ["--tls=on", f"--tls-starttls={'on' if starttls else 'off'}", f"--tls-trust-file={house.authority}"]
    login = [f"--auth={mechanism}", f"--user={USER}", f"--passwordeval=echo {PASSWORD}"]
    command = ["msmtp", "--host=localhost", f"--port={port}", *tls, *login, f"--from={USER}", f"{local}@dev.test"]
    house.run(command, stdin=house.letter(local).replace(b"\r\n", b"\n"))
    check_submitted(house, local, mechanism.upper())


@needs("msmtp")
def test_msmtp_with_a_wrong_password_is_refused(house: OpenHouse) -> None:
    tls = ["--tls=on", "--tls-starttls=on", f"--tls-trust-file={house.authority}"]
    login = ["--auth=scram-sha-256", f"--user={USER}", "--passwordeval=echo wrong"]
    command = ["msmtp", "--host=localhost", f"--port={house.daemon.submission}", *tls, *login, f"--from={USER}"]
    done = house.run([*command, "x@dev.test"], stdin=b"Subject: x\n\nx\n", check=False)
    assert done.returncode == 77


# --- gsasl ------------------------------------------------------------------------------------------------------------


def gsasl(house: OpenHouse, mechanism: str, password: str) -> list[str | Path]:
    where = [f"--connect=localhost:{house.daemon.submission}", f"--x509-ca-file={house.authority}"]
    return ["gsasl", "--smtp", *where, "-m", mechanism, "--no-cb", "-a", USER, "-p", password, "--verbose"]


@needs("gsasl")
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN", "LOGIN"])
def test_gsasl_logs_in_and_trusts_the_server(house: OpenHouse, mechanism: str) -> None:
    done = house.run(gsasl(house, mechanism, PASSWORD))
    said = done.stdout + done.stderr
    assert b"235 2.7.0" in said
    assert b"Client authentication finished" in said


@needs("gsasl")
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
def test_gsasl_with_a_wrong_password_is_refused(house: OpenHouse, mechanism: str) -> None:
    done = house.run(gsasl(house, mechanism, "wrong"), check=False)
    assert done.returncode == 1
    assert b"535 5.7.8" in done.stdout + done.stderr


# --- Python's own -----------------------------------------------------------------------------------------------------


def _trust(house: OpenHouse) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(house.authority))


@pytest.mark.parametrize("mechanism", ["plain", "login"])
@pytest.mark.parametrize("initial", [True, False], ids=["in-one-line", "asked"])
def test_smtplib_logs_in_after_starttls(house: OpenHouse, mechanism: str, initial: bool) -> None:
    local = f"smtplib-{mechanism}-{initial}".lower()
    with smtplib.SMTP("localhost", house.daemon.submission, local_hostname="client.example") as client:
        assert client.ehlo()[0] == 250
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256"], "no passwords in clear text"
        client.starttls(context=_trust(house))
        client.ehlo()
        client.user, client.password = USER, PASSWORD
        answer = client.auth_plain if mechanism == "plain" else client.auth_login
        assert client.auth(mechanism, answer, initial_response_ok=initial)[0] == 235
        client.sendmail(USER, [f"{local}@dev.test"], house.letter(local), ["BODY=8BITMIME"])
    check_submitted(house, local, mechanism.upper())


def test_smtplib_over_implicit_tls(house: OpenHouse) -> None:
    local = "smtplib-tls"
    with smtplib.SMTP_SSL("localhost", house.daemon.submissions, context=_trust(house)) as client:
        client.login(USER, PASSWORD)
        assert client.sendmail(USER, [f"{local}@dev.test"], house.letter(local), ["BODY=8BITMIME"]) == {}
    check_submitted(house, local, "PLAIN")


def test_smtplib_sends_internationalised_mail(house: OpenHouse) -> None:
    with smtplib.SMTP("localhost", house.daemon.mx) as client:
        client.ehlo("client.example")
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        client.sendmail("jürgen@bücher.example", ["smtplib-utf8@dev.test"], house.letter("smtplib-utf8"), options)
    (message,) = house.arrived("smtplib-utf8")
    assert message.startswith("Return-Path: <jürgen@xn--bcher-kva.example>\r\n".encode())
    assert b" with UTF8SMTP id " in message


def test_a_hundred_messages_in_one_session_arrive_in_full(house: OpenHouse) -> None:
    with smtplib.SMTP("127.0.0.1", house.daemon.mx) as client:
        for _ in range(100):
            client.sendmail("a@client.example", ["hundred@dev.test"], house.letter("hundred"))
    messages = house.arrived("hundred", 100)
    assert len(messages) == 100
    assert all(message.endswith(house.letter("hundred")) for message in messages)
