"""What submission may mend in a header (RFC 6409 section 8): missing Date, Message-ID and From are added, nothing is changed."""

from __future__ import annotations

import re

from mta.mail.address import Address
from mta.mail.trace import format_date

_DATE = re.compile(rb"^date[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:", re.IGNORECASE | re.MULTILINE)
_FROM = re.compile(rb"^from[ \t]*:", re.IGNORECASE | re.MULTILINE)


def missing_fields(header: bytes, *, sender: Address, identifier: str, hostname: str, at: float) -> bytes:
    """The fields to add, b"" when all are there."""
    added = []
    if not _FROM.search(header) and sender:
        added.append(f"From: <{sender}>\r\n".encode())
    if not _DATE.search(header):
        added.append(f"Date: {format_date(int(at))}\r\n".encode())
    if not _MESSAGE_ID.search(header):
        added.append(f"Message-ID: <{identifier}@{hostname}>\r\n".encode())
    return b"".join(added)
