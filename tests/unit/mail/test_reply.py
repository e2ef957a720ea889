"""Replies: their wire, their limits, and the catalogue."""

from __future__ import annotations

import re

import pytest

from mta.mail import reply
from mta.mail.reply import Reply, printable

CATALOGUE = {name: each for name, each in vars(reply).items() if isinstance(each, Reply)}


def test_the_wire_of_a_reply() -> None:
    assert Reply(250, "2.1.0", "Sender ok").wire == b"250 2.1.0 Sender ok\r\n"
    assert Reply(220, "", "mail.example.org").wire == b"220 mail.example.org\r\n"
    assert Reply(214, "2.0.0", "one\ntwo").wire == b"214-2.0.0 one\r\n214 2.0.0 two\r\n"
    assert Reply(550, "5.1.1", "ü").wire == "550 5.1.1 ü\r\n".encode()


def test_no_text_steers_the_protocol_or_a_terminal() -> None:
    assert Reply(550, "5.0.0", "a\rb\x1b[2J\x7f\x9b").wire == rb"550 5.0.0 a\x0db\x1b[2J\x7f\x9b" + b"\r\n"
    assert printable("a\tb") == "a\tb"
    assert printable("a\0\nb") == r"a\x00\x0ab"


def test_a_reply_line_keeps_to_512_octets() -> None:
    """RFC 5321 section 4.5.3.1.5."""
    lines = Reply(550, "5.7.1", "x" * 1000 + "\n" + "é" * 600).wire.split(b"\r\n")[:-1]
    assert [len(line) + 2 for line in lines] == [512, 512]


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_enhanced_code_of_a_reply_fits_its_code(name: str) -> None:
    each = CATALOGUE[name]
    assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", each.status) or (not each.status and each.code in {220, 250, 354})
    assert not each.status or each.status[0] == str(each.code)[0]
    assert each.wire.isascii()
    assert all(len(line) <= 510 for line in each.wire.split(b"\r\n"))


def test_a_reply_knows_its_class() -> None:
    assert reply.START_MAIL_INPUT.positive
    assert reply.SPOOL_FULL.temporary
    assert not reply.SPOOL_FULL.positive
    assert reply.NO_SUCH_USER.permanent
    assert str(reply.NO_SUCH_USER) == "550 5.1.1 No such recipient here"
    assert str(reply.START_MAIL_INPUT).startswith("354 End")
