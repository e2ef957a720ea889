"""What is asked of a spool database, as functions of a connection. Nothing here writes.

Used by the reader thread of a running shard, by the writer where it must see what it is about to change, and by who reads the
spool of a stopped daemon. Values are bound, never pasted into SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from mta.mail.envelope import Content, Message, Recipient
from mta.spool.contract import TOGETHER_MAX, Claimed, DestinationDue, JournalEntry, Page, Selection
from mta.spool.journal import unfold
from mta.spool.rows import (
    CONTENT_COLUMNS,
    JOURNAL_COLUMNS,
    MESSAGE_COLUMNS,
    RECIPIENT_COLUMNS,
    Row,
    read_content,
    read_message,
    read_recipient,
)

MESSAGE_LIST = ", ".join(MESSAGE_COLUMNS)
RECIPIENT_LIST = ", ".join(RECIPIENT_COLUMNS)
_MESSAGE = f"SELECT {MESSAGE_LIST} FROM message WHERE id = ?"
_RECIPIENT = f"SELECT {RECIPIENT_LIST} FROM recipient WHERE id = ?"
_RECIPIENTS = f"SELECT {RECIPIENT_LIST} FROM recipient WHERE message = ? ORDER BY id"
_CONTENT = f"SELECT {', '.join(CONTENT_COLUMNS)}, sha256 FROM message WHERE id = ?"
_EVENTS = f"SELECT {', '.join(JOURNAL_COLUMNS)} FROM journal WHERE message = ? ORDER BY seq"

# Each step finds the head of the next (destination, priority) by one or two seeks: the cost is in their number, never in the
# length of a queue. A scan by time loaded 20,000 rows of one dead destination to find the others. (A comparison of the row value
# `(destination, priority) > (?, ?)` would seek by the destination alone, and walk through its queue.)
_DESTINATIONS = """
WITH RECURSIVE head(id) AS (
    SELECT (SELECT id FROM recipient INDEXED BY recipient_waiting WHERE state = 0 AND held = 0 AND owner = 0
            ORDER BY destination, priority, next_attempt LIMIT 1)
    UNION ALL
    SELECT coalesce(
        (SELECT same.id FROM recipient AS same INDEXED BY recipient_waiting
         WHERE same.state = 0 AND same.held = 0 AND same.owner = 0
           AND same.destination = last.destination AND same.priority > last.priority
         ORDER BY same.priority, same.next_attempt LIMIT 1),
        (SELECT other.id FROM recipient AS other INDEXED BY recipient_waiting
         WHERE other.state = 0 AND other.held = 0 AND other.owner = 0 AND other.destination > last.destination
         ORDER BY other.destination, other.priority, other.next_attempt LIMIT 1))
    FROM head JOIN recipient AS last ON last.id = head.id)
SELECT recipient.destination, min(next_attempt) FROM head JOIN recipient USING (id)
WHERE NOT EXISTS (SELECT 1 FROM destination WHERE destination.key = recipient.destination AND suspended_until > ?)
GROUP BY recipient.destination ORDER BY 2, 1 LIMIT ?"""

_NEXT_PRIORITY = """
SELECT priority FROM recipient INDEXED BY recipient_waiting
WHERE state = 0 AND held = 0 AND owner = 0 AND destination = ? AND priority < ? ORDER BY priority DESC LIMIT 1"""
_HEADS = """
SELECT id, message FROM recipient INDEXED BY recipient_waiting
WHERE state = 0 AND held = 0 AND owner = 0 AND destination = ? AND priority = ? AND next_attempt <= ?
ORDER BY next_attempt, message LIMIT ?"""
_COMPANIONS = """
SELECT id FROM recipient INDEXED BY recipient_message
WHERE message = ? AND state = 0 AND held = 0 AND owner = 0 AND destination = ? AND next_attempt <= ? AND id <> ?
ORDER BY priority DESC, id LIMIT ?"""
_LOWER = {upper: upper + 32 for upper in range(65, 91)}
_ABOVE_ALL_PRIORITIES = 1 << 30


def message(connection: apsw.Connection, identifier: int) -> tuple[Message, tuple[Recipient, ...]] | None:
    row = connection.execute(_MESSAGE, (identifier,)).fetchone()
    if row is None:
        return None
    recipients = connection.execute(_RECIPIENTS, (identifier,))
    return read_message(row), tuple([read_recipient(one) for one in recipients])


def events(connection: apsw.Connection, identifier: int) -> list[JournalEntry]:
    found = message(connection, identifier)
    return [] if found is None else unfold(connection.execute(_EVENTS, (identifier,)).fetchall(), *found)


def content(connection: apsw.Connection, identifier: int) -> tuple[Content, bytes]:
    """The content, not yet checked, and the checksum it must have. Raises KeyError."""
    row = connection.execute(_CONTENT, (identifier,)).fetchone()
    if row is None:
        raise KeyError(identifier)
    return read_content(row[:-1]), row[-1]


def destinations_due(connection: apsw.Connection, now: float, limit: int) -> list[DestinationDue]:
    return [DestinationDue(name, at) for name, at in connection.execute(_DESTINATIONS, (now, limit))]


def due(connection: apsw.Connection, destination: str, limit: int, now: float) -> list[int]:
    """Recipients to claim: highest priority and longest due first, those of one message together, the last message whole."""
    chosen: dict[int, None] = {}
    priority = _ABOVE_ALL_PRIORITIES
    while len(chosen) < limit:
        found = connection.execute(_NEXT_PRIORITY, (destination, priority)).get
        if found is None:
            break
        priority = found
        messages: set[int] = set()
        heads: list[Row] = connection.execute(_HEADS, (destination, priority, now, limit)).fetchall()
        for head, number in heads:
            if len(chosen) >= limit:
                break
            chosen[head] = None
            if number not in messages:
                messages.add(number)
                values = (number, destination, now, head, TOGETHER_MAX - 1)
                companions: list[Row] = connection.execute(_COMPANIONS, values).fetchall()
                chosen.update([(one, None) for (one,) in companions])
    return list(chosen)


def rows_by_id(connection: apsw.Connection, recipients: Iterable[int]) -> tuple[list[Row], dict[int, Row]]:
    """Recipients' rows in the order asked for, those that exist; and the rows of their messages."""
    rows: list[Row] = []
    messages: dict[int, Row] = {}
    for identifier in recipients:
        found: Row | None = connection.execute(_RECIPIENT, (identifier,)).fetchone()
        if found is None:
            continue
        rows.append(found)
        if found[1] not in messages:
            of_message: Row | None = connection.execute(_MESSAGE, (found[1],)).fetchone()
            if of_message is not None:
                messages[found[1]] = of_message
    return rows, messages


def decode(rows: Iterable[Row], messages: dict[int, Row]) -> list[Claimed]:
    known = {number: read_message(row) for number, row in messages.items()}
    return [Claimed(known[row[1]], read_recipient(row)) for row in rows if row[1] in known]


def select(connection: apsw.Connection, selection: Selection, limit: int, cursor: int) -> Page:
    """A page ends between messages, never within one, so that a cursor is a message ID; it may exceed `limit` by as many
    rows as one message has."""
    clause, values = where(selection)
    wanted = ", ".join([f"r.{name}" for name in RECIPIENT_COLUMNS] + [f"m.{name}" for name in MESSAGE_COLUMNS])
    rows: list[Claimed] = []
    last: Message | None = None
    width = len(RECIPIENT_COLUMNS)
    # CROSS JOIN fixes the order of the loops: messages by ID, each with its recipients; the page ends the walk.
    found = connection.execute(
        f"SELECT {wanted} FROM message AS m CROSS JOIN recipient AS r ON r.message = m.id "
        f"WHERE m.id >= ?{clause} ORDER BY m.id, r.id",
        (cursor, *values),
    )
    for row in found:
        if last is None or row[width] != last.id:
            if len(rows) >= limit:
                found.close()
                return Page(tuple(rows), row[width])
            last = read_message(row[width:])
        rows.append(Claimed(last, read_recipient(row[:width])))
    return Page(tuple(rows), 0)


def where(selection: Selection) -> tuple[str, list[object]]:
    """A selection as conditions on m (message) and r (recipient), each beginning with AND, and the values they bind."""
    clause = ""
    values: list[object] = []

    def narrow(condition: str, *bound: object) -> None:
        nonlocal clause
        clause += f" AND {condition}"
        values.extend(bound)

    for name, chosen in (
        ("m.id", selection.messages), ("r.id", selection.recipients), ("r.state", selection.states),
    ):  # fmt: skip
        if chosen:
            narrow(f"{name} IN ({_places(chosen)})", *chosen)
    if selection.held is not None:
        narrow("r.held = ?", selection.held)
    if selection.sender:
        _narrow_address(narrow, "coalesce(r.reverse_local, m.reverse_local)",
                        "coalesce(r.reverse_domain, m.reverse_domain)", selection.sender)  # fmt: skip
    if selection.recipient:
        _narrow_address(narrow, "r.local", "r.domain", selection.recipient)
    if selection.destination:
        narrow("r.destination = ?", selection.destination)
    if selection.older_than:
        narrow("m.received_at < ?", selection.older_than)
    if selection.younger_than:
        narrow("m.received_at > ?", selection.younger_than)
    if selection.due_after:
        narrow("r.next_attempt > ? AND m.not_before <= ?", selection.due_after, selection.due_after)
    return clause, values


def lower_ascii(text: str) -> str:
    """As SQLite's lower(): what is not ASCII stays as it is."""
    return text.translate(_LOWER)


def split_address(text: str) -> tuple[str | None, str]:
    """(local part or None for any, domain) of a selection's address, in lower case: compare with `lower_ascii`."""
    if text == "<>":
        return "", ""
    local, _, domain = text.rpartition("@")
    if text.startswith("@") and not local:
        return None, lower_ascii(domain)
    if "@" not in text:
        return lower_ascii(text), ""
    if len(local) > 1 and local[0] == local[-1] == '"':
        local = local[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return lower_ascii(local), lower_ascii(domain)


def _narrow_address(narrow, local_column: str, domain_column: str, text: str) -> None:  # type: ignore[no-untyped-def]
    local, domain = split_address(text)
    narrow(f"{domain_column} = ?", domain)
    if local is not None:
        narrow(f"lower({local_column}) = ?", local)


def _places(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def counts(connection: apsw.Connection) -> tuple[int, int, int, float]:
    """(waiting unclaimed and unheld, held, held and yet claimed, when the oldest message with something queued came)."""
    waiting = connection.execute(
        "SELECT count(*) FROM recipient INDEXED BY recipient_waiting WHERE state = 0 AND held = 0 AND owner = 0"
    ).get
    held = connection.execute(
        "SELECT count(*), count(nullif(owner, 0)) FROM recipient INDEXED BY recipient_held WHERE state = 0 AND held = 1"
    ).get
    # Finished messages soon leave for the history, so the first message with a queued recipient is among the first.
    oldest = connection.execute(
        "SELECT received_at FROM message AS m WHERE EXISTS "
        "(SELECT 1 FROM recipient AS r WHERE r.message = m.id AND r.state = 0) ORDER BY id LIMIT 1"
    ).get
    return waiting, *held, oldest or 0.0
