"""Bounds of the header section, loops, and what is read of it."""

from __future__ import annotations

import time

import pytest

from mta.mail import reply
from mta.mail.reply import Reply
from mta.policy.header import HeaderBounds, begins_with_field, decide_header, message_id_of

BOUNDS = HeaderBounds(size=10_000, fields=20, field_size=500, hops=5)


@pytest.mark.parametrize(
    ("header", "refusal"),
    [
        (b"", None),
        (b"A: b\r\n" * 20, None),
        (b"A: b\r\n" * 21, reply.HEADER_TOO_BIG),
        (b"A: b\r\n c\r\n" * 20, None),  # folded lines are no fields
        (b"A: b\r\n" + b" c\r\n" * 123, None),
        (b"A: " + b"x" * 495 + b"\r\n", None),
        (b"A: " + b"x" * 496 + b"\r\n", reply.HEADER_TOO_BIG),
        (b"A: b\r\n" + b" c\r\n" * 125, reply.HEADER_TOO_BIG),
        (b"B: 1\r\nA: " + b"\tx\r\n" * 125 + b"C: 1\r\n", reply.HEADER_TOO_BIG),
        (b"A: " + b"x\r\n" * 4000, reply.HEADER_TOO_BIG),
        (b"Received: x\r\n" * 5, None),
        (b"Received: x\r\n" * 6, reply.MAIL_LOOP),
        (b"rEcEiVeD: x\r\n" * 6, reply.MAIL_LOOP),
        (b"A: Received: x\r\n" * 6, None),
    ],
)
def test_bounds(header: bytes, refusal: Reply | None) -> None:
    assert refusal == decide_header(header, BOUNDS)


def test_the_bounds_are_those_of_the_limits_table() -> None:
    usual = HeaderBounds()
    assert (usual.size, usual.fields, usual.field_size, usual.hops) == (1 << 20, 2000, 100 << 10, 50)


@pytest.mark.parametrize(
    ("header", "message_id"),
    [
        (b"Message-ID: <a@b>\r\n", "<a@b>"),
        (b"X: y\r\nmessage-id:<a@b> (comment)\r\n", "<a@b>"),
        (b"Message-ID:\r\n\t<a@b>\r\n", "<a@b>"),
        (b"Message-ID: none\r\n", ""),
        (b"X-Message-ID: <a@b>\r\n", ""),
        (b"Message-ID: <\xff@b>\r\n", "<\\xff@b>"),
        (b"Message-ID: <" + b"a" * 2000 + b">\r\n", ""),
        (b"", ""),
    ],
)
def test_the_message_id(header: bytes, message_id: str) -> None:
    assert message_id == message_id_of(header)


@pytest.mark.parametrize(
    ("content", "begins"),
    [
        (b"Subject: x", True), (b"Subject : x", True), (b"X-!: y", True), (b"Hello world: x", False), (b" Subject: x", False),
        (b": x", False), (b"", False), (b"S\xc3\xbc: x", False), (b"Subject", False), (b"From me@x Mon Jan 1 00:00:00 2024", False),
    ],
)  # fmt: skip
def test_where_a_header_begins(content: bytes, begins: bool) -> None:
    assert begins is begins_with_field(content)


BOMBS = {
    "fields": lambda n: b"X: y\r\n" * (n // 6),
    "one field": lambda n: b"X: " + b"y" * n + b"\r\n",
    "folds": lambda n: b"X: y\r\n" + b" y\r\n" * (n // 4),
    "message ids": lambda n: b"Message-ID: <aaaa\r\n" * (n // 19),
    "spaces": lambda n: b"Message-ID:" + b" " * n + b"\r\n",
    "no colon": lambda n: b"x" * n,
    "spaces before a colon": lambda n: b"x" + b" " * n,
    "parentheses": lambda n: b"To: " + b"(" * n + b"\r\n",
    "received": lambda n: b"received" * (n // 8),
}


@pytest.mark.parametrize("shape", BOMBS)
def test_a_header_bomb_takes_time_in_proportion(shape: str) -> None:
    """SAFETY 3.7: at most 200 ms a megabyte."""
    bomb = BOMBS[shape](1 << 20)
    began = time.process_time()
    decide_header(bomb, HeaderBounds(size=1 << 21))
    message_id_of(bomb)
    begins_with_field(bomb)
    assert time.process_time() - began < 0.2
