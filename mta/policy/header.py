"""Bounds of the header section, and mail loops (RFC 5321 section 6.3): what can be seen in it without parsing addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.mail import reply
from mta.mail.reply import Reply
from mta.mail.trace import count_received

_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(?:\r\n[ \t]+)?(<[^\r\n]{1,990}>)", re.IGNORECASE | re.MULTILINE)
_FIELD_START = re.compile(rb"\r\n(?=[^ \t])")
_FIELD_NAME = re.compile(rb"[!-9;-~]+[ \t]*:")


@dataclass(frozen=True, slots=True)
class HeaderBounds:
    """Limits in octets and counts (SAFETY: header bombs)."""

    size: int = 1 << 20
    fields: int = 2000
    field_size: int = 100 << 10
    hops: int = 50


def decide_header(header: bytes, bounds: HeaderBounds) -> Reply | None:
    """None when the header section may be taken. `header` ends with its last CRLF."""
    if len(header) > bounds.size:
        return reply.HEADER_TOO_BIG
    # Between so many fields is one boundary less; the last CRLF is none.
    if header.count(b"\r\n") > bounds.fields and len(_FIELD_START.findall(header)) >= bounds.fields:
        return reply.HEADER_TOO_BIG
    if len(header) > bounds.field_size and max(map(len, _FIELD_START.split(header))) > bounds.field_size:
        return reply.HEADER_TOO_BIG
    if count_received(header) > bounds.hops:
        return reply.MAIL_LOOP
    return None


def message_id_of(header: bytes) -> str:
    """The Message-ID with its angle brackets, "" when there is none."""
    folded = header.lower()  # to find a word in it costs a tenth of searching by a pattern
    begin = 0 if folded.startswith(b"message-id:") else folded.find(b"\nmessage-id:") + 1
    hit = _MESSAGE_ID.search(header, begin) if begin or folded.startswith(b"message-id:") else None
    return hit[1].decode("utf-8", "backslashreplace") if hit is not None else ""


def begins_with_field(content: bytes) -> bool:
    """Does the content begin with a header section at all? Else it is all body."""
    return _FIELD_NAME.match(content) is not None
