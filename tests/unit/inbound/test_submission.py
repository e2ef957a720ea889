"""What submission mends (RFC 6409 section 8)."""

from __future__ import annotations

import pytest

from mta.inbound.submission import missing_fields
from mta.mail.address import NULL_PATH, Address

SENDER = Address("demo", "dev.test")
FROM, DATE, ID = (
    b"From: <demo@dev.test>\r\n",
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n",
    b"Message-ID: <X@mail.dev.test>\r\n",
)


def added(header: bytes, sender: Address = SENDER) -> bytes:
    return missing_fields(header, sender=sender, identifier="X", hostname="mail.dev.test", at=1_700_000_000.9)


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        (b"", FROM + DATE + ID),
        (b"Subject: x\r\n", FROM + DATE + ID),
        (b"From: a@b\r\n", DATE + ID),
        (b"FROM : a@b\r\ndate: x\r\n", ID),
        (b"From: a\r\nDate: b\r\nMessage-Id: c\r\n", b""),
        (b"X-From: a\r\nResent-Date: b\r\nX-Message-ID: c\r\n", FROM + DATE + ID),
        (b"Subject: x\r\n\tFrom: folded\r\n date: folded\r\n", FROM + DATE + ID),
    ],
)
def test_only_what_is_missing_is_added(header: bytes, fields: bytes) -> None:
    assert fields == added(header)


def test_a_report_gets_no_sender() -> None:
    assert added(b"", NULL_PATH) == DATE + ID


def test_an_odd_sender_stays_one_field() -> None:
    assert added(b"", Address('a"b@c', "dev.test")).startswith(b'From: <"a\\"b@c"@dev.test>\r\nDate: ')
