"""Arguments of commands."""

from __future__ import annotations

import pytest

from mta.mail.address import NULL_PATH, Address
from mta.smtp.commands import (
    CommandError,
    decode_argument,
    decode_base64,
    parse_auth,
    parse_chunk,
    parse_mail,
    parse_rcpt,
)
from mta.smtp.parameters import MailParameters, RcptParameters


def session() -> tuple[frozenset[str], bool]:
    return frozenset({"SIZE"}), False


def code_of(call: object, *arguments: object, **more: object) -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        call(*arguments, **more)  # type: ignore[operator]
    return caught.value.reply.code, caught.value.reply.status


def test_mail() -> None:
    assert parse_mail("FROM:<>", session) == (NULL_PATH, MailParameters())
    assert parse_mail("from: <a@b.example>  SIZE=7", session) == (Address("a", "b.example"), MailParameters(size=7))
    assert parse_mail("FROM:<ü@b.example> SMTPUTF8", session)[0] == Address("ü", "b.example")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", (501, "5.5.4")),
        ("FROM:", (501, "5.5.4")),
        ("FROM <a@b>", (501, "5.5.4")),
        ("TO:<a@b>", (501, "5.5.4")),
        ("FROM:a@b", (501, "5.1.7")),
        ("FROM:<a@b", (501, "5.1.7")),
        ("FROM:<a@b>x", (501, "5.5.4")),
        ("FROM:<a@b> X>", (501, "5.5.4")),
        ("FROM:<ü@b>", (553, "5.6.7")),
        ("FROM:<ü@b> SIZE=1", (553, "5.6.7")),
        ('FROM:<" SMTPUTF8 ü"@b> SIZE=1', (553, "5.6.7")),
        ("FROM:<a@ü.example> SIZE=1 ENVID=SMTPUTF8", (553, "5.6.7")),
    ],
)
def test_wrong_mail(text: str, answer: tuple[int, str]) -> None:
    assert answer == code_of(parse_mail, text, session)


def test_rcpt() -> None:
    assert parse_rcpt("TO:<a@b.example>", utf8=False) == (Address("a", "b.example"), "a@b.example", RcptParameters())
    assert parse_rcpt('to: <"A"@B.example> NOTIFY=NEVER', utf8=False)[:2] == (
        Address("A", "b.example"),
        '"A"@B.example',
    )
    assert parse_rcpt("TO:<@x:ü@b.example>", utf8=True)[:2] == (Address("ü", "b.example"), "@x:ü@b.example")


@pytest.mark.parametrize(
    ("text", "utf8", "answer"),
    [
        ("TO:<>", False, (501, "5.1.3")),
        ("TO:<ü@b>", False, (553, "5.6.7")),
        ("TO:<a@b> ORCPT=utf-8;ü@b", False, (553, "5.6.7")),
        ("TO:a@b", True, (501, "5.1.3")),
        ("TO:<a@b>c", True, (501, "5.5.4")),
    ],
)
def test_wrong_rcpt(text: str, utf8: bool, answer: tuple[int, str]) -> None:
    assert answer == code_of(parse_rcpt, text, utf8=utf8)


def test_chunks() -> None:
    assert parse_chunk("0") == (0, False)
    assert parse_chunk(" 12  last ") == (12, True)
    assert parse_chunk("9" * 19)[0] == int("9" * 19)
    for text in (
        "",
        "x",
        "-1",
        "+1",
        "0x1",
        "1.0",
        "1LAST",
        "1 LAST LAST",
        "1 LASTLY",
        "1 FIRST",
        "9" * 20,
        "١",
        "1\u00a0LAST",
        "1_0",
    ):
        assert code_of(parse_chunk, text) == (501, "5.5.4"), text


def test_auth() -> None:
    assert parse_auth("plain") == ("PLAIN", None)
    assert parse_auth("PLAIN =") == ("PLAIN", b"")
    assert parse_auth("login ZGVtbw==") == ("LOGIN", b"demo")
    assert code_of(parse_auth, "") == (501, "5.5.4")
    assert code_of(parse_auth, "PLAIN ZGVtbw") == (501, "5.5.2")


@pytest.mark.parametrize(
    "text",
    [b"Z", b"Z=", b"ZGVt bw==", b"ZGVtbw", b"ZGVtbw=", b"=", b"====", b"Z===", b"ZGVt\x0bbw==", b"ZG-_", "é".encode()],
)
def test_base64_is_strict(text: bytes) -> None:
    assert code_of(decode_base64, text) == (501, "5.5.2")


def test_arguments_are_utf8_without_what_deceives() -> None:
    assert decode_argument("grüße".encode()) == "grüße"
    for octets in (
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        "\u0085".encode(),
        "\u202e".encode(),
        "\u2028".encode(),
        "\ufeff".encode(),
    ):
        assert code_of(decode_argument, octets) == (501, "5.5.2"), octets
