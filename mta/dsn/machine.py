"""The part of a report that a program reads: message/delivery-status (RFC 3464 section 2), or its UTF-8 form (RFC 6533). Pure.

message/global-delivery-status, with addresses in UTF-8, goes only to who has shown by a message that needed SMTPUTF8 that it can read it.
To others addresses beyond ASCII go in the 7-bit form of RFC 6533 section 3, which every reader and hop can bear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mta.dsn.fields import exact_text, field, original_recipient, typed_address, wire_text
from mta.dsn.report import Action, ReportedRecipient, ReportFrame
from mta.mail.address import Address, AddressError, parse_address
from mta.mail.envelope import Message
from mta.mail.identifiers import format_id
from mta.mail.trace import format_date, literal, trustworthy_hello

_CLASSES = {Action.FAILED: "5", Action.DELAYED: "4"}  # RFC 3463 section 2: of the rest it is 2
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


def machine_part(message: Message, told: Sequence[ReportedRecipient], frame: ReportFrame) -> tuple[str, bytes]:
    """Media type and body."""
    native = message.needs_utf8
    groups = [list(_of_message(message, frame)), *(list(_of_recipient(message, each, frame, native)) for each in told)]
    body = b"\r\n".join(b"".join(field(*each) for each in group) for group in groups)
    return "message/delivery-status" if body.isascii() else "message/global-delivery-status", body


def _of_message(message: Message, frame: ReportFrame) -> Iterator[tuple[str, str]]:
    if message.envid:
        yield "Original-Envelope-Id", exact_text(message.envid)  # RFC 3464 section 2.2.1: as it was given
    yield "Reporting-MTA", f"dns; {frame.hostname}"
    source = _source(message)
    if source:
        yield "Received-From-MTA", f"dns; {source}"  # RFC 3464 section 2.2.4
    yield "X-Txmta-Queue-ID", format_id(message.id)
    yield "Arrival-Date", format_date(int(message.received_at))


def _source(message: Message) -> str:
    """Who gave it to us: its word for itself where that is a name, and its address."""
    if not message.client_ip:
        return ""
    address = literal(message.client_ip)
    name = trustworthy_hello(message.helo)
    return f"{name} ({address})" if name and name != address else address


def _of_recipient(
    message: Message, told: ReportedRecipient, frame: ReportFrame, native: bool
) -> Iterator[tuple[str, str]]:
    action = frame.action
    original = original_recipient(told.orcpt, native=native)
    if original:  # RFC 3461 section 6.3: only when the sender gave an ORCPT
        yield "Original-Recipient", original
    yield "Final-Recipient", typed_address(_final(told), native=native)
    yield "Action", action.value
    yield "Status", _status(told.status, _CLASSES.get(action, "2"))
    if told.host:
        yield "Remote-MTA", f"dns; {wire_text(told.host, 255)}"
    if told.diagnostic and (told.host or action in _CLASSES):
        yield "Diagnostic-Code", f"{'smtp' if told.host else 'x-txmta'}; {wire_text(told.diagnostic)}"  # section 2.3.6
    if told.attempted:
        yield "Last-Attempt-Date", format_date(int(told.attempted))
    if action is Action.DELAYED and message.expires_at > frame.now:
        yield "Will-Retry-Until", format_date(int(message.expires_at))  # RFC 3464 section 2.3.9: of delays alone


def _final(told: ReportedRecipient) -> Address:
    """RFC 3464 section 2.3.2: the address as it was when we accepted the message."""
    try:
        original = parse_address(told.original, utf8=True)
    except AddressError:
        return told.address
    return original if original.domain else told.address


def _status(status: str, expected: str) -> str:
    return status if _STATUS.fullmatch(status) and status[0] == expected else f"{expected}.0.0"
