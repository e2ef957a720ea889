"""Peers that lie, babble, stall and vanish, on real sockets: nobody is failed by them, and everybody has one outcome in time."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.tcp import Client

from mta.delivery.logins import Logins
from mta.mail.envelope import BodyFile
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.sasl.password_login import PasswordLogin
from mta.testing.certified import Certified
from mta.testing.letters import job
from mta.testing.next_hops import NAME, REACTOR, NextHops, kinds, only, pause, until
from mta.testing.remote_host import ABORT, CLOSE, STALL, RemoteHost, RemoteSession, Turns
from mta.tls.client import ClientContexts

HOSTILE: dict[str, tuple[dict[str, Any], bool]] = {
    "closes at once": ({"connect": CLOSE}, False),
    "resets at once": ({"connect": ABORT}, False),
    "speaks HTTP": ({"connect": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, False),
    "greets with 554": ({"connect": "554 no"}, False),
    "greets with 421 and closes": ({"connect": ["421 busy", CLOSE]}, False),
    "never ends its greeting": ({"connect": b"220-hello\r\n" * 100_000}, False),
    "never ends its line": ({"connect": b"220 " + b"x" * 1_000_000}, False),
    "refuses every hello": ({"EHLO": "550 no", "HELO": "550 no"}, False),
    "hides a second reply behind EHLO's": ({"EHLO": b"250 remote\r\n250 ok\r\n"}, False),
    "closes at MAIL": ({"MAIL": CLOSE}, False),
    "answers MAIL with 354": ({"MAIL": "354 go"}, False),
    "answers RCPT with binary": ({"RCPT": b"\x00\xff\r\n"}, False),
    "says 421 at RCPT": ({"RCPT": ["421 enough", CLOSE]}, False),
    "answers DATA with 250": ({"DATA": "250 ok"}, False),
    "takes the message before it came": ({"DATA": b"354 go\r\n250 taken\r\n"}, False),
    "resets after DATA": ({"DATA": ABORT}, False),
    "closes without a word after the dot": ({".": CLOSE}, True),
    "resets after the dot": ({".": ABORT}, True),
    "answers the dot with rubbish": ({".": b"thanks\r\n"}, True),
    "answers the dot with 354": ({".": "354 more"}, True),
    "answers half a reply to the dot": ({".": [b"250-tak", CLOSE]}, True),
    "says 421 to the dot": ({".": "421 4.3.2 no"}, False),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", HOSTILE)
async def test_whatever_a_peer_does_the_message_is_deferred(hops: NextHops, kind: str) -> None:
    script, uncertain = HOSTILE[kind]
    remote = hops.remote(script)
    attempt = await hops.agent().deliver(hops.to(remote, "a@example.org", "b@example.org"))
    assert kinds(attempt) == {Deferred}
    assert {outcome.uncertain for outcome in attempt.outcomes.values()} == {uncertain}
    assert all(outcome.status.startswith("4.") for outcome in attempt.outcomes.values())
    assert attempt.trail[-1].reply.isprintable()


STALLS = {"connect": 300, "EHLO": 300, "MAIL": 300, "RCPT": 300, "DATA": 120, ".": 600}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", STALLS)
async def test_a_peer_that_falls_silent_is_left_at_its_time_and_not_before(hops: NextHops, where: str) -> None:
    remote = hops.remote({where: STALL}, extensions=())
    result = hops.agent().deliver(hops.to(remote))
    awaited = {"connect": lambda: remote.sessions, ".": lambda: b"\r\n.\r\n" in remote.sessions[0].received}
    usual = lambda: remote.sessions and remote.commands and remote.commands[-1].startswith(where)  # noqa: E731
    await until(awaited.get(where, usual) if where != "." else lambda: remote.sessions and awaited["."]())
    await pause(0.02)
    hops.clock.pump([1] * (STALLS[where] - 1))
    assert not result.called
    hops.clock.pump([1] * 3)
    await until(lambda: result.called)
    attempt = await result
    assert isinstance(only(attempt), Deferred)
    assert only(attempt).uncertain == (where == ".")


@pytest_twisted.ensureDeferred
async def test_a_trickle_of_octets_buys_no_time(hops: NextHops) -> None:
    remote = hops.remote({"MAIL": b"250"})
    result = hops.agent().deliver(hops.to(remote))
    await until(lambda: remote.sessions and any(c.startswith("MAIL") for c in remote.commands))
    for _ in range(6):
        hops.clock.pump([1] * 50)
        remote.sessions[0].wire.write(b"-")
        await pause()
    hops.clock.pump([1] * 5)
    await until(lambda: result.called)
    assert isinstance(only(await result), Deferred)


# --- in every phase ---------------------------------------------------------------------------------------------------

SECRET = "tr0ub4dor&3"
CLOSING = ["421 4.3.2 going down", CLOSE]
IN_CLEAR = ("connect", "EHLO", "MAIL", "RCPT", "DATA", ".")
IN_TLS = ("STARTTLS", "AUTH", *IN_CLEAR)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> Any:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return ClientContexts(trust=path).context_factory


def private(hops: NextHops, authority: trustme.CA, script: dict[str, Any]) -> RemoteHost:
    """A smart host with TLS that asks for a login, as far as the script lets it."""
    hops.logins = Logins({(NAME, 0): PasswordLogin("relay", SECRET, nonce=lambda: "ours")})
    usual = {"AUTH": "235 ok"}
    return hops.remote(usual | script, tls=Certified(authority, NAME), extensions=("AUTH PLAIN",))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("how", [CLOSE, ABORT, CLOSING], ids=["close", "reset", "421"])
@pytest.mark.parametrize("where", IN_CLEAR)
async def test_an_end_in_any_phase_defers_and_is_uncertain_after_the_dot_alone(
    hops: NextHops, where: str, how: Any, pipelining: bool
) -> None:
    remote = hops.remote({where: how}, extensions=("PIPELINING",) if pipelining else ())
    attempt = await hops.agent().deliver(hops.to(remote, "a@example.org", "b@example.org"))
    assert kinds(attempt) == {Deferred}
    uncertain = where == "." and how is not CLOSING
    assert {outcome.uncertain for outcome in attempt.outcomes.values()} == {uncertain}
    if how is CLOSING:
        assert {(outcome.code, outcome.status) for outcome in attempt.outcomes.values()} == {(421, "4.3.2")}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", [CLOSE, ABORT, CLOSING], ids=["close", "reset", "421"])
@pytest.mark.parametrize("where", IN_TLS)
async def test_an_end_in_any_phase_of_a_login_over_tls_defers(
    hops: NextHops, authority: trustme.CA, trusting: Any, where: str, how: Any
) -> None:
    script: dict[str, Any] = {where: how}
    if where == "EHLO":  # the one inside TLS
        script = {"EHLO": Turns("250-smart.test\n250 STARTTLS", how)}
    remote = private(hops, authority, script)
    attempt = await hops.agent(tls=trusting).deliver(hops.by_name(remote))
    assert kinds(attempt) == {Deferred}
    assert only(attempt).uncertain == (where == "." and how is not CLOSING)
    assert not remote.messages


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", [CLOSE, ABORT, CLOSING, "550 no", b"rubbish\r\n"])
@pytest.mark.parametrize("where", ["RSET", "QUIT"])
async def test_after_the_outcomes_nothing_changes_them(hops: NextHops, where: str, how: Any) -> None:
    script = {where: how} | ({"RCPT": "550 5.1.1 nobody"} if where == "RSET" else {})
    remote = hops.remote(script)
    agent = hops.agent()
    attempt = await agent.deliver(hops.to(remote))
    assert kinds(attempt) == {Failed if where == "RSET" else Relayed}
    hops.clock.pump([1, 1, 1])
    await until(lambda: where in remote.commands)
    await until(lambda: not agent._hops or (hops.clock.advance(1) or False))  # every connection is let go of


@pytest_twisted.ensureDeferred
async def test_a_refused_connection_is_told_as_what_it_is(hops: NextHops) -> None:
    port = hops.remote().port
    await hops.remotes[0].stop()
    attempt = await hops.agent().deliver(job(f"smtp:[127.0.0.1]:{port}", "a@example.org"))
    assert (only(attempt).status, attempt.trail[0].phase) == ("4.4.1", "connect")
    assert "refused" in only(attempt).text


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", ["connect", "MAIL", "."])
async def test_a_half_closed_connection_is_a_lost_one(hops: NextHops, where: str) -> None:
    def half_close(session: RemoteSession) -> None:
        session.wire.loseWriteConnection()

    remote = hops.remote({where: half_close})
    attempt = await hops.agent().deliver(hops.to(remote))
    assert kinds(attempt) == {Deferred}
    assert only(attempt).uncertain == (where == ".")


# --- silence: each phase has its time (a clock that the test turns) -----------------------------------------------------

SILENCE = {"STARTTLS": 300, "handshake": 60, "AUTH": 300, "MAIL": 300, ".": 600}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", SILENCE)
async def test_a_smart_host_that_falls_silent_is_left_at_its_time_and_not_before(
    hops: NextHops, authority: trustme.CA, trusting: Any, where: str
) -> None:
    script: dict[str, Any] = {where: STALL}
    if where == "handshake":
        script = {"STARTTLS": b"220 go\r\n"}
    remote = private(hops, authority, script)
    if where == "handshake":
        remote.tls, remote.extensions = None, ("STARTTLS",)
    result = hops.agent(tls=trusting).deliver(hops.by_name(remote))
    if where == "handshake":
        await until(lambda: remote.sessions and len(remote.sessions[0].segments) == 3)
    elif where == ".":
        await until(lambda: remote.sessions and b"\r\n.\r\n" in remote.sessions[0].received)
    else:
        await until(lambda: any(command.startswith(where) for command in remote.commands))
    await pause(0.02)
    hops.clock.pump([1] * (SILENCE[where] - 1))
    assert not result.called
    hops.clock.pump([1] * 3)
    await until(lambda: result.called)
    attempt = await result
    assert kinds(attempt) == {Deferred}
    assert only(attempt).uncertain == (where == ".")
    assert len(remote.sessions) == 1
    await until(lambda: not remote.sessions[0].alive)  # and the connection is given back


@pytest_twisted.ensureDeferred
async def test_a_peer_that_reads_no_content_is_left_after_three_minutes(hops: NextHops) -> None:
    """Its window is shut: what was written lies in buffers, and no octet of a reply comes."""
    body = b"".join(b"%07d" % number + b"x" * 69 + b"\r\n" for number in range(400_000))
    (hops.bodies / "large").write_bytes(body)

    def stop_reading(session: RemoteSession) -> str:
        session.wire.pauseProducing()
        return "354 go on"

    remote = hops.remote({"DATA": stop_reading})
    result = hops.agent().deliver(hops.to(remote, body=BodyFile("large", len(body))))
    await until(lambda: remote.sessions and "DATA" in remote.commands)
    await pause(0.2)  # the sockets' buffers are full
    hops.clock.pump([1] * 170)
    assert not result.called
    hops.clock.pump([1] * 20)
    await until(lambda: result.called)
    attempt = await result
    assert kinds(attempt) == {Deferred}
    assert not only(attempt).uncertain
    assert attempt.trail[-1].phase == "content"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", ["RSET", "QUIT"])
async def test_silence_at_rset_and_quit_costs_seconds(hops: NextHops, where: str) -> None:
    script = {where: STALL} | ({"RCPT": "550 5.1.1 nobody"} if where == "RSET" else {})
    remote = hops.remote(script)
    agent = hops.agent()
    await agent.deliver(hops.to(remote))
    hops.clock.pump([1, 1, 1])
    await until(lambda: where in remote.commands)
    hops.clock.pump([1] * (22 if where == "RSET" else 7))
    await until(lambda: not remote.sessions[0].alive)


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_closes_its_side_of_tls_costs_seconds(
    hops: NextHops, authority: trustme.CA, trusting: Any
) -> None:
    def deaf(session: RemoteSession) -> str:
        session.wire.pauseProducing()  # and hears no close_notify, nor that we are gone
        return "221 2.0.0 Bye"

    remote = hops.remote({"QUIT": deaf}, tls=Certified(authority, NAME))

    def ours() -> list[Any]:
        return [
            each for each in REACTOR.getReaders() if isinstance(each, Client) and each.getPeer().port == remote.port
        ]

    await hops.agent(tls=trusting).deliver(hops.by_name(remote))
    hops.clock.pump([1, 1, 1])
    await until(lambda: "QUIT" in remote.commands)
    await pause(0.1)
    assert ours()
    hops.clock.pump([1] * 7)
    await until(lambda: not ours())
    remote.sessions[0].wire.resumeProducing()


@pytest_twisted.ensureDeferred
async def test_a_refusal_before_all_was_heard_puts_no_message_into_another(hops: NextHops) -> None:
    body = b"".join(b"%07d" % number + b"x" * 69 + b"\r\n" for number in range(200_000))

    def stop_reading(session: RemoteSession) -> str:
        session.wire.pauseProducing()
        return "354 go on"

    remote = hops.remote({"DATA": Turns(stop_reading, "354 go on"), ".": Turns(STALL, "250 2.0.0 taken")})
    agent = hops.agent()
    first = agent.deliver(hops.to(remote, body=body))
    await until(lambda: "DATA" in remote.commands)
    await pause(0.2)  # the sockets' buffers are full
    remote.sessions[0].say("552 5.3.4 too large")
    assert isinstance(only(await first), Failed)
    second = agent.deliver(hops.to(remote))
    remote.sessions[0].wire.resumeProducing()
    await until(lambda: second.called)
    assert isinstance(only(await second), Relayed)
    assert len(remote.sessions) == 1


# --- what they say ------------------------------------------------------------------------------------------------------

EVIL = b"550 5.1.1 \x1b]0;owned\x07 \x00nul \x7f\xc2\x9b31m \xe2\x80\xaeright\xff\xfe \t tab\r\n"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_control_octets_of_a_reply_are_escaped_before_anybody_sees_them(hops: NextHops, where: str) -> None:
    remote = hops.remote({where: EVIL, "HELO": EVIL}, extensions=())
    attempt = await hops.agent().deliver(hops.to(remote))
    text = only(attempt).text
    assert text.isprintable()
    assert "\\x1b]0;owned\\x07" in text
    assert "\\x00nul" in text
    assert "\\u202e" in text
    for tried in attempt.trail:
        assert all(str(each).isprintable() for each in tried.record().values())


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [10, 512, 513, 2000, 4000, 4095, 4096, 5000, 100_000])
async def test_a_reply_line_of_any_length_is_taken_or_ends_the_session_and_is_kept_short(
    hops: NextHops, length: int
) -> None:
    remote = hops.remote({"RCPT": b"550 5.1.1 " + b"x" * (length - 10) + b"\r\n"})
    attempt = await hops.agent().deliver(hops.to(remote))
    outcome = only(attempt)
    assert type(outcome) is (Failed if length < 4096 else Deferred)
    assert len(outcome.text) <= 1000
    assert len(attempt.trail[-1].reply) <= 1100


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("lines", [2, 128, 129, 100_000])
async def test_a_reply_of_many_lines_is_bounded(hops: NextHops, lines: int) -> None:
    remote = hops.remote({"MAIL": b"550-5.7.1 no\r\n" * (lines - 1) + b"550 5.7.1 never\r\n"})
    attempt = await hops.agent().deliver(hops.to(remote))
    assert kinds(attempt) == {Failed if lines <= 128 else Deferred}


@pytest_twisted.ensureDeferred
async def test_a_reply_that_never_ends_ends_the_session_and_takes_no_memory(hops: NextHops) -> None:
    def babble(session: RemoteSession) -> None:
        if session.alive and len(said) < 5000:
            said.append(1)
            session.wire.write(b"250-more and more\r\n" * 100)
            REACTOR.callLater(0, babble, session)

    said: list[int] = []
    remote = hops.remote({"EHLO": babble})
    attempt = await hops.agent().deliver(hops.to(remote))
    assert kinds(attempt) == {Deferred}
    assert len(said) < 5000


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", ["connect", "EHLO", "MAIL", "DATA", "."])
async def test_replies_before_they_are_due_end_the_session(hops: NextHops, where: str) -> None:
    flood = {"connect": b"220 a\r\n250 b\r\n", "EHLO": b"250 a\r\n250 b\r\n", "DATA": b"354 a\r\n250 b\r\n"}
    remote = hops.remote({where: flood.get(where, b"250 a\r\n" * 20)})
    agent = hops.agent()
    attempt = await agent.deliver(hops.to(remote))
    if where == ".":  # the message was judged; what came after it is not taken for an answer to the next
        assert isinstance(only(attempt), Relayed)
        assert isinstance(only(await agent.deliver(hops.to(remote))), Relayed)
        assert len(remote.sessions) == 2
    else:
        assert kinds(attempt) == {Deferred}
        assert not remote.messages
