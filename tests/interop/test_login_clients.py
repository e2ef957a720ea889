"""Logins of independent clients at our real listeners: real TLS, the own user store, threads; gsasl, swaks, curl, msmtp."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.threads import deferToThread

from mta.inbound.deadlines import Deadlines
from mta.inbound.factory import ESMTPFactory
from mta.inbound.listener import make_listener
from mta.sasl.authenticator import Authenticator, build_authenticator
from mta.sasl.user_database import UserDatabase
from mta.testing.house import house_configuration
from mta.testing.reception import MemoryReception
from mta.tls.selfsigned import main as make_certificate
from mta.tls.server import ServerContexts

pytestmark = pytest.mark.real
REACTOR: Any = reactor
PASSWORD = "demo-password"


class House:
    """Our submission listeners on loopback."""

    def __init__(self, directory: Path) -> None:
        self.authority = directory / "cert.pem"
        make_certificate(["--certificate", str(self.authority), "--key", str(directory / "key.pem"), "mail.dev.test"])
        self.users = UserDatabase(directory / "users.db")
        self.users.create(os.urandom)
        self.users.add("demo@dev.test", PASSWORD, now=0.0, random=os.urandom)
        self.configuration = house_configuration(
            {
                "tls": {"certificate": str(self.authority), "private_key": str(directory / "key.pem")},
                "auth": {"backend": [{"kind": "users", "path": str(self.users.path)}]},
            }
        )
        self.contexts = ServerContexts(self.configuration.tls)
        self.memory = MemoryReception()
        self.deadlines = Deadlines(REACTOR)
        self.ports: dict[str, Any] = {}
        self.authenticator: Authenticator
        self.renew()

    def renew(self) -> None:
        """A new authenticator: no throttle, no cache."""
        self.authenticator = build_authenticator(self.configuration, reactor=REACTOR)
        self.authenticator.start()

    def listen(self) -> None:
        for section in self.configuration.listener:
            listener = make_listener(
                section,
                self.configuration,
                authenticator=self.authenticator,
                tls=self.contexts.context_factory(section.name),
            )
            factory = ESMTPFactory(self.authenticator.portal, listener, self.memory.reception, self.deadlines, REACTOR)
            self.ports[section.name] = REACTOR.listenTCP(0, factory, interface="127.0.0.1")

    def port(self, listener: str) -> int:
        return int(self.ports[listener].getHost().port)

    async def close(self) -> None:
        await defer.gatherResults([defer.maybeDeferred(port.stopListening) for port in self.ports.values()])
        self.deadlines.stop()
        self.authenticator.stop()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.listen()
    yield house
    pytest_twisted.blockon(defer.ensureDeferred(house.close()))


async def run(*command: str, say: bytes = b"") -> tuple[int, str]:
    """A client: its exit code and all that it said."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = await deferToThread(
        subprocess.run,
        list(command),
        input=say,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=8,
        start_new_session=True,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def answer(said: str) -> str:
    """The code of AUTH's final reply."""
    found = re.search(r"\b(235|454|504|535|538)[ -]", said)
    return found[1] if found else ""


async def gsasl(
    house: House, mechanism: str, password: str = PASSWORD, *options: str, user: str = "demo"
) -> tuple[int, str]:
    """gsasl never sends an initial response, and verifies the server's signature of SCRAM itself."""
    connect = f"--connect=localhost:{house.port('submission')}"
    command = ("gsasl", "--smtp", "--verbose", connect, f"--x509-ca-file={house.authority}", "-m", mechanism)
    return await run(*command, "-a", user, "-p", password, *options)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN", "LOGIN"])
@pytest_twisted.ensureDeferred
async def test_gsasl_logs_in_with_the_right_password_alone(house, mechanism):
    options = ["--no-cb"] if mechanism.startswith("SCRAM") else []  # it insists on channel binding otherwise
    code, said = await gsasl(house, mechanism, PASSWORD, *options)
    assert (code, answer(said)) == (0, "235"), said
    assert "server trusted" in said
    for password, user in (("wrong", "demo"), (PASSWORD, "nobody")):
        code, said = await gsasl(house, mechanism, password, *options, user=user)
        assert code != 0
        assert answer(said) == "535", said


@pytest_twisted.ensureDeferred
async def test_gsasl_may_not_act_for_somebody_else(house):
    assert answer((await gsasl(house, "PLAIN", PASSWORD, "-z", "demo@dev.test"))[1]) == "235"
    assert answer((await gsasl(house, "PLAIN", PASSWORD, "-z", "other@dev.test"))[1]) == "535"


@pytest_twisted.ensureDeferred
async def test_in_clear_text_gsasl_may_prove_but_not_show_its_password(house):
    assert answer((await gsasl(house, "SCRAM-SHA-256", PASSWORD, "--no-starttls", "--no-cb"))[1]) == "235"
    code, said = await gsasl(house, "PLAIN", PASSWORD, "--no-starttls")
    assert code != 0
    assert answer(said) == "538", said


@pytest_twisted.ensureDeferred
async def test_a_password_with_an_umlaut_is_one_in_both_normal_forms(house):
    house.users.add("zoe@dev.test", "pa\u00dfw\u00f6rter", now=0.0, random=os.urandom)
    for password in ("pa\u00dfw\u00f6rter", "pa\u00dfwo\u0308rter"):
        assert answer((await gsasl(house, "SCRAM-SHA-256", password, "--no-cb", user="zoe"))[1]) == "235"
        assert answer((await gsasl(house, "PLAIN", password, user="zoe"))[1]) == "235"


def without_tls_of_perl() -> bool:
    return subprocess.run(["perl", "-MNet::SSLeay", "-e1"], capture_output=True).returncode != 0


@pytest.mark.skipif(without_tls_of_perl(), reason="libnet-ssleay-perl is not installed: swaks has no TLS")
@pytest.mark.parametrize(
    ("listener", "how"),
    [
        ("submission", "--tls"),
        ("submissions", "--tls-on-connect"),
    ],
)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest_twisted.ensureDeferred
async def test_swaks_logs_in_over_starttls_and_implicit_tls(house, mechanism, listener, how):
    server = f"127.0.0.1:{house.port(listener)}"
    command = f"swaks --server {server} {how} --quit-after AUTH --from demo@dev.test --auth {mechanism}".split()
    code, said = await run(*command, "--to", "x@dev.test", "--auth-user", "demo", "--auth-password", PASSWORD)
    assert code == 0, said
    code, said = await run(*command, "--to", "x@dev.test", "--auth-user", "demo", "--auth-password", "wrong")
    assert code == 28, said


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest_twisted.ensureDeferred
async def test_curl_logs_in_with_and_without_an_initial_response(house, mechanism):
    for options in ([], ["--sasl-ir"]):
        code, said = await run(
            *("curl", "--silent", "--verbose", "--ssl-reqd", "--cacert", str(house.authority)),
            *("--url", f"smtp://localhost:{house.port('submission')}", "--login-options", f"AUTH={mechanism}"),
            *("--user", f"demo:{PASSWORD}", "--request", "NOOP", *options),
        )
        assert (code, answer(said)) == (0, "235"), said


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
@pytest_twisted.ensureDeferred
async def test_msmtp_hands_in_a_mail(house, mechanism):
    command = (
        *("msmtp", "--host=localhost", f"--port={house.port('submission')}", "--tls=on", "--tls-starttls=on"),
        *(f"--tls-trust-file={house.authority}", f"--auth={mechanism}", "--user=demo", "--from=demo@dev.test"),
        f"--passwordeval=echo {PASSWORD}",
    )
    code, said = await run(*command, "demo@dev.test", say=b"Subject: login\r\n\r\ntext\r\n")
    assert code == 0, said
    assert len(house.memory.accepted) == 1
    assert house.memory.accepted[0][0].message.authcid == "demo@dev.test"
    assert house.memory.accepted[0][0].message.mechanism == mechanism.upper()


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_away_is_temporary_and_comes_back(house):
    away = house.users.path.with_suffix(".away")
    house.users.path.rename(away)
    assert answer((await gsasl(house, "PLAIN"))[1]) == "454"
    assert answer((await gsasl(house, "SCRAM-SHA-256", PASSWORD, "--no-cb"))[1]) == "454"
    away.rename(house.users.path)
    assert answer((await gsasl(house, "PLAIN"))[1]) == "235"


@pytest_twisted.ensureDeferred
async def test_guessing_gets_slow_and_the_log_tells_no_password(house):
    for _ in range(3):
        await gsasl(house, "PLAIN", "wrong-guess")
    began = time.monotonic()
    assert answer((await gsasl(house, "PLAIN", "wrong-guess"))[1]) == "535"
    assert time.monotonic() - began > 1
    told = repr(house.memory.log.events) + repr(vars(house.memory.refusals))
    assert "wrong password" in told
    assert "wrong-guess" not in told
