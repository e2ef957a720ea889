"""A real Postfix as next hop: what we send arrives as it was, with and without TLS, and its refusals mean what it says."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer, reactor

from mta.delivery.agent import Attempt
from mta.delivery.mx import Ourselves
from mta.delivery.options import SmtpOptions
from mta.delivery.smtp import SmtpAgent
from mta.mail.envelope import BodyFile
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.testing.fake_resolver import FakeResolver
from mta.testing.letters import HEADER, job
from mta.testing.postfix import PrivatePostfix, missing
from mta.tls.client import ClientContexts

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]
REACTOR: Any = reactor


@pytest.fixture(scope="module", params=[False, True], ids=["clear text", "STARTTLS"])
def postfix(request: pytest.FixtureRequest) -> Iterator[PrivatePostfix]:
    with PrivatePostfix(tls=request.param) as postfix:
        yield postfix


@pytest.fixture
def agent(postfix: PrivatePostfix, tmp_path: Path) -> Iterator[SmtpAgent]:
    options = SmtpOptions("me.example.org", 5, postfix.port, Ourselves("me.example.org", (), allow_loopback=True))
    agent = SmtpAgent(
        REACTOR,
        resolver=FakeResolver({postfix.domain: [(10, "pf.example")]}, {"pf.example": ["127.0.0.1"]}),
        random=random.Random(1),
        now=time.time,
        options=lambda: options,
        body_path=lambda _message, body: tmp_path / body.path,
        tls=ClientContexts().context_factory,
    )
    yield agent
    pytest_twisted.blockon(agent.stop())


def body_of(number: int) -> bytes:
    return f"Number {number}.\r\n.\r\n..two dots\r\n".encode() + b"z" * 990 + b"\r\n" + "é\r\n".encode()


def arrived(postfix: PrivatePostfix, subject: bytes) -> list[bytes]:
    return [text for text in postfix.messages() if b"Subject: " + subject + b"\n" in text]


async def deliver(agent: SmtpAgent, *args: Any, **kwargs: Any) -> Attempt:
    return await agent.deliver(job(*args, **kwargs))


@pytest_twisted.ensureDeferred
async def test_mail_arrives_as_it_was_and_as_private_as_offered(postfix: PrivatePostfix, agent: SmtpAgent) -> None:
    before = len(postfix.messages())
    jobs = [
        deliver(
            agent, f"mx:{postfix.domain}", f"u{number}@{postfix.domain}", f"v{number}@{postfix.domain}",
            header=HEADER + f"X-Number: {number}\r\n".encode(), body=body_of(number), has_8bit=True,
        )
        for number in range(20)
    ]  # fmt: skip
    attempts = await defer.gatherResults([defer.ensureDeferred(each) for each in jobs])
    for attempt in attempts:
        assert {type(outcome) for outcome in attempt.outcomes.values()} == {Relayed}
        assert attempt.trail[-1].tls.startswith("TLSv1.3 ") == postfix.tls
    texts = postfix.wait_for_messages(before + 40)[before:]
    for number in range(20):
        mark = f"X-Number: {number}\n".encode()
        bodies = [text.partition(b"\n\n")[2] for text in texts if mark in text]
        assert bodies == [body_of(number).replace(b"\r\n", b"\n")] * 2
    assert postfix.log_text().count(": connect from") <= 1 + 5  # one is the fixture's, asking whether it is up


@pytest_twisted.ensureDeferred
async def test_a_message_of_many_blocks_arrives_whole(
    postfix: PrivatePostfix, agent: SmtpAgent, tmp_path: Path
) -> None:
    body = b"".join(b"%07d" % number + b"." * 60 + b"\r\n.\r\n" for number in range(50_000))
    (tmp_path / "large").write_bytes(body)
    destination = f"smtp:[127.0.0.1]:{postfix.port}"
    before = len(postfix.messages())
    large = BodyFile("large", len(body))
    attempt = await deliver(agent, destination, f"big@{postfix.domain}", header=b"Subject: big\r\n", body=large)
    assert isinstance(attempt.outcomes[1], Relayed), attempt
    postfix.wait_for_messages(before + 1)
    (text,) = arrived(postfix, b"big")
    assert text.partition(b"\n\n")[2] == body.replace(b"\r\n", b"\n")


@pytest_twisted.ensureDeferred
async def test_450_550_and_250_in_one_transaction(postfix: PrivatePostfix, agent: SmtpAgent) -> None:
    names = [f"{name}@{postfix.domain}" for name in ("tmp", "bad", "good")]
    attempt = await deliver(agent, f"mx:{postfix.domain}", *names)
    later, nobody, taken = (attempt.outcomes[number] for number in (1, 2, 3))
    assert isinstance(later, Deferred)
    assert (later.code, later.status) == (450, "4.2.0")
    assert isinstance(nobody, Failed)
    assert (nobody.code, nobody.status) == (550, "5.1.1")
    assert isinstance(taken, Relayed)
    assert taken.dsn_capable
    assert taken.text.startswith("Ok: queued as ")
    assert len(attempt.trail) == 1


@pytest_twisted.ensureDeferred
async def test_when_all_are_refused_the_connection_serves_on(postfix: PrivatePostfix, agent: SmtpAgent) -> None:
    refused = await deliver(agent, f"mx:{postfix.domain}", f"bad@{postfix.domain}", f"tmp@{postfix.domain}")
    assert [type(outcome) for outcome in refused.outcomes.values()] == [Failed, Deferred]
    taken = await deliver(agent, f"mx:{postfix.domain}", f"good@{postfix.domain}", sender="")
    assert isinstance(taken.outcomes[1], Relayed)


@pytest_twisted.ensureDeferred
async def test_foreign_mail_is_refused_by_postfix_and_fails(postfix: PrivatePostfix, agent: SmtpAgent) -> None:
    attempt = await deliver(agent, f"smtp:[127.0.0.1]:{postfix.port}", "a@elsewhere.example")
    assert isinstance(attempt.outcomes[1], Failed)
    assert attempt.outcomes[1].status.startswith("5.7.")
