"""Our login at a smart host, over real sockets: who gets the secret and, above all, who does not."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme

from mta.delivery.logins import Logins
from mta.mail.outcome import Deferred, Relayed
from mta.sasl.mechanisms.scram import ScramServer
from mta.sasl.mechanisms.step import Ask, Proven, SaslError, ScramClaim, Surroundings
from mta.sasl.password_login import NoPassword, PasswordLogin
from mta.sasl.verifier import derive
from mta.testing.certified import Certified
from mta.testing.letters import job
from mta.testing.next_hops import NAME, NextHops, kinds, only
from mta.testing.remote_host import RemoteHost, RemoteSession
from mta.tls.client import ClientContexts

USER, SECRET = "relay@example.org", "tr0ub4dor&3"
OFFERED = ("PIPELINING", "AUTH PLAIN LOGIN SCRAM-SHA-256")
PLAIN_ONLY = ("PIPELINING", "AUTH PLAIN")


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


PLAIN_LINE = "AUTH PLAIN " + encoded(f"\0{USER}\0{SECRET}")


def credential(**fields: Any) -> PasswordLogin:
    return PasswordLogin(USER, SECRET, **({"nonce": lambda: "ourNonce"} | fields))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> Any:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return ClientContexts(trust=path).context_factory


@pytest.fixture
def logging_in(hops: NextHops) -> Callable[..., NextHops]:
    """Hops with a credential for NAME; the fields are those of [[credential]]."""

    def made(port: int = 0, **fields: Any) -> NextHops:
        hops.logins = Logins({(NAME, port): credential(**fields)})
        return hops

    return made


def heard(remote: RemoteHost) -> bytes:
    """Every octet that any session of it could read."""
    return b"".join(session.received for session in remote.sessions)


def knows_the_secret(octets: bytes) -> bool:
    """In clear, in base64 at any of its three offsets, alone or in PLAIN's message."""
    shapes = [SECRET, *(encoded("x" * shift + SECRET)[4:-4] for shift in range(3))]
    return any(shape.encode() in octets for shape in [*shapes, encoded(f"\0{USER}\0{SECRET}"), encoded(SECRET)])


def scram_server(password: str = SECRET) -> Callable[[RemoteSession], str]:
    """A script for AUTH SCRAM-SHA-256 that plays a true server."""

    def begin(session: RemoteSession) -> str:
        server = ScramServer("sha256", Surroundings(nonce=lambda: "theirNonce"))
        claim = server.start(base64.b64decode(session.commands[-1].split()[2]))
        assert isinstance(claim, ScramClaim)

        def second(line: str) -> str:
            try:
                proven = server.respond(base64.b64decode(line))
            except SaslError:
                session.listener = None
                return "535 5.7.8 no"
            assert isinstance(proven, Proven)
            session.listener = third
            return f"334 {encoded(proven.data or b'')}"

        def third(_line: str) -> str:
            session.listener = None
            return "235 2.7.0 welcome"

        session.listener = second
        ask = server.supply(derive(password, "sha256", b"salt", 4096))
        assert isinstance(ask, Ask)
        return f"334 {encoded(ask.data)}"

    return begin


# --- the verified host ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_verified_host_gets_the_login_and_then_the_mail(
    logging_in: Any, authority: trustme.CA, trusting: Any, at_once: bool
) -> None:
    hops = logging_in()
    remote = hops.remote(
        {"AUTH PLAIN": "235 ok"}, tls=Certified(authority, NAME), tls_at_once=at_once, extensions=PLAIN_ONLY
    )
    letter = hops.by_name(remote, scheme="smtps" if at_once else "smtp")
    attempt = await hops.agent(tls=trusting).deliver(letter)
    assert isinstance(only(attempt), Relayed)
    assert PLAIN_LINE in remote.commands
    assert knows_the_secret(heard(remote))  # the control: this is how it looks when a host does get it
    assert remote.messages[0].tls
    (tried,) = attempt.trail
    assert (tried.verified, tried.login) == (True, "PLAIN")
    assert (tried.record()["verified"], tried.record()["login"]) == (True, "PLAIN")


@pytest_twisted.ensureDeferred
async def test_login_and_scram_work_too_and_scram_tells_no_secret(
    logging_in: Any, authority: trustme.CA, trusting: Any
) -> None:
    hops = logging_in()
    prompts = {
        "AUTH LOGIN": "330 " + encoded("Username:"),
        encoded(USER).upper(): "334 " + encoded("Password:"),
        encoded(SECRET).upper(): "235 ok",
    }
    old = hops.remote(prompts, tls=Certified(authority, NAME), extensions=("PIPELINING", "AUTH=LOGIN"))
    assert isinstance(only(await hops.agent(tls=trusting).deliver(hops.by_name(old))), Relayed)
    assert knows_the_secret(heard(old))
    new = hops.remote({"AUTH SCRAM-SHA-256": scram_server()}, tls=Certified(authority, NAME), extensions=OFFERED)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(new))
    assert isinstance(only(attempt), Relayed)
    assert attempt.trail[0].login == "SCRAM-SHA-256"
    assert not knows_the_secret(heard(new))


@pytest_twisted.ensureDeferred
async def test_who_wrote_a_message_is_passed_on_only_after_a_login(
    logging_in: Any, authority: trustme.CA, trusting: Any
) -> None:
    hops = logging_in()
    remote = hops.remote({"AUTH": "235 ok"}, tls=Certified(authority, NAME), extensions=PLAIN_ONLY)
    agent = hops.agent(tls=trusting)
    for given in ("", "<>", "weldon+x@example.org"):
        await agent.deliver(hops.by_name(remote, auth_param=given))
    assert [message.mail.partition(" AUTH=")[2] for message in remote.messages] == [
        "<>", "<>", "weldon+2Bx@example.org"
    ]  # fmt: skip
    await agent.deliver(hops.to(remote, auth_param="weldon@example.org"))  # by address: no credential, no login
    assert "AUTH" not in remote.messages[-1].mail


# --- everybody else ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("tls", ["", "none", "encrypt"])
@pytest.mark.parametrize("offered", [PLAIN_ONLY, OFFERED, ("AUTH LOGIN",), ("AUTH=PLAIN LOGIN",)])
@pytest.mark.parametrize(
    "kind", ["clear text", "another name", "another authority", "STARTTLS refused", "handshake broken"]
)
async def test_a_host_that_does_not_prove_its_name_never_sees_the_secret(
    logging_in: Any, authority: trustme.CA, trusting: Any, kind: str, offered: Any, tls: str
) -> None:
    hops = logging_in()
    script: dict[str, Any] = {"AUTH": "235 thank you"}
    fields: dict[str, Any] = {"extensions": offered}
    if kind == "another name":
        fields["tls"] = Certified(authority, "evil.test")
    elif kind == "another authority":
        fields["tls"] = Certified(trustme.CA(), NAME)
    elif kind == "STARTTLS refused":
        fields["extensions"] = (*offered, "STARTTLS")
        script["STARTTLS"] = "454 4.7.0 not now"
    elif kind == "handshake broken":
        fields["extensions"] = (*offered, "STARTTLS")
        script["STARTTLS"] = [b"220 go\r\n", lambda session: session.wire.loseConnection()]
    remote = hops.remote(script, **fields)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, tls=tls))
    assert kinds(attempt) == {Deferred}  # law 4: nobody fails
    assert only(attempt).status.startswith("4.7.")
    assert not any(command.startswith("AUTH") for command in remote.commands)
    assert not knows_the_secret(heard(remote))
    assert not remote.messages


@pytest_twisted.ensureDeferred
async def test_mechanisms_injected_in_clear_text_are_not_believed(
    logging_in: Any, authority: trustme.CA, trusting: Any
) -> None:
    hops = logging_in()
    injected = b"220 go\r\n250-smart.test\r\n250 AUTH PLAIN\r\n"
    remote = hops.remote({"STARTTLS": injected, "AUTH": "235 ok"}, extensions=("STARTTLS",))
    assert kinds(await hops.agent(tls=trusting).deliver(hops.by_name(remote))) == {Deferred}
    assert not knows_the_secret(heard(remote))
    # Offered before TLS and not inside it: RFC 3207 section 4.2 forgets it.
    remote = hops.remote(
        {"AUTH": "235 ok"}, tls=Certified(authority, NAME), extensions=PLAIN_ONLY, extensions_in_tls=("PIPELINING",)
    )
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote))
    assert kinds(attempt) == {Deferred}
    assert not knows_the_secret(heard(remote))


@pytest_twisted.ensureDeferred
async def test_a_credential_is_for_its_host_and_port_alone(
    hops: NextHops, authority: trustme.CA, trusting: Any
) -> None:
    hops.logins = Logins({(NAME, 1): credential(), ("other.test", 0): credential()})
    certificate = Certified(authority, NAME, "mx1.example.org", "127.0.0.1")
    remote = hops.remote({"AUTH": "235 ok"}, tls=certificate, extensions=PLAIN_ONLY)
    hops.exchangers("example.org", remote)
    agent = hops.agent(tls=trusting)
    for letter in (hops.by_name(remote), hops.to(remote), job("mx:example.org", "a@example.org")):
        assert isinstance(only(await agent.deliver(letter)), Relayed)
    assert not any(command.startswith("AUTH") for command in remote.commands)
    hops.logins = Logins(
        {("mx1.example.org", 0): credential()}
    )  # whoever makes the MX record would choose who hears it
    attempt = await hops.agent(tls=trusting).deliver(job("mx:example.org", "a@example.org"))
    assert isinstance(only(attempt), Relayed)
    assert not knows_the_secret(heard(remote))


@pytest_twisted.ensureDeferred
async def test_without_verification_when_it_is_waived_but_never_in_clear_text(logging_in: Any, trusting: Any) -> None:
    hops = logging_in(require_verified_tls=False)
    unproved = hops.remote({"AUTH": "235 ok"}, tls=Certified(trustme.CA(), "evil.test"), extensions=PLAIN_ONLY)
    assert isinstance(only(await hops.agent(tls=trusting).deliver(hops.by_name(unproved))), Relayed)
    clear = hops.remote({"AUTH": "235 ok"}, extensions=PLAIN_ONLY)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(clear))
    assert kinds(attempt) == {Deferred}
    assert not knows_the_secret(heard(clear))
    scram = hops.remote({"AUTH SCRAM-SHA-256": scram_server()}, extensions=OFFERED)
    assert isinstance(only(await hops.agent(tls=trusting).deliver(hops.by_name(scram))), Relayed)
    assert not knows_the_secret(heard(scram))


# --- the login fails --------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("script", "status"),
    [
        ({"AUTH": "535 5.7.8 wrong"}, "4.7.8"),
        ({"AUTH": "454 4.7.0 later"}, "4.7.0"),
        ({"AUTH": "500 what"}, "4.7.0"),
        ({"AUTH": ["421 4.3.2 closing", lambda session: session.wire.loseConnection()]}, "4.3.2"),
        ({"AUTH": "334 !!!", "*": "501 cancelled"}, "4.7.0"),
        ({"AUTH": b"235 ok\r\n250 and more\r\n"}, "4.5.0"),
        ({"AUTH": lambda session: session.wire.abortConnection()}, "4.4.2"),
    ],
)
async def test_a_refused_login_defers_everybody_and_the_reply_is_told(
    logging_in: Any, authority: trustme.CA, trusting: Any, script: Any, status: str
) -> None:
    hops = logging_in()
    remote = hops.remote(script, tls=Certified(authority, NAME), extensions=PLAIN_ONLY)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote, "a@example.org", "b@example.org"))
    assert kinds(attempt) == {Deferred}
    assert {outcome.status for outcome in attempt.outcomes.values()} == {status}
    assert (attempt.trail[-1].phase, len(attempt.outcomes)) == ("AUTH" if status != "4.5.0" else "a message", 2)
    assert not knows_the_secret(repr(attempt).encode())
    assert not any(command.startswith("MAIL") for command in remote.commands)


@pytest_twisted.ensureDeferred
async def test_a_host_that_does_not_know_the_password_is_found_out_by_scram(
    logging_in: Any, authority: trustme.CA, trusting: Any
) -> None:
    hops = logging_in()

    def impostor(session: RemoteSession) -> str:
        begun = scram_server("another")(session)

        def accept(_: str) -> str:
            session.listener = None
            return "235 welcome"

        session.listener = accept
        return begun

    remote = hops.remote({"AUTH SCRAM-SHA-256": impostor}, tls=Certified(authority, NAME), extensions=OFFERED)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote))
    assert kinds(attempt) == {Deferred}
    assert "has not proved" in only(attempt).text
    assert not remote.messages


@pytest_twisted.ensureDeferred
async def test_a_password_that_cannot_be_read_makes_its_host_wait_and_no_other(
    hops: NextHops, authority: trustme.CA, trusting: Any
) -> None:
    hops.logins = Logins({(NAME, 0): NoPassword("/etc/mta/smart.password can't be read: No such file or directory")})
    remote = hops.remote({"AUTH": "235 ok"}, tls=Certified(authority, NAME, "127.0.0.1"), extensions=PLAIN_ONLY)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote))
    assert kinds(attempt) == {Deferred}
    assert "smart.password" in only(attempt).text
    assert isinstance(only(await hops.agent(tls=trusting).deliver(hops.to(remote))), Relayed)


@pytest_twisted.ensureDeferred
async def test_one_login_serves_many_messages(logging_in: Any, authority: trustme.CA, trusting: Any) -> None:
    hops = logging_in()
    remote = hops.remote({"AUTH": "235 ok"}, tls=Certified(authority, NAME), extensions=PLAIN_ONLY)
    agent = hops.agent(tls=trusting)
    for _ in range(5):
        assert isinstance(only(await agent.deliver(hops.by_name(remote))), Relayed)
    assert remote.commands.count(PLAIN_LINE) == 1
