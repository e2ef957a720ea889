"""The journal in rows. Pure.

Acceptance is the path of each message, and says nothing that the message's row does not say. So it is one row for the message
and all its recipients: kind 'accepted', data a JSON array of [recipient, destination] as they were then. Children of an
expansion are one row of kind 'queued' in the same form. `unfold` makes entries of them again, one for each recipient.
Every other row is one entry, its data a JSON object (NULL for none).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined] # typeshed lacks it

from mta.mail.envelope import Message, Recipient
from mta.spool.contract import Event, JournalEntry
from mta.spool.rows import Row

# ASCII only: what can't be encoded (a lone surrogate) stays an escape, and no octet of a peer can break the row.
# JSONEncoder.encode makes this anew for each call, which is half of what it costs.
_pieces = c_make_encoder(None, str, encode_basestring_ascii, None, ":", ",", False, False, True)
_EVENTS = {event.value: event for event in Event}


def accepted_entry(message: Message) -> JournalEntry:
    """What the ACCEPTED entry says: kind, peer, auth, tls, size."""
    data: dict[str, object] = {"kind": message.kind.value, "size": message.size}
    for name in ("client_ip", "helo", "protocol", "listener", "authcid", "authzid", "mechanism", "tls"):
        value = getattr(message, name)
        if value:
            data[name] = value
    if message.cause_message:
        data["cause_message"] = message.cause_message
    return JournalEntry(message.id, message.received_at, Event.ACCEPTED, 0, data)


def queued_entry(recipient: Recipient, at: float, destination: str = "") -> JournalEntry:
    """What a QUEUED entry says; `destination` is the one of that time."""
    data: dict[str, object] = {"address": str(recipient.address), "destination": destination or recipient.destination}
    if recipient.parent:
        data["parent"] = recipient.parent
    return JournalEntry(recipient.message, at, Event.QUEUED, recipient.id, data)


def folded_row(kind: Event, message: int, seq: int, at: float, recipients: Sequence[Recipient]) -> Row:
    """One row for the birth of many recipients."""
    pairs = ",".join([f"[{one.id},{encode_basestring_ascii(one.destination)}]" for one in recipients])
    return (message, seq, at, kind, 0, f"[{pairs}]")


def entry_row(entry: JournalEntry, seq: int) -> Row:
    return (entry.message, seq, entry.at, entry.kind, entry.recipient, encode_data(entry.data))


def encode_data(data: Mapping[str, object]) -> str | None:
    return "".join(_pieces(dict(data), 0)) if data else None


def unfold(rows: Iterable[Row], message: Message, recipients: Iterable[Recipient]) -> list[JournalEntry]:
    """Entries from the rows of one message, in their order."""
    known = {one.id: one for one in recipients}
    entries: list[JournalEntry] = []
    for number, _seq, at, kind, recipient, text in rows:
        data = {} if text is None else json.loads(text)
        if not isinstance(data, list):
            entries.append(JournalEntry(number, at, _EVENTS[kind], recipient, data))
            continue
        if kind == Event.ACCEPTED:
            entries.append(accepted_entry(message))
        entries.extend(queued_entry(known[one], at, destination) for one, destination in data if one in known)
    return entries
