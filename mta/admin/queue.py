"""The queue's verbs: list, count, show, and the changes of an operator (hold, release, retry, delete, flush).

Long work is done in pages and batches, one a request, with a cursor that the caller brings back: no request keeps the reactor
or the spool's writer for long, and the caller can show how far it is. A cursor is `shard index:cursor of the shard`, "" at
the end.
"""

from __future__ import annotations

from typing import Any

from mta.admin.arguments import Arguments, identifier_of, narrows, number_of, selection_of, text_of
from mta.admin.errors import NO_INPUT, NOT_FOUND, TEMPORARY, UNAVAILABLE, VerbError
from mta.admin.house import Caller, House
from mta.mail.envelope import Message, Recipient, State
from mta.mail.identifiers import format_id
from mta.spool.contract import Change, Claimed, Selection, SpoolError
from mta.telemetry.metrics import counters

PAGE_ROWS = 250  # 250 rows make an answer in 2 ms of the reactor's time
BATCH_ROWS = 500
COUNT_ROWS = 1000
HEADER_LIMIT_OCTETS = 64 << 10

CHANGES = {
    "hold": Change.HOLD,
    "release": Change.RELEASE,
    "retry": Change.RETRY,
    "delete": Change.REMOVE,
}
_CHANGED = counters("mta_queue_changes_total", "Recipients changed by an operator", "change")


def message_data(message: Message) -> dict[str, Any]:
    """A message's record as JSON has it."""
    return {
        "id": format_id(message.id),
        "kind": message.kind.value,
        "sender": str(message.reverse_path),
        "received_at": message.received_at,
        "expires_at": message.expires_at,
        "size": message.size,
        "message_id": message.message_id,
        "envid": message.envid,
        "client_ip": message.client_ip,
        "client_port": message.client_port,
        "helo": message.helo,
        "auth": message.authcid,
        "mechanism": message.mechanism,
        "tls": message.tls,
        "protocol": message.protocol,
        "listener": message.listener,
        "reports_on": format_id(message.cause_message) if message.cause_message else "",
        "generation": message.config_generation,
    }


def recipient_data(recipient: Recipient) -> dict[str, Any]:
    """`last` is the last reply that was heard; `active` says that an attempt is under way or about to be."""
    last = f"{recipient.last_code or ''} {recipient.last_status} {recipient.last_text}".strip()
    return {
        "recipient_id": recipient.id,
        "recipient": str(recipient.address),
        "original": recipient.original,
        "state": recipient.state.name.lower(),
        "held": recipient.held,
        "uncertain": recipient.uncertain,
        "active": recipient.owner != 0,
        "destination": recipient.destination,
        "next_attempt": recipient.next_attempt if recipient.state is State.QUEUED else 0,
        "attempts": recipient.attempts,
        "priority": recipient.priority,
        "last": last,
    }


def row_data(row: Claimed) -> dict[str, Any]:
    """A line of the listing."""
    message = row.message
    return {
        "id": format_id(message.id),
        "sender": str(message.reverse_path),
        "received_at": message.received_at,
        "size": message.size,
        **recipient_data(row.recipient),
    }


def _position(house: House, arguments: Arguments) -> tuple[int, int]:
    text = text_of(arguments, "cursor")
    index, _, cursor = text.partition(":")
    if not text:
        return 0, 0
    if not (index.isdecimal() and cursor.isdecimal() and int(index) < len(house.shards)):
        raise VerbError(f"cursor: {text!r} is none of ours")
    return int(index), int(cursor)


def _next(house: House, index: int, cursor: int) -> str:
    if cursor:
        return f"{index}:{cursor}"
    return f"{index + 1}:0" if index + 1 < len(house.shards) else ""


async def list_rows(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """A page of queued recipients: `rows`, `cursor`, `now`."""
    selection = selection_of(arguments, house.now())
    index, cursor = _position(house, arguments)
    limit = max(1, number_of(arguments, "limit", PAGE_ROWS, PAGE_ROWS))
    page = await house.shards[index].select(selection, limit, cursor)
    rows = [row_data(row) for row in page.rows]
    return {"rows": rows, "cursor": _next(house, index, page.cursor), "now": house.now()}


async def count_rows(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """How many recipients a selection has, a batch at a time: `recipients`, `cursor`."""
    selection = selection_of(arguments, house.now())
    index, cursor = _position(house, arguments)
    page = await house.shards[index].select(selection, COUNT_ROWS, cursor)
    return {"recipients": len(page.rows), "cursor": _next(house, index, page.cursor)}


async def show(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """One message that is in the spool: `message`, `recipients`, and with `header` its header section."""
    identifier = identifier_of(text_of(arguments, "id"))
    shard = house.shard_of(identifier)
    found = await shard.message(identifier) if shard is not None else None
    if found is None:
        text = f"no message {format_id(identifier)} is in the queue; `mta why {format_id(identifier)}` looks further"
        raise VerbError(text, NOT_FOUND)
    message, recipients = found
    data: dict[str, Any] = {
        "message": message_data(message),
        "recipients": [recipient_data(each) for each in recipients],
        "now": house.now(),
    }
    if arguments.get("header"):
        assert shard is not None
        try:
            content = await shard.content(identifier)
        except KeyError as error:
            raise VerbError("the message has just left the queue", NOT_FOUND) from error
        except SpoolError as error:
            raise VerbError(f"the content can't be read: {error}", NO_INPUT) from error
        data["header"] = content.header[:HEADER_LIMIT_OCTETS].decode("utf-8", "backslashreplace")
    return data


async def alter(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """One batch of an operator's change: `changed`, `cursor`. `change` is hold, release, retry or delete."""
    name = text_of(arguments, "change")
    if name not in CHANGES:
        raise VerbError(f"change: one of {', '.join(CHANGES)} is wanted")
    if not house.spools:
        raise VerbError("the queue can be changed only while the daemon runs", UNAVAILABLE)
    if not narrows(arguments) and arguments.get("all") is not True:
        raise VerbError(f"say which messages to {name}, or --all")
    return await _alter(house, caller, arguments, selection_of(arguments, house.now()), name)


async def flush(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """Go to a destination, or to all, now: suspensions end, what waits for its next time is due. One batch: `resumed` destinations,
    `changed` recipients, `cursor`."""
    if not house.spools:
        raise VerbError("the queue can be flushed only while the daemon runs", UNAVAILABLE)
    destination, resumed = text_of(arguments, "destination"), 0
    if not text_of(arguments, "cursor"):
        for scheduler in house.schedulers:
            resumed += scheduler.flush((destination,) if destination else None)
        house.log.event("queue-flushed", destination=destination or "all", resumed=resumed, by=caller.name)
    selection = Selection(held=False, destination=destination, due_after=house.now())
    return {"resumed": resumed, **await _alter(house, caller, arguments, selection, "retry")}


async def _alter(house: House, caller: Caller, arguments: Arguments, selection: Selection, name: str) -> dict[str, Any]:
    index, cursor = _position(house, arguments)
    spool, change = house.spools[index], CHANGES[name]
    try:
        altered = await spool.alter(selection, change, house.now(), caller.name, BATCH_ROWS, cursor)
    except SpoolError as error:
        raise VerbError(f"the spool refused: {error}", TEMPORARY) from error
    if altered.changed:
        _CHANGED.bound(name).value += altered.changed
        house.log.event("queue-changed", change=name, recipients=altered.changed, by=caller.name)
        scheduler = house.scheduler_of(spool.shard)
        if scheduler is not None:
            scheduler.altered(change, altered)
    return {"changed": altered.changed, "cursor": _next(house, index, altered.cursor)}
