"""Values to rows and back. The column lists here, the schema and the values of mta.mail.envelope say the same.

Pure; the only place that knows the order of columns. A row is made by one attrgetter, at C speed: it is on the path of each
message.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from mta.mail.address import NULL_PATH, Address
from mta.mail.envelope import BodyFile, Content, Kind, Message, Notify, Recipient, State

Row = tuple[Any, ...]  # what SQLite takes and gives: int, float, str, bytes or None in each place

_MESSAGE_FIELDS = (
    "id", "kind", "reverse_path.local", "reverse_path.domain", "received_at", "expires_at", "size", "envid", "ret",
    "not_before", "needs_utf8", "has_8bit", "max_line", "requiretls", "auth_param", "client_ip", "client_port", "helo",
    "authcid", "authzid", "mechanism", "tls", "protocol", "listener", "message_id", "sha256", "cause_message",
    "cause_recipient", "config_generation",
)  # fmt: skip
_RECIPIENT_FIELDS = (
    "id", "message", "parent", "address.local", "address.domain", "original", "orcpt", "notify",
    "reverse_path.local", "reverse_path.domain", "state", "held", "uncertain", "priority", "destination",
    "route_generation", "next_attempt", "attempts", "delay_reported_at", "last_code", "last_status", "last_text",
    "owner", "lease_until", "token",
)  # fmt: skip


def _columns(fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.replace("reverse_path.", "reverse_").replace("address.", "").replace(".", "_") for name in fields)


MESSAGE_COLUMNS = _columns(_MESSAGE_FIELDS)
CONTENT_COLUMNS = ("body_file", "body_octets", "header", "body")
RECIPIENT_COLUMNS = _columns(_RECIPIENT_FIELDS)
JOURNAL_COLUMNS = ("message", "seq", "at", "kind", "recipient", "data")

_message_values = attrgetter(*_MESSAGE_FIELDS)
_recipient_head = attrgetter(*_RECIPIENT_FIELDS[:8])
_recipient_tail = attrgetter(*_RECIPIENT_FIELDS[10:])
_NO_PATH = (None, None)
_MESSAGE_WIDTH = len(MESSAGE_COLUMNS)
_KINDS = {kind.value: kind for kind in Kind}
_STATES = {state.value: state for state in State}
_NOTIFY = {value: Notify(value) for value in range(16)}


def stored_message_row(message: Message, content: Content) -> Row:
    """The whole row of the spool's message table."""
    body = content.body
    if isinstance(body, BodyFile):
        return (*_message_values(message), body.path, body.size, content.header, None)
    return (*_message_values(message), None, len(body), content.header, body)


def recipient_row(recipient: Recipient) -> Row:
    path = recipient.reverse_path
    override = _NO_PATH if path is None else (path.local, path.domain)
    return (*_recipient_head(recipient), *override, *_recipient_tail(recipient))


def read_message(row: Row) -> Message:
    """From a row that begins with MESSAGE_COLUMNS."""
    reverse = Address(row[2], row[3]) if row[3] or row[2] else NULL_PATH
    return Message(
        row[0], _KINDS[row[1]], reverse, row[4], row[5], row[6], row[7], row[8], row[9], bool(row[10]), bool(row[11]),
        row[12], bool(row[13]), *row[14:_MESSAGE_WIDTH],
    )  # fmt: skip


def read_recipient(row: Row) -> Recipient:
    """From a row that is RECIPIENT_COLUMNS."""
    reverse = None if row[9] is None else Address(row[8], row[9])
    return Recipient(
        row[0], row[1], row[2], Address(row[3], row[4]), row[5], row[6], _NOTIFY[row[7]], reverse, _STATES[row[10]],
        bool(row[11]), bool(row[12]), *row[13:],
    )  # fmt: skip


def read_content(row: Row) -> Content:
    """From a row that is CONTENT_COLUMNS."""
    path, octets, header, body = row
    return Content(header, body if path is None else BodyFile(path, octets))
