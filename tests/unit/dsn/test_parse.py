"""Reports as other mailers write them, and as nobody should."""

from __future__ import annotations

import base64
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from mta.dsn.parse import NoReport, RecipientReport, Report, Typed, parse_report
from mta.dsn.parts import DEPTH_MAX
from mta.dsn.report import Action

HEADER = "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example.net\r\nTo: a@example.org\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
RETURNED = "Content-Type: message/rfc822\r\n\r\nMessage-ID: <1@example.org>\r\nSubject: hello\r\n\r\nHi\r\n"
HUMAN = "Content-Type: text/plain; charset=iso-8859-1\r\n\r\nIt did not work.\r\n"


def report(
    status: str, *, kind: str = "message/delivery-status", returned: str = RETURNED, human: str = HUMAN
) -> bytes:
    parts = [human, f"Content-Type: {kind}\r\n\r\n{status}", returned]
    body = "".join(f"--b\r\n{part}\r\n" for part in parts if part) + "--b--\r\n"
    return (
        HEADER + 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n' + body
    ).encode()


def only(octets: bytes) -> RecipientReport:
    (recipient,) = parse_report(octets).recipients
    return recipient


def test_the_fields_of_rfc_3464() -> None:
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    parsed = parse_report(
        report(
            "Original-Envelope-Id: QQ31\r\nReporting-MTA: dns; mx.example.net\r\nReceived-From-MTA: DNS; pc.example.org\r\n"
            f"Arrival-Date: {format_datetime(at)}\r\nX-Queue: 42\r\n\r\n"
            "Original-Recipient: rfc822;robert@example.net\r\nFinal-Recipient: RFC822; bob@example.net\r\nAction: failed\r\n"
            "Status: 5.1.1\r\nRemote-MTA: dns; in.example.net\r\nDiagnostic-Code: smtp; 550 5.1.1\r\n  No such user\r\n"
            f"Last-Attempt-Date: {format_datetime(at)}\r\nFinal-Log-ID: 77\r\n\r\n"
            f"Final-Recipient: rfc822; eve@example.net\r\nAction: delayed\r\nStatus: 4.4.1\r\nWill-Retry-Until: {format_datetime(at)}\r\n"
        )
    )
    bob, eve = parsed.recipients
    assert (parsed.envelope_id, parsed.reporting_mta, parsed.received_from_mta, parsed.arrived_at) == (
        "QQ31",
        Typed("dns", "mx.example.net"),
        Typed("dns", "pc.example.org"),
        at.timestamp(),
    )
    assert ("x-queue", "42") in parsed.fields
    assert (bob.original, bob.final) == (Typed("rfc822", "robert@example.net"), Typed("rfc822", "bob@example.net"))
    assert (bob.action, bob.status, bob.address) == (Action.FAILED, "5.1.1", "robert@example.net")
    assert (bob.remote_mta, bob.final_log_id) == (Typed("dns", "in.example.net"), "77")
    assert bob.diagnostic == Typed("smtp", "550 5.1.1  No such user")
    assert (bob.last_attempt_at, eve.will_retry_until) == (at.timestamp(), at.timestamp())
    assert (eve.action, eve.status, eve.address) == (Action.DELAYED, "4.4.1", "eve@example.net")
    assert (parsed.returned, parsed.original_message_id) == ("message", "<1@example.org>")
    assert parsed.original_header == b"Message-ID: <1@example.org>\r\nSubject: hello\r\n"
    assert parsed.human == "It did not work.\n"


@pytest.mark.parametrize(
    ("status", "address", "action", "code"),
    [
        ("Final-Recipient: rfc822;<bob@example.net>\r\nAction: Failed\r\nStatus: 5.1.1 (bad mailbox)", "bob@example.net", "failed", "5.1.1"),
        ("Final-Recipient: bob@example.net\r\nAction: failed (permanent)\r\nStatus: 5.0.0", "bob@example.net", "failed", "5.0.0"),
        ("Original-Recipient: rfc822; bob@example.net\r\nAction: relayed\r\nStatus: 2.0.0", "bob@example.net", "relayed", "2.0.0"),
        ("Final-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 550 5.7.1 no", "bob@example.net", "failed", "5.7.1"),
        ("Final-Recipient: rfc822; bob@example.net\r\nAction: exploded\r\nStatus: 9", "bob@example.net", None, ""),
        ("Final-Recipient: rfc822; bob@example.net\r\nStatus: 1.2.3.4", "bob@example.net", None, ""),
        ("Final-Recipient: utf-8; gr\\x{FC}n@example.net\r\nAction: failed\r\nStatus: 5.1.1", "grün@example.net", "failed", "5.1.1"),
        ("Final-Recipient: utf-8; grün@example.net\r\nAction: failed\r\nStatus: 5.1.1", "grün@example.net", "failed", "5.1.1"),
        ("Final-Recipient: utf-8; a\\x{0A}b\\x{D800}\\x{FFFFFF}@c\r\nAction: failed", "a b\\x{D800}\\x{FFFFFF}@c", "failed", ""),
        ("Status: 5.1.1\r\nAction: failed", "", "failed", "5.1.1"),
        ("Action: failed\r\nFinal-Recipient: rfc822;bob@example.net\r\nStatus: 5.0.0", "bob@example.net", "failed", "5.0.0"),
        ("Final-Recipient: rfc822;bob@example.net\r\nAction: failed\r\nStatus: 5.1.10\r\nX-Display-Name: Bob", "bob@example.net", "failed", "5.1.10"),
        ("Final-Recipient:\r\n rfc822;\r\n\tbob@example.net\r\nAction:failed\r\nStatus:5.1.1", "bob@example.net", "failed", "5.1.1"),
    ],
)  # fmt: skip
def test_what_real_mailers_write(status: str, address: str, action: str | None, code: str) -> None:
    for octets in (
        report(f"Reporting-MTA: dns; x\r\n\r\n{status}\r\n"),
        report(status),
        report(status).replace(b"\r", b""),
    ):
        recipient = only(octets)
        assert (recipient.address, recipient.action, recipient.status) == (address, action, code)


def test_fields_of_message_and_recipient_in_one_group_are_told_apart() -> None:
    parsed = parse_report(report("Reporting-MTA: dns; x\r\nFinal-Recipient: rfc822; a@b.example\r\nAction: failed\r\n"))
    assert parsed.reporting_mta.text == "x"
    assert parsed.recipients[0].fields == (("final-recipient", "rfc822; a@b.example"), ("action", "failed"))


def test_recipients_without_an_empty_line_between_are_told_apart() -> None:
    group = "Final-Recipient: rfc822; {}@b.example\r\nAction: failed\r\nStatus: 5.0.0\r\n"
    parsed = parse_report(report("Reporting-MTA: dns; x\r\n\r\n" + "".join(group.format(name) for name in "abc")))
    assert [each.address[0] for each in parsed.recipients] == ["a", "b", "c"]


@pytest.mark.parametrize("space", ["\r\n\r\n\r\n", "\r\n \r\n", "\r\n\t\r\n \r\n"])
def test_groups_may_stand_further_apart(space: str) -> None:
    parsed = parse_report(
        report(f"\r\nReporting-MTA: dns; x{space}Final-Recipient: rfc822; a@b{space}Final-Recipient: rfc822; c@d")
    )
    assert [each.address for each in parsed.recipients] == ["a@b", "c@d"]


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "BASE64 "])
@pytest.mark.parametrize("kind", ["message/delivery-status", "message/global-delivery-status"])
def test_the_status_part_may_be_encoded(encoding: str, kind: str) -> None:
    text = "Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: utf-8; grün@example.net\r\nAction: failed\r\n".encode()
    quoted = text.replace(b"=", b"=3D").replace("ü".encode(), b"=C3=BC")
    coded = (quoted if encoding[0] == "q" else base64.encodebytes(text)).decode()
    octets = report("STATUS", kind=f"{kind}\r\nContent-Transfer-Encoding: {encoding}").replace(
        b"STATUS", coded.encode()
    )
    assert only(octets).address == "grün@example.net"


def test_a_report_may_be_wrapped_and_its_first_part_an_alternative() -> None:
    alternative = (
        'Content-Type: multipart/alternative; boundary=b1\r\n\r\n--b1\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b1\r\n'
        "Content-Type: text/html\r\n\r\n<p>html\r\n--b1--\r\n"
    )  # fmt: skip
    inner = report("Final-Recipient: rfc822; a@b\r\nAction: failed\r\n", human=alternative)
    wrapped = (
        b'Content-Type: multipart/mixed; boundary="list=1"\r\n\r\n--list=1\r\n'
        + inner
        + b"\r\n--list=1\r\n\r\nfooter\r\n--list=1--"
    )
    parsed = parse_report(wrapped)
    assert (parsed.recipients[0].address, parsed.human) == ("a@b", "plain")


@pytest.mark.parametrize(
    ("part", "returned"),
    [
        ("Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <1@example.org>\r\n", "header"),
        ("Content-Type: message/global-headers\r\n\r\nMessage-ID: <1@example.org>\r\n", "header"),
        ("Content-Type: message/global\r\n\r\nMessage-ID: <1@example.org>\r\n\r\nHi", "message"),
        ("Content-Type: text/html\r\n\r\nMessage-ID: <1@example.org>\r\n", ""),
        ("", ""),
    ],
)
def test_what_came_back(part: str, returned: str) -> None:
    parsed = parse_report(report("Final-Recipient: rfc822; a@b\r\nAction: failed\r\n", returned=part))
    assert (parsed.returned, parsed.original_message_id) == (returned, "<1@example.org>" if returned else "")


def test_a_report_that_a_message_returns_is_not_read_as_one() -> None:
    inner = report("Final-Recipient: rfc822; forged@b\r\nAction: failed\r\n")
    outer = (
        HEADER.encode()
        + b'Content-Type: multipart/mixed; boundary="o"\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n'
        + inner
    )
    with pytest.raises(NoReport):
        parse_report(outer + b"\r\n--o--\r\n")


def test_addresses_named_in_the_header_alone() -> None:
    plain = (
        HEADER
        + "X-Failed-Recipients: a@example.net,\r\n  b@example.net\r\n\r\nThis message was created automatically.\r\n"
    )
    parsed = parse_report(plain.encode())
    assert [(each.address, each.action, each.status) for each in parsed.recipients] == [
        ("a@example.net", Action.FAILED, ""),
        ("b@example.net", Action.FAILED, ""),
    ]


def test_a_report_cut_off_anywhere_is_read_as_far_as_it_goes_or_refused() -> None:
    whole = report("Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; a@b.example\r\nAction: failed\r\n")
    outcomes = set()
    for end in range(len(whole)):
        try:
            outcomes.add(parse_report(whole[:end]).recipients[0].address)
        except NoReport:
            outcomes.add("none")
    assert {"none", "a@b.example"} <= outcomes


@pytest.mark.parametrize(
    "octets", [b"", b"\r\n", b"x", b"Subject: x\r\n\r\nhello", HEADER.encode(), b"\xff" * 1000, report("")]
)
def test_what_is_no_report_is_refused(octets: bytes) -> None:
    with pytest.raises(NoReport):
        parse_report(octets)


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 41 Foo 99999999999 99:99:99 +9999", "\x00" * 50, "9" * 5000])
def test_a_date_that_is_none_is_no_time(date: str) -> None:
    assert (
        only(report(f"Final-Recipient: rfc822; a@b\r\nAction: failed\r\nWill-Retry-Until: {date}\r\n")).will_retry_until
        == 0.0
    )


def test_text_of_the_wire_is_one_printable_line() -> None:
    hostile = "Diagnostic-Code: smtp; 550 \x1b[31m\x00 a\rB: c \u2028\x85 " + "y" * 50_000 + "\r\n"
    recipient = only(report("Final-Recipient: rfc822; a@b\x07\r\nAction: failed\r\n" + hostile))
    assert all(text.isprintable() for text in (recipient.final.text, recipient.diagnostic.text))
    assert len(recipient.diagnostic.text) <= 2000


def _nested(depth: int) -> bytes:
    opening = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(depth))
    return opening.encode()


@pytest.mark.parametrize(("depth", "read"), [(DEPTH_MAX - 1, True), (DEPTH_MAX, False)])
def test_a_report_is_looked_for_so_deep_and_no_deeper(depth: int, read: bool) -> None:
    octets = _nested(depth) + report("Final-Recipient: rfc822; a@b\r\nAction: failed\r\n")
    if read:
        assert only(octets).address == "a@b"
    else:
        with pytest.raises(NoReport):
            parse_report(octets)


STATUS_LINE = b"Final-Recipient: rfc822; a@b\r\nAction: failed\r\n"


@pytest.mark.parametrize(
    "hostile",
    [
        _nested(10_000),
        _nested(3) + b"--b2\r\n\r\n" * 200_000,
        b"Content-Type: multipart/report; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" * 50_000,
        report("x: y\r\n" * 200_000),
        report("\r\n" * 500_000),
        report("\r\n \r\n" * 300_000),
        report("Final-Recipient: rfc822; a@b\r\n" * 40_000),
        report("Final-Recipient: rfc822; a@b\r\n" + " x\r\n" * 300_000),
        report("Final-Recipient: " + ";" * 900_000),
        b"X-Failed-Recipients: " + b"a@b," * 300_000 + b"\r\n\r\n",
        b'Content-Type: multipart/report; boundary="' + b"\\" * 900_000,
        b"Content-Type: text/plain; charset=punycode\r\nX-Failed-Recipients: a@b\r\n\r\n" + b"a-" * 400_000,
        report("x", human="Content-Type: text/plain; charset=unicode_escape\r\n\r\n" + "\\" * 5000),
        report(STATUS_LINE.decode()) + b"z" * 30_000_000,
    ],
    ids=lambda value: "",
)
def test_hostile_reports_cost_little_and_raise_nothing_else(hostile: bytes) -> None:
    began = time.process_time()
    with suppress(NoReport):
        assert isinstance(parse_report(hostile), Report)
    assert time.process_time() - began < 1.0  # 0.16 s where it was measured: linear work on a million octets
