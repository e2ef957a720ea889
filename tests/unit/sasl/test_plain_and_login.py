"""PLAIN and LOGIN: the founding documents' conversations octet for octet, and what is refused."""

from __future__ import annotations

import base64

import pytest

from mta.sasl.mechanisms.login import LoginServer
from mta.sasl.mechanisms.plain import PlainServer, plain_message
from mta.sasl.mechanisms.step import Ask, PasswordClaim, SaslError, Surroundings

NOTHING = Surroundings(nonce=lambda: "nonce")


def b64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def test_plain_of_appendix_a_asks_with_an_empty_challenge_and_reads_the_message():
    server = PlainServer(NOTHING)
    assert Ask(b"") == server.start(None)
    assert PasswordClaim("weldon", "", "w3ld0n") == server.respond(b64("AHdlbGRvbgB3M2xkMG4="))


def test_plain_takes_an_initial_response():
    assert PasswordClaim("weldon", "", "w3ld0n") == PlainServer(NOTHING).start(b64("AHdlbGRvbgB3M2xkMG4="))


def test_plain_of_rfc_4616_with_and_without_an_authorization_identity():
    assert PasswordClaim("tim", "", "tanstaaftanstaaf") == PlainServer(NOTHING).start(b"\0tim\0tanstaaftanstaaf")
    assert PasswordClaim("Kurt", "Ursel", "xipj3plmq") == PlainServer(NOTHING).start(b"Ursel\0Kurt\0xipj3plmq")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"tim",
        b"tim\0secret",
        b"\0tim\0sec\0ret",
        b"\0\0secret",
        b"\0tim\0",
        b"\0t\xffm\0secret",
        b"\0" + b"t" * 2000 + b"\0x",
    ],
)
def test_plain_refuses_what_is_no_message(message):
    with pytest.raises(SaslError) as caught:
        PlainServer(NOTHING).start(message)
    assert "secret" not in str(caught.value)


def test_the_client_side_of_plain_is_what_the_server_reads_and_forges_no_field():
    assert b64("AHdlbGRvbgB3M2xkMG4=") == plain_message("weldon", "w3ld0n")
    with pytest.raises(ValueError, match="NUL"):
        plain_message("weldon", "w3\0ld0n")


def test_login_of_appendix_b():
    server = LoginServer(NOTHING)
    assert Ask(b64("VXNlcm5hbWU6")) == server.start(None)
    assert Ask(b64("UGFzc3dvcmQ6")) == server.respond(b64("d2VsZG9u"))
    assert PasswordClaim("weldon", "", "w3ld0n") == server.respond(b64("dzNsZDBu"))


def test_login_takes_the_name_inline():
    server = LoginServer(NOTHING)
    assert Ask(b"Password:") == server.start(b"weldon")
    assert PasswordClaim("weldon", "", "w3ld0n") == server.respond(b"w3ld0n")


def test_login_asks_for_the_name_after_an_empty_initial_response():
    assert Ask(b"Username:") == LoginServer(NOTHING).start(b"")


def test_login_forgives_the_nul_at_the_end_of_a_string_of_c():
    server = LoginServer(NOTHING)
    server.start(b"weldon\0")
    assert PasswordClaim("weldon", "", "w3ld0n") == server.respond(b"w3ld0n\0")


@pytest.mark.parametrize("answers", [[b""], [b"weldon", b""], [b"a\0b"], [b"\xff"], [b"x" * 2000]])
def test_login_refuses_what_is_no_answer(answers):
    server = LoginServer(NOTHING)
    server.start(None)
    *good, bad = answers
    for answer in good:
        server.respond(answer)
    with pytest.raises(SaslError):
        server.respond(bad)


def test_a_claim_does_not_show_its_password():
    assert "w3ld0n" not in repr(PasswordClaim("weldon", "", "w3ld0n"))
