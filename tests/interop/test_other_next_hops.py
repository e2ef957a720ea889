"""Real Exim and OpenSMTPD as next hops, and real smart hosts that ask for a login: Postfix with Cyrus SASL, Exim."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_twisted
from twisted.internet import defer, reactor

from mta.delivery.agent import Attempt
from mta.delivery.logins import NO_LOGINS, Logins
from mta.delivery.mx import Ourselves
from mta.delivery.options import SmtpOptions
from mta.delivery.smtp import SmtpAgent
from mta.mail.envelope import BodyFile
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.sasl.password_login import PasswordLogin
from mta.testing import exim as exim_parts
from mta.testing import opensmtpd as opensmtpd_parts
from mta.testing import postfix as postfix_parts
from mta.testing.exim import PrivateExim
from mta.testing.fake_resolver import FakeResolver
from mta.testing.letters import HEADER, job
from mta.testing.opensmtpd import PrivateOpenSmtpd
from mta.testing.postfix import PrivatePostfix
from mta.testing.processes import absent
from mta.tls.client import ClientContexts

pytestmark = pytest.mark.real
REACTOR: Any = reactor
USER, PASSWORD = exim_parts.USER, exim_parts.PASSWORD
SMART = "smart.example"  # the smart hosts' certificates are for this name
NO_POSTFIX = postfix_parts.missing() or absent("saslpasswd2").replace("saslpasswd2", "sasl2-bin")


class Hop(Protocol):
    port: int
    domain: str
    host: str

    def messages(self) -> list[bytes]: ...

    def wait_for_messages(self, count: int, seconds: float = 20.0) -> list[bytes]: ...


@pytest.fixture(scope="module", params=["Exim in clear text", "Exim with STARTTLS", "OpenSMTPD in clear text"])
def hop(request: pytest.FixtureRequest) -> Iterator[Hop]:
    parts: Any = opensmtpd_parts if "OpenSMTPD" in request.param else exim_parts
    if reason := parts.missing():
        pytest.skip(f"needs {reason}")
    hop: Any = PrivateOpenSmtpd() if parts is opensmtpd_parts else PrivateExim(tls="STARTTLS" in request.param)
    with hop:
        yield hop


@pytest.fixture(scope="module")
def exim() -> Iterator[PrivateExim]:
    if reason := exim_parts.missing():
        pytest.skip(f"needs {reason}")
    with PrivateExim(host=SMART, tls=True) as exim:
        yield exim


@pytest.fixture(scope="module")
def postfix() -> Iterator[PrivatePostfix]:
    if NO_POSTFIX:
        pytest.skip(f"needs {NO_POSTFIX}")
    with PrivatePostfix(host=SMART, tls=True, logins={USER: PASSWORD}) as postfix:
        yield postfix


MakeAgent = Callable[..., SmtpAgent]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[MakeAgent]:
    made: list[SmtpAgent] = []

    def make(hop: Hop, *, trust: Path | None = None, logins: Logins = NO_LOGINS) -> SmtpAgent:
        options = SmtpOptions(
            "me.example.org", 5, hop.port, Ourselves("me.example.org", (), allow_loopback=True), logins=logins
        )
        made.append(
            SmtpAgent(
                REACTOR,
                resolver=FakeResolver({hop.domain: [(10, hop.host)]}, {hop.host: ["127.0.0.1"], SMART: ["127.0.0.1"]}),
                random=random.Random(1),
                now=time.time,
                options=lambda: options,
                body_path=lambda _message, body: tmp_path / body.path,
                tls=ClientContexts(trust=trust).context_factory,
            )
        )
        return made[-1]

    yield make
    for each in made:
        pytest_twisted.blockon(each.stop())


def body_of(number: int) -> bytes:
    return f"Number {number}.\r\n.\r\n..two dots\r\n".encode() + b"z" * 900 + b"\r\n" + "é\r\n".encode()


async def deliver(agent: SmtpAgent, *args: Any, **kwargs: Any) -> Attempt:
    return await agent.deliver(job(*args, **kwargs))


# --- Exim and OpenSMTPD -----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_mail_arrives_as_it_was(hop: Hop, agent: MakeAgent) -> None:
    before, relaying = len(hop.messages()), agent(hop)
    jobs = [
        deliver(
            relaying, f"mx:{hop.domain}", f"u{number}@{hop.domain}",
            header=HEADER + f"X-Number: {number}\r\n".encode(), body=body_of(number), has_8bit=True,
        )
        for number in range(12)
    ]  # fmt: skip
    attempts = await defer.gatherResults([defer.ensureDeferred(each) for each in jobs])
    for attempt in attempts:
        assert {type(outcome) for outcome in attempt.outcomes.values()} == {Relayed}
        assert attempt.trail[-1].tls.startswith("TLSv1.3 ") == bool(getattr(hop, "tls", False))
    texts = hop.wait_for_messages(before + 12)[before:]
    for number in range(12):
        mark = f"X-Number: {number}\n".encode()
        (body,) = [text.partition(b"\n\n")[2] for text in texts if mark in text]
        assert body == body_of(number).replace(b"\r\n", b"\n")


@pytest_twisted.ensureDeferred
async def test_a_message_of_many_blocks_arrives_whole(hop: Hop, agent: MakeAgent, tmp_path: Path) -> None:
    body = b"".join(b"%07d" % number + b"." * 60 + b"\r\n.\r\n" for number in range(20_000))
    (tmp_path / "large").write_bytes(body)
    before = len(hop.messages())
    large = BodyFile("large", len(body))
    attempt = await deliver(agent(hop), f"smtp:[127.0.0.1]:{hop.port}", f"big@{hop.domain}", body=large)
    assert isinstance(attempt.outcomes[1], Relayed), attempt
    texts = hop.wait_for_messages(before + 1)
    assert body.replace(b"\r\n", b"\n") in [text.partition(b"\n\n")[2] for text in texts]


@pytest_twisted.ensureDeferred
async def test_refusals_mean_what_they_say(hop: Hop, agent: MakeAgent) -> None:
    if isinstance(hop, PrivateExim):
        names = [f"{name}@{hop.domain}" for name in ("tmp", "bad", "good")]
        attempt = await deliver(agent(hop), f"mx:{hop.domain}", *names)
        assert [type(outcome) for outcome in attempt.outcomes.values()] == [Deferred, Failed, Relayed]
        assert attempt.outcomes[1].status == "4.2.0"
        assert attempt.outcomes[2].status == "5.1.1"
    else:
        attempt = await deliver(agent(hop), f"smtp:[127.0.0.1]:{hop.port}", "a@elsewhere.example", f"b@{hop.domain}")
        assert [type(outcome) for outcome in attempt.outcomes.values()] == [Failed, Relayed]


# --- smart hosts ------------------------------------------------------------------------------------------------------


def login(*mechanisms: str, password: str = PASSWORD, user: str = USER) -> Logins:
    number = iter(range(1000))
    return Logins({(SMART, 0): PasswordLogin(user, password, mechanisms, nonce=lambda: f"nonce{next(number)}")})


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
async def test_postfix_relays_for_who_logged_in(postfix: PrivatePostfix, agent: MakeAgent, mechanism: str) -> None:
    relaying = agent(postfix, trust=postfix.authority, logins=login(mechanism))
    attempt = await deliver(relaying, f"smtp:[{SMART}]:{postfix.port}", f"a@{postfix.domain}", auth_param="w@x.example")
    assert isinstance(attempt.outcomes[1], Relayed), attempt
    (tried,) = attempt.trail
    assert (tried.login, tried.verified) == (mechanism, True)
    assert tried.tls.startswith("TLSv1.3 ")
    postfix.wait_for_log(f"sasl_method={mechanism}, sasl_username={USER}")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_exim_relays_for_who_logged_in(exim: PrivateExim, agent: MakeAgent, mechanism: str) -> None:
    before = len(exim.messages())
    relaying = agent(exim, trust=exim.authority, logins=login(mechanism))
    attempt = await deliver(relaying, f"smtp:[{SMART}]:{exim.port}", f"a@{exim.guarded_domain}")
    assert isinstance(attempt.outcomes[1], Relayed), attempt
    exim.wait_for_messages(before + 1)
    assert f"A={mechanism.lower()}:{USER}" in exim.log_text()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password_defers(postfix: PrivatePostfix, agent: MakeAgent, mechanism: str) -> None:
    relaying = agent(postfix, trust=postfix.authority, logins=login(mechanism, password="wrong"))
    attempt = await deliver(relaying, f"smtp:[{SMART}]:{postfix.port}", f"a@{postfix.domain}", f"b@{postfix.domain}")
    assert {type(outcome) for outcome in attempt.outcomes.values()} == {Deferred}
    assert {(outcome.code, outcome.status) for outcome in attempt.outcomes.values()} == {(535, "4.7.8")}
    assert attempt.trail[-1].phase == "AUTH"


@pytest_twisted.ensureDeferred
async def test_without_a_login_postfix_refuses_and_it_counts_as_said(postfix: PrivatePostfix, agent: MakeAgent) -> None:
    """The control: this smart host does ask."""
    relaying = agent(postfix, trust=postfix.authority)
    attempt = await deliver(relaying, f"smtp:[{SMART}]:{postfix.port}", f"a@{postfix.domain}")
    assert isinstance(attempt.outcomes[1], Failed)
    assert attempt.outcomes[1].status == "5.7.1"


@pytest_twisted.ensureDeferred
async def test_a_smart_host_that_can_not_be_verified_hears_no_login(
    postfix: PrivatePostfix, exim: PrivateExim, agent: MakeAgent
) -> None:
    """Trusting another's authority: the certificate is as good as that of anybody who got hold of the name."""
    said = postfix.log_text()
    relaying = agent(postfix, trust=exim.authority, logins=login("PLAIN", "LOGIN", "SCRAM-SHA-256"))
    attempt = await deliver(relaying, f"smtp:[{SMART}]:{postfix.port}", f"a@{postfix.domain}")
    assert isinstance(attempt.outcomes[1], Deferred)
    assert attempt.outcomes[1].status == "4.7.5"
    assert "validation-failure" in attempt.outcomes[1].text
    assert "sasl" not in postfix.log_text().removeprefix(said)


@pytest_twisted.ensureDeferred
async def test_verify_holds_against_real_certificates(
    postfix: PrivatePostfix, exim: PrivateExim, agent: MakeAgent
) -> None:
    trusting = agent(exim, trust=exim.authority)
    attempt = await deliver(trusting, f"smtp:[{SMART}]:{exim.port};tls=verify", f"a@{exim.domain}")
    assert isinstance(attempt.outcomes[1], Relayed)
    assert attempt.trail[-1].verified
    doubting = agent(exim, trust=postfix.authority)
    attempt = await deliver(doubting, f"smtp:[{SMART}]:{exim.port};tls=verify", f"a@{exim.domain}")
    assert isinstance(attempt.outcomes[1], Deferred)
