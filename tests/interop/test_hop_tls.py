"""TLS to next hops over real sockets: when it is used, what a failure means at each level, and what a certificate proves."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from mta.dns.resolver import Answer, MailExchanger
from mta.mail.envelope import BodyFile
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.testing.certified import Certified
from mta.testing.letters import HEADER, job
from mta.testing.next_hops import NAME, NextHops, kinds, only, until
from mta.testing.remote_host import STALL, Turns
from mta.tls.client import ClientContexts


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> Certified:
    return Certified(authority, NAME, "mx1.example.org", "127.0.0.1")


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> Any:
    """A client that trusts the authority, and no other."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return ClientContexts(trust=path).context_factory


client_tls = ClientContexts().context_factory


@implementer(IOpenSSLServerConnectionCreator)
class Broken:
    """No certificate: every handshake fails."""

    def serverConnectionForTLS(self, _: object) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD), None)


@pytest_twisted.ensureDeferred
async def test_tls_is_used_when_it_is_offered(hops: NextHops, server_tls: Any) -> None:
    remote = hops.remote(tls=server_tls)
    attempt = await hops.agent(tls=client_tls).deliver(hops.to(remote))
    assert isinstance(only(attempt), Relayed)
    assert remote.messages[0].tls
    assert attempt.trail[0].tls.startswith("TLSv1.3 ")
    assert [command.split()[0] for command in remote.commands][:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


@pytest_twisted.ensureDeferred
async def test_a_large_body_goes_through_tls(hops: NextHops, server_tls: Any) -> None:
    body = b"y" * 70 + b"\r\n"
    (hops.bodies / "large").write_bytes(body * 10_000)
    remote = hops.remote(tls=server_tls)
    attempt = await hops.agent(tls=client_tls).deliver(hops.to(remote, body=BodyFile("large", 720_000)))
    assert isinstance(only(attempt), Relayed)
    assert len(remote.messages[0].content) == 720_000 + len(HEADER) + 2


@pytest_twisted.ensureDeferred
async def test_a_failed_handshake_is_followed_by_clear_text_on_a_new_connection(hops: NextHops) -> None:
    remote = hops.remote(tls=Broken())
    agent = hops.agent(tls=client_tls)
    attempt = await agent.deliver(hops.to(remote))
    assert isinstance(only(attempt), Relayed)
    assert not remote.messages[0].tls
    assert [tried.phase for tried in attempt.trail] == ["TLS handshake", "end of data"]
    assert len(remote.sessions) == 2
    assert "STARTTLS" not in remote.sessions[1].commands


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_stalls_ends_in_clear_text(hops: NextHops) -> None:
    remote = hops.remote({"STARTTLS": "220 go"}, extensions=("STARTTLS", "PIPELINING"))
    attempt = hops.agent(tls=client_tls).deliver(hops.to(remote))
    await until(lambda: "STARTTLS" in remote.commands and len(remote.sessions[0].segments) == 3)
    hops.clock.pump([1] * 62)
    assert isinstance(only(await attempt), Relayed)


@pytest_twisted.ensureDeferred
async def test_a_busy_destination_gets_tls_again_a_minute_after_a_failed_handshake(
    hops: NextHops, server_tls: Any
) -> None:
    remote = hops.remote({"MAIL": Turns(STALL, "250 ok")}, tls=Broken())
    agent = hops.agent(tls=client_tls)
    agent.deliver(hops.to(remote))  # it is under way all the time
    await until(lambda: any(command.startswith("MAIL") for command in remote.commands))
    remote.tls = server_tls
    await agent.deliver(hops.to(remote))
    hops.clock.pump([1] * 61)
    await agent.deliver(hops.to(remote))
    assert [message.tls for message in remote.messages] == [False, True]


@pytest_twisted.ensureDeferred
async def test_clear_text_behind_starttls_ends_the_session_and_nothing_was_said_into_it(hops: NextHops) -> None:
    injected = b"220 go\r\n250-remote\r\n250 AUTH PLAIN LOGIN\r\n"
    remote = hops.remote({"STARTTLS": injected}, extensions=("STARTTLS", "PIPELINING"))
    attempt = await hops.agent(tls=client_tls).deliver(hops.to(remote))
    assert isinstance(only(attempt), Deferred)
    assert remote.sessions[0].received == b"EHLO me.example.org\r\nSTARTTLS\r\n"
    assert len(remote.sessions) == 1


# --- levels -----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_none_means_never(hops: NextHops, server_tls: Any, trusting: Any) -> None:
    remote = hops.remote(tls=server_tls)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, tls="none"))
    assert isinstance(only(attempt), Relayed)
    assert "STARTTLS" not in remote.commands


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("level", ["encrypt", "verify"])
@pytest.mark.parametrize("kind", ["not offered", "refused", "broken", "EHLO unknown"])
async def test_where_tls_is_required_the_mail_waits_for_it(
    hops: NextHops, level: str, kind: str, trusting: Any
) -> None:
    script: dict[str, Any] = {"STARTTLS": "454 4.7.0 not now"} if kind == "refused" else {}
    if kind == "EHLO unknown":
        script = {"EHLO": "502 what?"}
    offered = ("PIPELINING", "STARTTLS") if kind == "refused" else ("PIPELINING",)
    remote = hops.remote(script, extensions=offered, tls=Broken() if kind == "broken" else None)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, tls=level))
    assert kinds(attempt) == {Deferred}
    assert only(attempt).status.startswith("4.")
    assert len(remote.sessions) == 1
    assert not any(command.startswith("MAIL") for command in remote.commands)


@pytest_twisted.ensureDeferred
async def test_encrypt_takes_any_certificate_and_verify_the_right_one_alone(
    hops: NextHops, server_tls: Any, trusting: Any
) -> None:
    right = hops.remote(tls=server_tls)
    for tls, level, verified in ((trusting, "", True), (client_tls, "encrypt", False), (trusting, "verify", True)):
        attempt = await hops.agent(tls=tls).deliver(hops.by_name(right, tls=level))
        assert isinstance(only(attempt), Relayed)
        assert attempt.trail[-1].verified == verified
        assert attempt.trail[-1].tls.startswith("TLSv1.3 ")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["another name", "another authority", "expired"])
async def test_a_certificate_that_proves_nothing_is_refused_by_verify(
    hops: NextHops, authority: trustme.CA, trusting: Any, kind: str
) -> None:
    ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    wrong = {
        "another name": (Certified(authority, "evil.test"), "certificate-host-mismatch"),
        "another authority": (Certified(trustme.CA(), NAME), "validation-failure"),
        "expired": (Certified(authority, NAME, not_after=ago), "certificate-expired"),
    }
    certificate, problem = wrong[kind]
    remote = hops.remote(tls=certificate)
    refused = await hops.agent(tls=trusting).deliver(hops.by_name(remote, tls="verify"))
    assert kinds(refused) == {Deferred}
    assert (only(refused).status, problem in only(refused).text) == ("4.7.5", True)
    assert remote.sessions[0].commands == ["EHLO me.example.org", "STARTTLS"]
    opportunistic = await hops.agent(tls=trusting).deliver(hops.by_name(remote))
    assert isinstance(only(opportunistic), Relayed)  # better than clear text
    assert not opportunistic.trail[-1].verified
    assert remote.messages[0].tls


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("level", ["", "verify"])
async def test_tls_at_once_comes_before_the_greeting(
    hops: NextHops, server_tls: Any, trusting: Any, level: str
) -> None:
    remote = hops.remote(tls=server_tls, tls_at_once=True)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, tls=level, scheme="smtps"))
    assert isinstance(only(attempt), Relayed)
    assert remote.messages[0].tls
    assert [command.split()[0] for command in remote.commands] == ["EHLO", "MAIL", "RCPT", "DATA"]


@pytest_twisted.ensureDeferred
async def test_tls_at_once_with_a_clear_text_server_defers_and_says_nothing(hops: NextHops, trusting: Any) -> None:
    remote = hops.remote()
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, scheme="smtps"))
    assert kinds(attempt) == {Deferred}
    assert attempt.trail[-1].phase == "TLS handshake"
    assert len(remote.sessions) == 1
    assert not remote.messages


@pytest_twisted.ensureDeferred
async def test_the_next_host_takes_over_where_one_has_no_tls(hops: NextHops, server_tls: Any, trusting: Any) -> None:
    clear, private = hops.remote(), hops.remote(tls=Certified(trustme.CA(), "mx2.example.org"))
    hops.exchangers("example.org", clear, private)
    attempt = await hops.agent(tls=trusting).deliver(job("mx:example.org;tls=encrypt", "a@example.org"))
    assert isinstance(only(attempt), Relayed)
    assert [tried.host for tried in attempt.trail] == ["mx1.example.org", "mx2.example.org"]
    assert not clear.messages


@pytest_twisted.ensureDeferred
async def test_a_starttls_that_was_refused_is_told_of_a_message_in_clear_text(hops: NextHops, trusting: Any) -> None:
    remote = hops.remote({"STARTTLS": "454 4.7.0 not now"}, extensions=("PIPELINING", "STARTTLS"))
    attempt = await hops.agent(tls=trusting).deliver(hops.to(remote))
    assert isinstance(only(attempt), Relayed)
    assert attempt.trail[-1].note == "STARTTLS refused: 454 4.7.0 not now"
    assert attempt.trail[-1].record()["note"] == "STARTTLS refused: 454 4.7.0 not now"


# --- REQUIRETLS (RFC 8689) --------------------------------------------------------------------------------------------

OFFERED = ("PIPELINING", "REQUIRETLS")


@pytest_twisted.ensureDeferred
async def test_requiretls_goes_to_a_verified_hop_that_passes_it_on(
    hops: NextHops, server_tls: Any, trusting: Any
) -> None:
    remote = hops.remote(tls=server_tls, extensions=("PIPELINING",), extensions_in_tls=OFFERED)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, requiretls=True))
    assert isinstance(only(attempt), Relayed)
    assert remote.messages[0].mail == "MAIL FROM:<sender@example.org> REQUIRETLS"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["clear text", "unverified", "does not offer it", "offers it in clear text alone"])
async def test_requiretls_fails_where_nobody_can_keep_it(
    hops: NextHops, server_tls: Any, trusting: Any, kind: str
) -> None:
    fields: dict[str, Any] = {
        "clear text": {"extensions": OFFERED},
        "unverified": {"tls": Certified(trustme.CA(), NAME), "extensions": OFFERED},
        "does not offer it": {"tls": server_tls},
        "offers it in clear text alone": {
            "tls": server_tls, "extensions": OFFERED, "extensions_in_tls": ("PIPELINING",)
        },
    }[kind]  # fmt: skip
    remote = hops.remote(**fields)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, requiretls=True))
    assert isinstance(only(attempt), Failed)
    assert only(attempt).status == "5.7.30"
    assert not any(command.startswith("MAIL") for command in remote.commands)


@pytest_twisted.ensureDeferred
async def test_requiretls_tries_the_next_host_and_trusts_no_mx_record_that_could_be_forged(
    hops: NextHops, authority: trustme.CA, trusting: Any
) -> None:
    letter = job("mx:example.org", "a@example.org", requiretls=True)
    by_mx_name = hops.remote(tls=Certified(authority, "mx1.example.org"), extensions=OFFERED)
    by_domain = hops.remote(tls=Certified(authority, "example.org"), extensions=OFFERED)
    hops.exchangers("example.org", by_mx_name, by_domain)
    attempt = await hops.agent(tls=trusting).deliver(letter)
    assert isinstance(only(attempt), Relayed)
    assert [len(by_mx_name.messages), len(by_domain.messages)] == [0, 1]
    assert [tried.verified for tried in attempt.trail] == [True, True]
    hops.exchangers("example.org", by_mx_name)
    assert only(await hops.agent(tls=trusting).deliver(letter)).status == "5.7.30"
    hops.resolver.mx_table["example.org"] = Answer((MailExchanger(10, "mx1.example.org"),), authentic=True)
    assert isinstance(only(await hops.agent(tls=trusting).deliver(letter)), Relayed)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["broken", "refused"])
async def test_requiretls_waits_where_tls_failed(hops: NextHops, trusting: Any, kind: str) -> None:
    refused = {"STARTTLS": "454 4.7.0 not now"}
    remote = (
        hops.remote(tls=Broken(), extensions=OFFERED)
        if kind == "broken"
        else hops.remote(refused, extensions=(*OFFERED, "STARTTLS"))
    )
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, requiretls=True))
    assert kinds(attempt) == {Deferred}
    assert not remote.messages
