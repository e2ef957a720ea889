"""The login of a session: what goes on the wire, what never does, and that it fails nobody."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.outcome import Deferred
from mta.sasl.mechanisms.scram import ScramServer
from mta.sasl.mechanisms.step import Ask, Proven, SaslError, ScramClaim, Surroundings
from mta.sasl.password_login import PasswordLogin
from mta.sasl.verifier import derive
from mta.smtp.client import ClientEngine
from mta.smtp.client_events import Calculate, Cause, ClientEvent, Phase, Ready, SessionOver, StartTls

SECRET = "tr0ub4dor"
GREETING = b"220 peer ESMTP\r\n"


def encoded(octets: bytes | str) -> bytes:
    return base64.b64encode(octets if isinstance(octets, bytes) else octets.encode())


def ehlo(mechanisms: str, *more: str) -> bytes:
    lines = ["peer", *more, f"AUTH {mechanisms}", "PIPELINING"]
    return "".join(f"250{'-' if n < len(lines) - 1 else ' '}{line}\r\n" for n, line in enumerate(lines)).encode()


class Talk:
    """A session that wants to log in. Calculations are done at once."""

    def __init__(self, tls: bool | None = True, **login: Any) -> None:
        """`tls`: a handshake comes first, verified (True) or not (False); None: clear text."""
        given: dict[str, Any] = {"nonce": lambda: "ours"} | login
        self.login = PasswordLogin("relay", SECRET, **given)
        self.engine = ClientEngine("me.example.org", tls_at_once=tls is not None, login=self.login)
        self.events: list[ClientEvent] = []
        self.wire = b""
        if tls is not None:
            self.hear()
            assert self.events.pop() == StartTls()
            self.engine.tls_started(verified=tls)
        self.hear(GREETING)

    def hear(self, *octets: bytes) -> bytes:
        for each in octets:
            self.engine.receive(each)
        while (event := self.engine.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, Calculate):
                self.engine.calculated(event.work())
        said = self.engine.data_to_send()
        self.wire += said
        return said

    @property
    def over(self) -> SessionOver:
        (event,) = self.events
        assert isinstance(event, SessionOver)
        return event

    def ready(self) -> bool:
        return self.events == [Ready()]


# --- the lawful way ---------------------------------------------------------------------------------------------------


def test_plain_is_one_line() -> None:
    talk = Talk()
    assert talk.hear(ehlo("LOGIN PLAIN")) == b"AUTH PLAIN " + encoded(f"\0relay\0{SECRET}") + b"\r\n"
    talk.hear(b"235 2.7.0 welcome\r\n")
    assert talk.ready()
    assert talk.engine.logged_in == "PLAIN"


@pytest.mark.parametrize("code", [b"334", b"330", b"399"])
def test_login_answers_two_prompts_whatever_they_are_called(code: bytes) -> None:
    talk = Talk()
    assert talk.hear(ehlo("LOGIN")) == b"AUTH LOGIN\r\n"
    assert talk.hear(code + b" " + encoded("Benutzername:") + b"\r\n") == encoded("relay") + b"\r\n"
    assert talk.hear(code + b" " + encoded("Passwort:") + b"\r\n") == encoded(SECRET) + b"\r\n"
    talk.hear(b"235 ok\r\n")
    assert talk.ready()


def test_the_old_way_to_offer_is_understood() -> None:
    talk = Talk()
    assert talk.hear(b"250-peer\r\n250 AUTH=LOGIN\r\n") == b"AUTH LOGIN\r\n"


def scram_server() -> tuple[ScramServer, Any]:
    return ScramServer("sha256", Surroundings(nonce=lambda: "theirs")), derive(SECRET, "sha256", b"salt", 4096)


def scram(talk: Talk) -> bytes:
    """Play a true server until its last word, which is returned as a challenge."""
    server, verifier = scram_server()
    said = talk.hear(ehlo("PLAIN SCRAM-SHA-256"))
    assert said.startswith(b"AUTH SCRAM-SHA-256 ")
    claim = server.start(base64.b64decode(said.split()[2]))
    assert isinstance(claim, ScramClaim)
    said = talk.hear(b"334 " + encoded(server.supply(verifier).data) + b"\r\n")
    proven = server.respond(base64.b64decode(said))
    assert isinstance(proven, Proven)
    assert proven.data is not None
    return proven.data


def test_scram_is_preferred_and_gives_no_password_away() -> None:
    talk = Talk()
    last = scram(talk)
    assert talk.hear(b"334 " + encoded(last) + b"\r\n") == b"\r\n"
    talk.hear(b"235 ok\r\n")
    assert [event for event in talk.events if not isinstance(event, Calculate)] == [Ready()]
    assert talk.engine.logged_in == "SCRAM-SHA-256"
    assert SECRET.encode() not in talk.wire
    assert encoded(SECRET).rstrip(b"=") not in talk.wire


# --- hosts that know no password --------------------------------------------------------------------------------------


@pytest.mark.parametrize("forged", [True, False])
def test_a_host_that_does_not_prove_itself_is_left(forged: bool) -> None:
    talk = Talk()
    last = scram(talk)
    if forged:
        assert talk.hear(b"334 " + encoded(b"v=" + encoded(b"x" * 32)) + b"\r\n") == b"*\r\n"
        talk.hear(b"501 cancelled\r\n")
    else:
        assert last
        talk.hear(b"235 trust me\r\n")
    over = talk.events[-1]
    assert isinstance(over, SessionOver)
    assert over.cause is Cause.LOGIN_FAILED
    assert over.phase is Phase.AUTH
    assert "proved" in over.outcome.text


@pytest.mark.parametrize("rounds", [1, 4095, 600_001, 200_000_000])
def test_an_iteration_count_out_of_bounds_is_not_calculated(rounds: int) -> None:
    talk = Talk()
    talk.hear(ehlo("SCRAM-SHA-256"))
    server_first = f"r=ourstheirs,s={encoded('salt').decode()},i={rounds}"
    assert talk.hear(b"334 " + encoded(server_first) + b"\r\n") == b"*\r\n"
    assert not talk.events
    talk.hear(b"501 cancelled\r\n")
    assert f"{rounds} iterations" in talk.over.outcome.text


def test_challenges_without_end_end() -> None:
    talk = Talk()
    talk.hear(ehlo("LOGIN"))
    said = [talk.hear(b"334 \r\n") for _ in range(3)]
    assert said[2] == b"*\r\n"
    talk.hear(b"334 \r\n")
    assert talk.over.cause is Cause.WRONG_CODE


def test_a_challenge_that_is_not_base64_is_called_off() -> None:
    talk = Talk()
    talk.hear(ehlo("LOGIN"))
    assert talk.hear(b"334 Username:\r\n") == b"*\r\n"


# --- secrets stay here ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [None, False])
@pytest.mark.parametrize("offered", ["PLAIN", "LOGIN", "SCRAM-SHA-256 PLAIN LOGIN", "plain login", ""])
def test_without_a_verified_certificate_nothing_is_said(tls: bool | None, offered: str) -> None:
    talk = Talk(tls)
    talk.hear(ehlo(offered))
    assert talk.wire == b"EHLO me.example.org\r\n"
    assert talk.over.cause is Cause.LOGIN_FAILED
    assert talk.over.outcome.status == "4.7.0"


def test_plain_and_login_never_go_in_clear_text_even_when_verification_is_waived() -> None:
    for offered in ("PLAIN", "LOGIN", "PLAIN LOGIN"):
        talk = Talk(None, require_verified_tls=False)
        talk.hear(ehlo(offered))
        assert talk.wire == b"EHLO me.example.org\r\n"
        assert "encrypted" in talk.over.outcome.text
    talk = Talk(None, require_verified_tls=False)
    assert talk.hear(ehlo("PLAIN SCRAM-SHA-256")).startswith(b"AUTH SCRAM-SHA-256 ")
    talk = Talk(False, require_verified_tls=False)
    assert talk.hear(ehlo("PLAIN")).startswith(b"AUTH PLAIN ")


def test_only_what_is_allowed_is_used() -> None:
    talk = Talk(mechanisms=["SCRAM-SHA-256"])
    talk.hear(ehlo("PLAIN LOGIN NTLM"))
    assert talk.wire == b"EHLO me.example.org\r\n"
    assert "LOGIN, NTLM, PLAIN" in talk.over.outcome.text


# --- refusals fail nobody ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"535 5.7.8 who are you\r\n", Deferred(535, "4.7.8", "who are you")),
        (b"454 4.7.0 later\r\n", Deferred(454, "4.7.0", "later")),
        (b"504 5.5.4 what\r\n", Deferred(504, "4.5.4", "what")),
        (b"500 no\r\n", Deferred(500, "4.7.0", "no")),
        (b"421 4.3.2 closing\r\n", Deferred(421, "4.3.2", "closing")),
    ],
)
def test_a_refused_login_defers(reply: bytes, outcome: Deferred) -> None:
    talk = Talk()
    talk.hear(ehlo("PLAIN"), reply)
    assert talk.over.outcome == outcome
    assert talk.over.reply == reply.decode().rstrip()  # in the host's own words, for the journal


@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from(["PLAIN", "LOGIN", "SCRAM-SHA-256"]))
def test_whatever_a_host_says_the_login_ends_and_never_raises(segments: list[bytes], mechanism: str) -> None:
    talk = Talk()
    talk.hear(ehlo(mechanism), *segments)
    talk.engine.timed_out()
    talk.hear()
    ends = [event for event in talk.events if isinstance(event, SessionOver)]
    assert len(ends) == 1
    assert talk.engine.closed


CHALLENGES = st.one_of(
    st.binary(max_size=40).map(lambda octets: b"334 " + encoded(octets) + b"\r\n"),
    st.sampled_from([b"235 ok\r\n", b"334 \r\n", b"535 no\r\n", b"501 x\r\n", b"334 =\r\n", b"250 ok\r\n"]),
)


@given(st.lists(CHALLENGES, max_size=15), st.sampled_from(["LOGIN", "SCRAM-SHA-256"]), st.data())
def test_a_login_cut_anywhere_is_the_same_login(replies: list[bytes], mechanism: str, data: st.DataObject) -> None:
    whole, cut = Talk(), Talk()
    for talk in (whole, cut):
        talk.hear(ehlo(mechanism))
    for reply in replies:
        at = data.draw(st.integers(1, len(reply) - 1))
        whole.hear(reply)
        cut.hear(reply[:at], reply[at:])
    assert cut.wire == whole.wire
    assert [type(event) for event in cut.events] == [type(event) for event in whole.events]
    assert Ready() not in whole.events or whole.engine.logged_in in {"LOGIN", "SCRAM-SHA-256"}
    if mechanism == "SCRAM-SHA-256":  # nobody who does not know the password gets through
        assert Ready() not in whole.events


def test_a_server_that_is_not_told_the_truth_refuses_our_proof() -> None:
    """The control: the server that these tests play does check."""
    talk = Talk()
    server, _ = scram_server()
    said = talk.hear(ehlo("SCRAM-SHA-256"))
    server.start(base64.b64decode(said.split()[2]))
    ask = server.supply(derive("another", "sha256", b"salt", 4096))
    assert isinstance(ask, Ask)
    said = talk.hear(b"334 " + encoded(ask.data) + b"\r\n")
    with pytest.raises(SaslError):
        server.respond(base64.b64decode(said))
