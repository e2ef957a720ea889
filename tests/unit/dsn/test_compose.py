"""Failure reports, read by Python's email package as an independent reader."""

from __future__ import annotations

import email
import email.policy
import hashlib
from dataclasses import replace
from email.message import EmailMessage

import pytest

from mta.dsn.compose import RETURN_LIMIT_OCTETS, compose_report
from mta.dsn.human import SUBJECTS
from mta.dsn.report import Action, ReportedRecipient, ReportFrame
from mta.mail.address import NULL_PATH, parse_address
from mta.mail.envelope import BodyFile, Content, Kind, Message
from mta.mail.identifiers import format_id

SENDER = parse_address("sender@example.org")
NOW = 1_767_225_600.0  # Thu, 01 Jan 2026 00:00:00 +0000
CONTENT = Content(b"From: sender@example.org\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n", b"Hi there\r\n")
MESSAGE = Message(
    id=1 << 40,
    kind=Kind.SUBMISSION,
    reverse_path=SENDER,
    received_at=NOW - 3600,
    expires_at=NOW + 86400,
    size=CONTENT.size,
    message_id="<1@example.org>",
)
FAILED = ReportedRecipient(
    address=parse_address("bob@example.net"),
    orcpt="",
    status="5.1.1",
    diagnostic="550 5.1.1 No such user",
    host="mx.example.net",
    attempted=NOW,
)
FRAME = ReportFrame(
    id=2 << 40,
    action=Action.FAILED,
    to=SENDER,
    hostname="mail.example.org",
    postmaster=parse_address("admin@example.org"),
    boundary="b0undary",
    now=NOW,
    lifetime=172800.0,
)


def whole(content: Content) -> bytes:
    assert isinstance(content.body, bytes)
    return content.header + b"\r\n" + content.body


def read(
    message: Message = MESSAGE, content: Content = CONTENT, *failures: ReportedRecipient, frame: ReportFrame = FRAME
) -> EmailMessage:
    made = compose_report(message, content, failures or (FAILED,), frame)[1]
    octets = whole(made)
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
    parsed = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    assert isinstance(parsed, EmailMessage)
    for part in parsed.walk():
        assert not part.defects, part.defects
    return parsed


def groups(parsed: EmailMessage) -> list[dict[str, str]]:
    """The groups of fields of the delivery-status part; the first speaks of the message."""
    status = parsed.get_payload(1)
    assert status.get_content_type() == "message/delivery-status"  # type: ignore[union-attr]
    return [{key.lower(): str(value) for key, value in group.items()} for group in status.get_payload()]  # type: ignore


def test_the_report_is_a_multipart_report_of_three_parts_to_the_reverse_path() -> None:
    parsed = read()
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in parsed.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]
    assert parsed["To"].addresses[0].addr_spec == "sender@example.org"
    assert parsed["From"].addresses[0].addr_spec == "MAILER-DAEMON@mail.example.org"
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["Date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    assert parsed["In-Reply-To"] == "<1@example.org>"


def test_its_record_has_a_null_reverse_path_and_names_its_cause() -> None:
    record, content = compose_report(MESSAGE, CONTENT, [FAILED], replace(FRAME, cause_recipient=9))
    assert (record.kind, record.reverse_path, record.id) == (Kind.REPORT, NULL_PATH, FRAME.id)
    assert (record.cause_message, record.cause_recipient) == (MESSAGE.id, 9)
    assert (record.received_at, record.expires_at) == (NOW, NOW + 172800)
    assert (record.needs_utf8, record.has_8bit) == (False, False)
    octets = whole(content)
    assert record.size == len(octets) == content.size
    assert record.sha256 == hashlib.sha256(octets).digest()
    assert record.max_line == max(len(line) for line in octets.split(b"\r\n")) < 100
    assert record.message_id.encode() in content.header


def test_the_human_part_names_recipient_reply_host_queue_id_and_whom_to_ask() -> None:
    text = read().get_payload(0).get_content()  # type: ignore[union-attr]
    for said in ("<bob@example.net>", "550 5.1.1 No such user", "mx.example.net", "<admin@example.org>"):
        assert said in text
    assert format_id(MESSAGE.id) in text


def test_the_machine_part_has_the_fields_of_rfc_3464() -> None:
    of_message, of_bob = groups(read(replace(MESSAGE, envid="QQ  314 159")))
    assert of_message == {
        "original-envelope-id": "QQ  314 159",
        "reporting-mta": "dns; mail.example.org",
        "x-txmta-queue-id": format_id(MESSAGE.id),
        "arrival-date": "Wed, 31 Dec 2025 23:00:00 +0000",
    }
    assert of_bob == {
        "final-recipient": "rfc822; bob@example.net",
        "action": "failed",
        "status": "5.1.1",
        "remote-mta": "dns; mx.example.net",
        "diagnostic-code": "smtp; 550 5.1.1 No such user",
        "last-attempt-date": "Thu, 01 Jan 2026 00:00:00 +0000",
    }


@pytest.mark.parametrize(
    ("action", "given", "status"),
    [
        (Action.FAILED, "5.1.1", "5.1.1"),
        (Action.FAILED, "4.4.1", "5.0.0"),
        (Action.DELAYED, "4.4.1", "4.4.1"),
        (Action.DELAYED, "5.1.1", "4.0.0"),
        (Action.DELIVERED, "2.1.5", "2.1.5"),
        (Action.RELAYED, "2.0.0", "2.0.0"),
        (Action.EXPANDED, "", "2.0.0"),
    ],
)
def test_each_kind_says_its_action_a_status_of_its_class_and_its_own_subject(
    action: Action, given: str, status: str
) -> None:
    parsed = read(MESSAGE, CONTENT, replace(FAILED, status=given), frame=replace(FRAME, action=action))
    of_bob = groups(parsed)[1]
    assert (of_bob["action"], of_bob["status"]) == (action.value, status)
    assert parsed["Subject"] == SUBJECTS[action]
    assert len(set(SUBJECTS.values())) == len(Action)
    assert ("will-retry-until" in of_bob) == (action is Action.DELAYED)


def test_a_delay_says_how_long_it_is_tried() -> None:
    frame = replace(FRAME, action=Action.DELAYED)
    parsed = read(MESSAGE, CONTENT, replace(FAILED, status="4.4.1", diagnostic="451 4.4.1 later"), frame=frame)
    assert groups(parsed)[1]["will-retry-until"] == "Fri, 02 Jan 2026 00:00:00 +0000"
    text = " ".join(parsed.get_payload(0).get_content().split())  # type: ignore[union-attr]
    assert "tried further until Fri, 02 Jan 2026 00:00:00 +0000" in text
    assert "The receiving system does not answer." in text
    over = read(replace(MESSAGE, expires_at=NOW), CONTENT, replace(FAILED, status="4.4.1"), frame=frame)
    assert "will-retry-until" not in groups(over)[1]


@pytest.mark.parametrize(
    ("helo", "client", "source"),
    [
        ("pc.example.org", "192.0.2.7", "dns; pc.example.org ([192.0.2.7])"),
        ("evil\r\nX: y", "2001:db8::7", "dns; [IPv6:2001:db8::7]"),
        ("[192.0.2.7]", "192.0.2.7", "dns; [192.0.2.7]"),
        ("pc.example.org", "", None),
    ],
)
def test_received_from_mta_is_the_client_and_its_word_where_that_is_a_name(
    helo: str, client: str, source: str | None
) -> None:
    assert groups(read(replace(MESSAGE, helo=helo, client_ip=client)))[0].get("received-from-mta") == source


@pytest.mark.parametrize(
    ("original", "final"),
    [
        ("bob+news@Example.NET", "rfc822; bob+news@example.net"),
        ("", "rfc822; bob@example.net"),
        ("Postmaster", "rfc822; bob@example.net"),
        ("@a.example:x@b\r\nX: y", "rfc822; bob@example.net"),
    ],
)
def test_final_recipient_is_the_address_as_it_was_accepted(original: str, final: str) -> None:
    assert groups(read(MESSAGE, CONTENT, replace(FAILED, original=original)))[1]["final-recipient"] == final


def test_a_rewritten_address_is_named_as_the_sender_wrote_it() -> None:
    text = read(MESSAGE, CONTENT, replace(FAILED, orcpt="rfc822;robert@example.com")).get_payload(0).get_content()  # type: ignore
    assert "<bob@example.net>, which you wrote as <robert@example.com>" in text


def test_a_host_without_a_name_is_a_literal_and_a_success_needs_no_diagnostic() -> None:
    delivered = replace(FAILED, host="", diagnostic="250 2.0.0 delivered")
    assert (
        "diagnostic-code"
        not in groups(read(MESSAGE, CONTENT, delivered, frame=replace(FRAME, action=Action.DELIVERED)))[1]
    )


def test_each_failed_recipient_has_its_group() -> None:
    other = replace(FAILED, address=parse_address("eve@example.net"), status="5.2.2", diagnostic="552 5.2.2 Full")
    assert [group["status"] for group in groups(read(MESSAGE, CONTENT, FAILED, other))[1:]] == ["5.1.1", "5.2.2"]


def test_original_recipient_stands_only_when_an_orcpt_was_given() -> None:
    given = replace(FAILED, orcpt="rfc822;robert@example.com")
    assert groups(read(MESSAGE, CONTENT, given))[1]["original-recipient"] == "rfc822; robert@example.com"
    assert "original-recipient" not in groups(read())[1]
    assert "original-recipient" not in groups(read(MESSAGE, CONTENT, replace(FAILED, orcpt="no type")))[1]


def test_an_expiry_tells_the_last_thing_heard() -> None:
    expired = replace(
        FAILED, status="5.4.7", diagnostic="no connection: timed out", host="", expired=True, uncertain=True
    )
    parsed = read(MESSAGE, CONTENT, expired)
    text = " ".join(parsed.get_payload(0).get_content().split())  # type: ignore[union-attr]
    assert "until its time was over" in text
    assert "no connection: timed out" in text
    assert "may have arrived" in text
    group = groups(parsed)[1]
    assert (group["status"], group["diagnostic-code"]) == ("5.4.7", "x-txmta; no connection: timed out")
    assert "remote-mta" not in group


def test_a_status_that_is_none_becomes_5_0_0() -> None:
    assert groups(read(MESSAGE, CONTENT, replace(FAILED, status="4.2.2")))[1]["status"] == "5.0.0"
    assert groups(read(MESSAGE, CONTENT, replace(FAILED, status="5.1.1\r\nX: y")))[1]["status"] == "5.0.0"


# --- what comes back --------------------------------------------------------------------------------------------------


def returned(message: Message, content: Content) -> tuple[str, str]:
    """Type and text of the third part."""
    part = read(message, content).get_payload(2)
    payload = part.get_payload()  # type: ignore[union-attr]
    return part.get_content_type(), payload if isinstance(payload, str) else str(payload[0])  # type: ignore


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.FAILED])
def test_what_is_no_failure_returns_the_header_whatever_ret_says(action: Action) -> None:
    parsed = read(replace(MESSAGE, ret="FULL"), CONTENT, frame=replace(FRAME, action=action))
    assert parsed.get_payload(2).get_content_type() == "text/rfc822-headers"  # type: ignore[union-attr]


@pytest.mark.parametrize("ret", ["", "FULL"])
def test_the_whole_message_comes_back_by_default_and_by_ret_full(ret: str) -> None:
    kind, text = returned(replace(MESSAGE, ret=ret), CONTENT)
    assert kind == "message/rfc822"
    assert "Hi there" in text


def test_the_header_alone_comes_back_by_ret_hdrs() -> None:
    kind, text = returned(replace(MESSAGE, ret="HDRS"), CONTENT)
    assert kind == "text/rfc822-headers"
    assert "Subject: hello" in text
    assert "Hi there" not in text


def test_a_message_over_the_limit_comes_back_as_its_header() -> None:
    room = RETURN_LIMIT_OCTETS - len(CONTENT.header) - 2
    assert returned(MESSAGE, Content(CONTENT.header, b"x" * (room - 2) + b"\r\n"))[0] == "message/rfc822"
    assert (
        returned(replace(MESSAGE, ret="FULL"), Content(CONTENT.header, b"x" * room + b"\r\n"))[0]
        == "text/rfc822-headers"
    )
    assert returned(MESSAGE, Content(CONTENT.header, BodyFile("body/1", 300_000)))[0] == "text/rfc822-headers"


def test_a_header_over_the_limit_is_cut_at_a_line() -> None:
    header = b"Subject: x\r\n" + b"X-Many: 0123456789\r\n" * 5000
    kind, text = returned(MESSAGE, Content(header, b""))
    assert kind == "text/rfc822-headers"
    assert len(text) <= RETURN_LIMIT_OCTETS
    assert text.endswith("0123456789\r\n")
    endless = compose_report(MESSAGE, Content(b"X: " + b"y" * 60_000 + b"\r\n", b""), [FAILED], FRAME)[1]
    assert len(whole(endless)) < RETURN_LIMIT_OCTETS + 3000


def test_eight_bit_content_is_declared() -> None:
    content = Content(b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n", "grün\r\n".encode())
    record, made = compose_report(MESSAGE, content, [FAILED], FRAME)
    assert record.has_8bit
    assert not record.needs_utf8
    parsed = email.message_from_bytes(whole(made))
    assert parsed["Content-Transfer-Encoding"] == "8bit"
    assert parsed.get_payload(2)["Content-Transfer-Encoding"] == "8bit"  # type: ignore[index, union-attr, call-overload]
    assert parsed.get_payload(0)["Content-Transfer-Encoding"] is None  # type: ignore[index, union-attr, call-overload]


def test_a_message_that_holds_the_boundary_cannot_end_the_report() -> None:
    content = Content(CONTENT.header, b"--b0undary--\r\n--b0undary\r\nContent-Type: text/plain\r\n\r\nforged\r\n")
    parsed = read(MESSAGE, content)
    assert len(list(parsed.iter_parts())) == 3
    assert "forged" in returned(MESSAGE, content)[1]


def test_a_message_that_could_not_be_read_back_is_reported_without_it() -> None:
    parsed = read(MESSAGE, Content(b"", b""))
    assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "message/delivery-status"]
    assert "follows" not in parsed.get_payload(0).get_content()  # type: ignore[union-attr]


def test_an_original_without_a_header_or_without_a_body_can_be_reported() -> None:
    assert returned(MESSAGE, Content(b"", b"only a body\r\n"))[0] == "message/rfc822"
    assert returned(MESSAGE, Content(b"Subject: x\r\n", b""))[0] == "message/rfc822"


# --- internationalised ------------------------------------------------------------------------------------------------


GREEN = replace(FAILED, address=parse_address("grün+x@example.net", utf8=True), orcpt="utf-8;ro\\x{DF}@example.net")


def test_to_a_sender_who_did_not_need_smtputf8_utf8_addresses_go_in_7_bit_form_to_the_machine() -> None:
    parsed = read(MESSAGE, CONTENT, GREEN)
    assert groups(parsed)[1]["final-recipient"] == r"utf-8; gr\x{FC}n\x{2B}x@example.net"
    assert groups(parsed)[1]["original-recipient"] == r"utf-8; ro\x{DF}@example.net"
    human = parsed.get_payload(0)
    assert "<grün+x@example.net>" in human.get_content()  # type: ignore[union-attr]
    assert human.get_content_charset() == "utf-8"  # type: ignore[union-attr]


def test_to_a_sender_who_needed_smtputf8_the_machine_part_is_global_and_its_addresses_utf8() -> None:
    octets = whole(compose_report(replace(MESSAGE, needs_utf8=True), CONTENT, [GREEN], FRAME)[1])
    assert b"Content-Type: message/global-delivery-status\r\n" in octets
    assert b"Content-Transfer-Encoding: 8bit\r\n\r\nReporting-MTA" in octets
    assert "\r\nFinal-Recipient: utf-8; grün+x@example.net\r\n".encode() in octets
    assert "\r\nOriginal-Recipient: utf-8; roß@example.net\r\n".encode() in octets
    only_ascii = whole(compose_report(replace(MESSAGE, needs_utf8=True), CONTENT, [FAILED], FRAME)[1])
    assert b"Content-Type: message/delivery-status\r\n" in only_ascii


@pytest.mark.parametrize("orcpt", ["utf-8;a\\x{0A}b@c", "utf-8;a\\x{202E}b@c", "utf-8;a\\x{5C}b@c"])
def test_an_escape_that_would_not_stand_harmlessly_in_utf8_stays_an_escape(orcpt: str) -> None:
    octets = whole(compose_report(replace(MESSAGE, needs_utf8=True), CONTENT, [replace(FAILED, orcpt=orcpt)], FRAME)[1])
    assert f"Original-Recipient: utf-8; {orcpt[6:]}\r\n".encode() in octets


def test_a_report_to_a_utf8_sender_needs_smtputf8_and_returns_global_types() -> None:
    sender = parse_address("grün@example.org", utf8=True)
    message = replace(MESSAGE, reverse_path=sender, needs_utf8=True)
    content = Content("Subject: grün\r\n".encode(), b"x\r\n")
    record, made = compose_report(message, content, [FAILED], replace(FRAME, to=sender))
    assert record.needs_utf8
    assert "To: <grün@example.org>\r\n".encode() in made.header
    assert b"Content-Type: message/global\r\n" in whole(made)
    headers_only = compose_report(replace(message, ret="HDRS"), content, [FAILED], FRAME)[1]
    assert b"Content-Type: message/global-headers\r\n" in whole(headers_only)


# --- hostile text -----------------------------------------------------------------------------------------------------

HOSTILE = "550 no\r\nBcc: victim@example.com\r\n\r\n--b0undary\r\n\x1b[31m\x00 \u2028 grün " + "y" * 5000


def test_text_from_the_wire_adds_no_line_and_no_control_character() -> None:
    failed = replace(FAILED, diagnostic=HOSTILE, host="evil\r\nX: y", orcpt="rfc822;a\r\nX: y")
    message = replace(MESSAGE, envid="a\r\nX-Evil: y", message_id="<a@b>\r\nX-Evil: y")
    made = compose_report(message, CONTENT, [failed], FRAME)[1]
    octets = whole(made)
    lines = octets.split(b"\r\n")
    assert not [line for line in lines if line.lower().startswith((b"bcc:", b"x-evil", b"x:"))]
    assert all(32 <= octet < 127 for line in lines for octet in line)
    assert max(map(len, lines)) <= 998
    assert r"\x1b[31m\x00" in groups(read(message, CONTENT, failed))[1]["diagnostic-code"]


def test_nothing_to_report_or_nobody_to_tell_is_no_report() -> None:
    with pytest.raises(ValueError, match="something to tell"):
        compose_report(MESSAGE, CONTENT, [], FRAME)
    with pytest.raises(ValueError, match="somebody"):
        compose_report(MESSAGE, CONTENT, [FAILED], replace(FRAME, to=NULL_PATH))
