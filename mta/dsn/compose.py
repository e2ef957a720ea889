"""A delivery status notification made from values: multipart/report (RFC 6522) with delivery-status (RFC 3464). Pure.

A report tells a human what happened, a program which recipients and why, and gives the message back: whole when the sender didn't ask
for less (RET=HDRS) and it has at most RETURN_LIMIT_OCTETS, else its header. It is sent from the null reverse-path, so that nothing
ever reports on it (law 5), and says Auto-Submitted (RFC 3834), so that no program answers it.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from mta.dsn.fields import field, original_recipient, typed_address, wire_text
from mta.mail.address import NULL_PATH, Address
from mta.mail.envelope import Content, Kind, Message
from mta.mail.identifiers import format_id
from mta.mail.trace import format_date

RETURN_LIMIT_OCTETS = 50_000  # a larger message comes back as its header alone, and of a larger header the beginning

_STATUS = re.compile(r"5\.\d{1,3}\.\d{1,3}")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """What a report says of one recipient."""

    address: Address
    orcpt: str  # as given in RCPT, xtext decoded; "" when none was (RFC 3461 section 5.2.1)
    status: str  # of RFC 3463, class 5
    diagnostic: str  # the reply as it was heard ("550 5.1.1 text"), or our words for what went wrong; from the wire
    host: str = ""  # the next hop that gave the reply; "" when we ourselves decided
    expired: bool = False  # it was tried for the whole lifetime; `diagnostic` is the last thing heard
    uncertain: bool = False  # some hop may have taken it although we heard no reply


@dataclass(frozen=True, slots=True)
class ReportFrame:
    """What a report needs beside the message it reports on."""

    id: int
    to: Address  # the reverse-path of what failed
    hostname: str
    postmaster: Address
    boundary: str  # not to be guessed by who wrote the message
    now: float
    lifetime: float
    cause_recipient: int = 0
    generation: int = 0  # of the settings


def compose_failure_report(
    message: Message, content: Content, failures: Sequence[FailedRecipient], frame: ReportFrame
) -> tuple[Message, Content]:
    """The report's record and content. Raises ValueError when there is nothing to report or nobody to report to (law 5)."""
    if not failures or not frame.to:
        raise ValueError("a report needs a failure, and somebody to read it")
    parts = [_human(message, failures, frame), _machine(message, failures, frame), _returned(message, content)]
    body, boundary = _assembled(parts, frame.boundary)
    header = _header(message, frame, boundary, eight_bit=not body.isascii())
    made = Content(header, body)
    return _record(message, made, body, frame), made


def _record(message: Message, made: Content, body: bytes, frame: ReportFrame) -> Message:
    return Message(
        id=frame.id,
        kind=Kind.REPORT,
        reverse_path=NULL_PATH,  # RFC 3461 section 6.1, RFC 5321 section 4.5.5
        received_at=frame.now,
        expires_at=frame.now + frame.lifetime,
        size=made.size,
        needs_utf8=not frame.to.is_ascii,
        has_8bit=not body.isascii(),
        max_line=max(map(len, (made.header + body).split(b"\r\n"))),
        message_id=_own_message_id(frame),
        sha256=hashlib.sha256(b"%b\r\n%b" % (made.header, body)).digest(),
        cause_message=message.id,
        cause_recipient=frame.cause_recipient,
        config_generation=frame.generation,
    )


def _own_message_id(frame: ReportFrame) -> str:
    return f"<{format_id(frame.id)}@{frame.hostname}>"


def _header(message: Message, frame: ReportFrame, boundary: str, *, eight_bit: bool) -> bytes:
    lines = [
        field("Date", format_date(int(frame.now))),
        field("From", f'"Mail Delivery System" <MAILER-DAEMON@{frame.hostname}>'),
        field("To", f"<{frame.to}>"),
        field("Subject", "Your message could not be delivered"),
        field("Message-ID", _own_message_id(frame)),
    ]
    if _MESSAGE_ID.fullmatch(message.message_id) and len(message.message_id) < 900:
        lines.append(field("In-Reply-To", message.message_id))
        lines.append(field("References", message.message_id))
    lines += [
        field("Auto-Submitted", "auto-replied"),  # RFC 3834 section 5
        field("MIME-Version", "1.0"),
        field("Content-Type", f'multipart/report; report-type=delivery-status; boundary="{boundary}"'),
    ]
    if eight_bit:
        lines.append(field("Content-Transfer-Encoding", "8bit"))
    return b"".join(lines)


def _assembled(parts: Sequence[bytes], boundary: str) -> tuple[bytes, str]:
    """The body, and the boundary that stands in none of the parts."""
    while any(boundary.encode("ascii") in part for part in parts):
        boundary += "="
    mark = b"--" + boundary.encode("ascii")
    pieces = [mark + b"\r\n" + part for part in parts]
    return b"\r\n".join([*pieces, mark + b"--\r\n"]), boundary


# --- the three parts --------------------------------------------------------------------------------------------------


def _part(kind: str, body: bytes, *, description: str = "") -> bytes:
    lines = [field("Content-Type", kind)]
    if description:
        lines.append(field("Content-Description", description))
    if not body.isascii():
        lines.append(field("Content-Transfer-Encoding", "8bit"))
    return b"%b\r\n%b" % (b"".join(lines), body)


def _human(message: Message, failures: Sequence[FailedRecipient], frame: ReportFrame) -> bytes:
    paragraphs = [
        f"This is the mail system at {frame.hostname}.",
        _wrapped(
            f"Your message of {format_date(int(message.received_at))} could not be delivered to the "
            + ("recipients" if len(failures) > 1 else "recipient")
            + " below, and will not be tried again. The message, or its header, follows at the end."
        ),
        *(_told(each) for each in failures),
        _wrapped(f"For help, write to <{frame.postmaster}> and name the queue ID {format_id(message.id)}."),
    ]
    text = "\n\n".join(paragraphs) + "\n"
    charset = "us-ascii" if text.isascii() else "utf-8"
    body = text.replace("\n", "\r\n").encode("utf-8")
    return _part(f"text/plain; charset={charset}", body, description="What happened")


def _told(failed: FailedRecipient) -> str:
    reply = wire_text(failed.diagnostic)
    if failed.expired:
        said = f"It was tried until its time was over. The last attempt ended with: {reply}"
    elif failed.host:
        said = f"{wire_text(failed.host, 255)} refused it: {reply}"
    else:
        said = reply
    if failed.uncertain:
        said += " It may have arrived nevertheless: an earlier connection broke before the answer came."
    return f"<{failed.address}>\n{_wrapped(said, '    ')}"


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, 76, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _machine(message: Message, failures: Sequence[FailedRecipient], frame: ReportFrame) -> bytes:
    """RFC 3464 section 2: fields of the message, then a group for each recipient."""
    lines = []
    if message.envid:
        lines.append(field("Original-Envelope-Id", wire_text(message.envid)))  # RFC 3464 section 2.2.1
    lines += [
        field("Reporting-MTA", f"dns; {frame.hostname}"),
        field("X-Txmta-Queue-ID", format_id(message.id)),
        field("Arrival-Date", format_date(int(message.received_at))),
    ]
    groups = [b"".join(lines)]
    groups += [_group(each, frame) for each in failures]
    return _part("message/delivery-status", b"\r\n".join(groups), description="Delivery report")


def _group(failed: FailedRecipient, frame: ReportFrame) -> bytes:
    lines = []
    original = original_recipient(failed.orcpt)
    if original:  # RFC 3461 section 6.3: only when the sender gave an ORCPT
        lines.append(field("Original-Recipient", original))
    lines += [
        field("Final-Recipient", typed_address(failed.address)),
        field("Action", "failed"),
        field("Status", failed.status if _STATUS.fullmatch(failed.status) else "5.0.0"),
    ]
    if failed.host:
        lines.append(field("Remote-MTA", f"dns; {wire_text(failed.host, 255)}"))
    kind = "smtp" if failed.host else "x-txmta"  # RFC 3464 section 2.3.6
    lines.append(field("Diagnostic-Code", f"{kind}; {wire_text(failed.diagnostic)}"))
    lines.append(field("Last-Attempt-Date", format_date(int(frame.now))))
    return b"".join(lines)


def _returned(message: Message, content: Content) -> bytes:
    """The message, or its header. RFC 3461 section 4.3; media types of RFC 6533 section 5 when the header is UTF-8."""
    utf8 = message.needs_utf8 and not content.header.isascii()
    if message.ret != "HDRS" and isinstance(content.body, bytes) and content.size <= RETURN_LIMIT_OCTETS:
        whole = b"%b\r\n%b" % (content.header, content.body)
        return _part("message/global" if utf8 else "message/rfc822", whole, description="Your message")
    kind = "message/global-headers" if utf8 else "text/rfc822-headers"
    return _part(kind, _cut_header(content.header), description="Header of your message")


def _cut_header(header: bytes) -> bytes:
    """At most RETURN_LIMIT_OCTETS of whole lines."""
    if len(header) <= RETURN_LIMIT_OCTETS:
        return header
    end = header.rfind(b"\r\n", 0, RETURN_LIMIT_OCTETS)
    return header[: end + 2] if end >= 0 else header[:RETURN_LIMIT_OCTETS] + b"\r\n"
