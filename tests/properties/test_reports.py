"""What compose writes, parse reads; and parse reads anything without an error but its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mta.dsn.compose import RETURN_LIMIT_OCTETS, compose_report
from mta.dsn.parse import NoReport, Report, parse_report
from mta.dsn.report import Action, ReportedRecipient, ReportFrame
from mta.mail.address import Address, parse_address
from mta.mail.envelope import BodyFile, Content, Kind, Message
from mta.smtp.xtext import decode_utf8_xtext

NOW = 1_767_225_600.0
FRAME = ReportFrame(
    id=2 << 40,
    action=Action.FAILED,
    to=parse_address("sender@example.org"),
    hostname="mail.example.org",
    postmaster=parse_address("admin@example.org"),
    boundary="b0undary/x",
    now=NOW,
    lifetime=1000.0,
)

wire = st.text(max_size=200)
local = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=10)
addresses = st.builds(Address, local, st.sampled_from(["example.net", "xn--grn-ioa.example"]))
statuses = st.sampled_from(["5.1.1", "4.4.1", "2.0.0", "", "nonsense\r\n"])
orcpts = st.one_of(
    st.just(""),
    st.builds("rfc822;{}@example.com".format, st.from_regex(r"[a-z+=]{1,20}", fullmatch=True)),
    st.builds("utf-8;{}@example.com".format, st.from_regex(r"[a-z]{1,9}(\\x\{(FC|1F600)\})?", fullmatch=True)),
    wire,
)
recipients = st.builds(
    ReportedRecipient,
    address=addresses,
    status=statuses,
    diagnostic=wire,
    original=st.one_of(st.just(""), wire),
    orcpt=orcpts,
    host=st.one_of(st.just(""), st.just("mx.example.net"), wire),
    heard=statuses,
    attempted=st.sampled_from([0.0, NOW]),
    expired=st.booleans(),
    uncertain=st.booleans(),
)
headers = st.lists(
    st.tuples(st.from_regex(r"[A-Za-z-]{1,20}", fullmatch=True), st.binary(max_size=60)), max_size=8
).map(
    lambda fields: b"".join(b"%b: %b\r\n" % (n.encode(), v.replace(b"\r", b"").replace(b"\n", b"")) for n, v in fields)
)
bodies = st.one_of(
    st.binary(max_size=300).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b"\r\n")),
    st.just(b"--b0undary/x--\r\n\r\n--b0undary/x\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n"),
    st.just(b"x" * RETURN_LIMIT_OCTETS),
    st.just(BodyFile("body/1", 25_000_000)),
)


@given(
    told=st.lists(recipients, min_size=1, max_size=5),
    action=st.sampled_from(list(Action)),
    header=headers,
    body=bodies,
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=wire,
    utf8=st.booleans(),
    helo=wire,
)
def test_what_is_composed_is_parsed(told, action, header, body, ret, envid, utf8, helo) -> None:  # type: ignore[no-untyped-def]
    content = Content(header, body)
    message = Message(
        1 << 40, Kind.SUBMISSION, FRAME.to, NOW - 5, NOW + 50, content.size, envid=envid, ret=ret, needs_utf8=utf8,
        client_ip="192.0.2.7", helo=helo,
    )  # fmt: skip
    record, made = compose_report(message, content, told, replace(FRAME, action=action))
    assert isinstance(made.body, bytes)
    octets = made.header + b"\r\n" + made.body
    assert record.size == len(octets)
    assert record.has_8bit or made.body.isascii()
    parsed = parse_report(octets)

    assert (parsed.reporting_mta.kind, parsed.reporting_mta.text) == ("dns", "mail.example.org")
    assert parsed.arrived_at == NOW - 5
    assert bool(parsed.envelope_id) == bool(envid.split())
    assert len(parsed.recipients) == len(told)
    for said, read in zip(told, parsed.recipients, strict=True):
        assert (read.action, read.status[0]) == (action, {"failed": "5", "delayed": "4"}.get(action, "2"))
        if not said.original:
            assert read.final.text == str(said.address)
        if said.orcpt.startswith("rfc822;") or (said.orcpt.startswith("utf-8;") and said.orcpt.isascii()):
            assert read.original.text == decode_utf8_xtext(said.orcpt.partition(";")[2])
        assert read.last_attempt_at == said.attempted
        assert read.will_retry_until == (NOW + 50 if action is Action.DELAYED else 0)
        assert bool(read.remote_mta.text) == bool(said.host.split())
    whole = action is Action.FAILED and ret != "HDRS" and content.size <= RETURN_LIMIT_OCTETS
    unreadable = not header and not body
    assert parsed.returned == ("" if unreadable else "message" if whole else "header")
    assert parsed.original_header == header


@given(st.one_of(st.binary(max_size=3000), st.text(max_size=3000).map(lambda text: text.encode("utf-8", "replace"))))
def test_octets_of_any_kind_are_read_or_refused(octets: bytes) -> None:
    opening = b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    for each in (octets, opening + octets, opening + b"Final-Recipient: rfc822; a@b\r\nWill-Retry-Until: " + octets):
        with suppress(NoReport):
            assert isinstance(parse_report(each), Report)


@given(st.lists(st.sampled_from([b"Action: failed", b"Final-Recipient: utf-8; \\x{10FFFF}@b", b"", b" ", b"--b", b"--b--", b"Status: 5.1.1",
    b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: message/rfc822", b"Content-Transfer-Encoding: base64", b"=", b"QQ=="]), max_size=40))  # fmt: skip
def test_reports_in_any_disorder_are_read_or_refused(lines: list[bytes]) -> None:
    octets = b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    with suppress(NoReport):
        assert isinstance(parse_report(octets + b"\r\n".join(lines)), Report)
