"""A delivery status notification made from values: multipart/report (RFC 6522) with delivery-status (RFC 3464). Pure.

A report tells a human what happened (human.py), a program which recipients and why (machine.py), and gives the message back: whole when
it failed, the sender didn't ask for less (RET=HDRS) and it has at most RETURN_LIMIT_OCTETS; else its header. It is sent from the null
reverse-path, so that nothing ever reports on it (law 5), and says Auto-Submitted (RFC 3834), so that no program answers it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from mta.dsn.fields import field
from mta.dsn.human import SUBJECTS, human_text
from mta.dsn.machine import machine_part
from mta.dsn.report import Action, ReportedRecipient, ReportFrame
from mta.mail.address import NULL_PATH
from mta.mail.envelope import Content, Kind, Message
from mta.mail.identifiers import format_id
from mta.mail.trace import format_date

RETURN_LIMIT_OCTETS = 50_000  # a larger message comes back as its header alone, and of a larger header the beginning

_MESSAGE_ID = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")


def compose_report(
    message: Message, content: Content, told: Sequence[ReportedRecipient], frame: ReportFrame
) -> tuple[Message, Content]:
    """The report's record and content. Raises ValueError when there is nothing to report or nobody to report to (law 5)."""
    if not told or not frame.to:
        raise ValueError("a report needs something to tell, and somebody to read it")
    kind, returned, what = _returned(message, content, frame.action)
    human = human_text(message, content, told, frame, what)
    machine = machine_part(message, told, frame)
    parts = [
        _part(f"text/plain; charset={'us-ascii' if human.isascii() else 'utf-8'}", _crlf(human), "What happened"),
        _part(*machine, "Delivery report"),
    ]
    if what:
        parts.append(_part(kind, returned, "Your message" if what == "message" else "Header of your message"))
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
        field("Subject", SUBJECTS[frame.action]),
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


def _part(kind: str, body: bytes, description: str) -> bytes:
    lines = [field("Content-Type", kind), field("Content-Description", description)]
    if not body.isascii():
        lines.append(field("Content-Transfer-Encoding", "8bit"))
    return b"%b\r\n%b" % (b"".join(lines), body)


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8")


def _returned(message: Message, content: Content, action: Action) -> tuple[str, bytes, str]:
    """Media type, octets, and in a word what they are. The types of RFC 6533 section 5 when the header is UTF-8.

    RFC 3461 section 4.3: RET speaks of failures; other reports return the header. A large body is a file, and is not read for it.
    """
    utf8 = message.needs_utf8 and not content.header.isascii()
    body = content.body
    if not content.header and not body:
        return "", b"", ""  # it could not be read from the spool; RFC 6522 section 3: the third part may be left out
    whole = action is Action.FAILED and message.ret != "HDRS" and content.size <= RETURN_LIMIT_OCTETS
    if whole and isinstance(body, bytes):
        return "message/global" if utf8 else "message/rfc822", b"%b\r\n%b" % (content.header, body), "message"
    return "message/global-headers" if utf8 else "text/rfc822-headers", _cut_header(content.header), "header"


def _cut_header(header: bytes) -> bytes:
    """At most RETURN_LIMIT_OCTETS of whole lines."""
    if len(header) <= RETURN_LIMIT_OCTETS:
        return header
    end = header.rfind(b"\r\n", 0, RETURN_LIMIT_OCTETS)
    return header[: end + 2] if end >= 0 else header[:RETURN_LIMIT_OCTETS] + b"\r\n"
