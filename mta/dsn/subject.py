"""The Subject of the message that a report speaks of, so that its sender knows which one is meant. Pure.

The field is somebody else's text: bounded, decoded where it can be (RFC 2047), and shown without anything that could deceive.
"""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.header import decode_header

from mta.dsn.charset import decode
from mta.dsn.fields import shown_text

SHOWN_CHARACTERS = 100
_READ_OCTETS = 2_000  # of the field; what is longer is no subject for a person
_SUBJECT = re.compile(rb"(?:^|\r\n)subject:[ \t]*([^\r]*(?:\r\n[ \t][^\r]*)*)", re.IGNORECASE)


def original_subject(header: bytes) -> str:
    """At most SHOWN_CHARACTERS of it on one line; "" where there is none. Never raises."""
    hit = _SUBJECT.search(header)
    if hit is None:
        return ""
    raw = hit[1][:_READ_OCTETS].decode("utf-8", "replace").replace("\r\n", "")
    text = " ".join(_decoded(raw).split())
    if len(text) > SHOWN_CHARACTERS:
        text = text[: SHOWN_CHARACTERS - 3] + "..."
    return shown_text(text)


def _decoded(raw: str) -> str:
    if "=?" not in raw:
        return raw
    try:
        pieces = [
            piece if isinstance(piece, str) else decode(piece, charset or "us-ascii")
            for piece, charset in decode_header(raw)
        ]
    except (HeaderParseError, ValueError):  # broken base64
        return raw
    return "".join(pieces)
