"""Received fields (RFC 5321 section 4.4, RFC 3848, RFC 6531 section 4.3) and dates."""

from __future__ import annotations

import email.utils

import pytest

from mta.mail.trace import count_received, format_date, literal, protocol_keyword, received_field, trustworthy_hello

AT = 1_700_000_000.5  # Tue, 14 Nov 2023 22:13:20 UTC
TLS = "TLSv1.3 TLS_AES_256_GCM_SHA384"
CIPHER = "\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)"


@pytest.mark.parametrize(
    ("tls", "authenticated", "utf8", "keyword"),
    [
        (False, False, False, "ESMTP"),
        (False, True, False, "ESMTPA"),
        (True, False, False, "ESMTPS"),
        (True, True, False, "ESMTPSA"),
        (False, False, True, "UTF8SMTP"),
        (False, True, True, "UTF8SMTPA"),
        (True, False, True, "UTF8SMTPS"),
        (True, True, True, "UTF8SMTPSA"),
    ],
)
def test_received_for_every_way_in(tls: bool, authenticated: bool, utf8: bool, keyword: str) -> None:
    field = received_field(
        hello="client.example",
        client_ip="192.0.2.1",
        hostname="mail.example.org",
        protocol=protocol_keyword(esmtp=True, tls=tls, authenticated=authenticated, utf8=utf8),
        tls=TLS if tls else "",
        identifier="0E72ZM0000000",
        recipient="user@example.org",
        at=AT,
    )
    assert field.decode() == (
        f"Received: from client.example ([192.0.2.1]){CIPHER if tls else ''}\r\n"
        f"\tby mail.example.org with {keyword} id 0E72ZM0000000\r\n"
        "\tfor <user@example.org>;\r\n"
        "\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("keywords", "keyword"),
    [
        ({"esmtp": False, "tls": True, "authenticated": True, "utf8": False}, "SMTP"),
        ({"esmtp": True, "tls": True, "authenticated": False, "utf8": False, "lmtp": True}, "LMTPS"),
        ({"esmtp": True, "tls": False, "authenticated": True, "utf8": True, "lmtp": True}, "UTF8LMTPA"),
    ],
)
def test_other_keywords(keywords: dict[str, bool], keyword: str) -> None:
    assert keyword == protocol_keyword(**keywords)


def received(**facts: object) -> str:
    usual: dict[str, object] = {
        "hello": "client.example",
        "client_ip": "192.0.2.1",
        "hostname": "mail.example.org",
        "protocol": "ESMTP",
        "tls": "",
        "identifier": "X",
        "recipient": "",
        "at": AT,
    }
    return received_field(**(usual | facts)).decode()  # type: ignore[arg-type]


def test_several_recipients_are_not_named() -> None:
    assert "for <" not in received(recipient="")


def test_a_hello_that_is_no_name_stands_nowhere() -> None:
    for name in (
        "x) (trusted",
        "a b",
        "ü.example",
        "[1.2.3.4.5]",
        "a\r\nX-Evil: 1",
        "<script>",
        "",
        "a;b",
        "192.0.2.7",
    ):
        assert received(hello=name).startswith("Received: from [192.0.2.1]\r\n"), name
    assert received(hello="[192.0.2.9]").startswith("Received: from [192.0.2.9] ([192.0.2.1])\r\n")


def test_mail_without_a_client_came_from_here() -> None:
    assert received(client_ip="", hello="").startswith("Received: from localhost\r\n")
    assert received(client_ip="2001:db8::1").startswith("Received: from client.example ([IPv6:2001:db8::1])\r\n")


def test_no_line_of_received_is_long() -> None:
    field = received(hello="a." * 120 + "example", recipient="r" * 254, tls=TLS, client_ip="2001:db8::1:2:3:4:5")
    assert all(len(line) <= 998 for line in field.split("\r\n"))


def test_dates_are_those_of_rfc_5322() -> None:
    for at in (0, 951_782_400, 1_700_000_000, 4_102_444_799):
        assert email.utils.parsedate_to_datetime(format_date(at)).timestamp() == at
    assert format_date(0) == "Thu, 01 Jan 1970 00:00:00 +0000"


def test_literals() -> None:
    assert literal("192.0.2.1") == "[192.0.2.1]"
    assert literal("2001:db8::1") == "[IPv6:2001:db8::1]"
    assert trustworthy_hello("MAIL.example.org") == "mail.example.org"


def test_hops_are_counted_at_the_beginning_of_a_line_alone() -> None:
    header = (
        b"Received: a\r\nRECEIVED: b\r\n\tReceived: folded\r\nX-Received: c\r\nSubject: received: d\r\nreceived:\r\n"
    )
    assert count_received(header) == 3
