"""What happened to a message: its journal, from the spool and from the history, and what was refused at the door.

A queue ID, an address (of a sender or a recipient), or a Message-ID says what is looked for. The answer holds entries as the
journal has them; mta.admin.timeline puts them into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mta.admin.arguments import Arguments, address_pattern, number_of, text_of
from mta.admin.destinations import recorded
from mta.admin.errors import NOT_FOUND, TEMPORARY, VerbError
from mta.admin.house import Caller, House, ReadableSpool, Sought, Story
from mta.admin.queue import message_data, recipient_data
from mta.mail.envelope import State
from mta.mail.identifiers import TEXT_LENGTH, format_id, parse_id
from mta.spool.contract import Claimed, Page, Selection, SpoolError

STORIES_MAX = 100
SCAN_ROWS = 500
WORD_MIN = 3
SCAN_MAX = 200_000  # rows looked through for a Message-ID, which the spool has no index for


def sought_of(text: str, limit: int) -> Sought:
    """A queue ID, a Message-ID in angle brackets, an address, `@domain`, or a word. Raises VerbError."""
    text = text.strip()
    if len(text) == TEXT_LENGTH and "@" not in text:
        try:
            return Sought(message=parse_id(text), limit=limit)
        except ValueError:
            pass
    if text.startswith("<") and text.endswith(">") and len(text) > 2:
        return Sought(message_id=text, limit=limit)
    if "@" in text:
        return Sought(address=address_pattern(text, "what"), limit=limit)
    if len(text) < WORD_MIN or any(character.isspace() for character in text):
        raise VerbError(f"{text!r} is no queue ID, address, Message-ID, IP address or login")
    return Sought(word=text, limit=limit)


async def why(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """`messages`, oldest first, each with `entries`; `refusals`, oldest first; `more` when the limit cut something off."""
    limit = max(1, number_of(arguments, "limit", 20, STORIES_MAX))
    sought = sought_of(text_of(arguments, "what"), limit)
    refusals: list[Any] = []
    try:
        stories = await _find(house, sought)
        if house.archive is not None:
            refusals = [dict(note) for note in await house.archive.refusals(sought)]
        if sought.address and not sought.address.startswith("@") and not stories and not refusals:
            # A Message-ID written without its angle brackets looks like an address.
            stories = await _find(house, Sought(message_id=f"<{sought.address}>", limit=limit))
    except SpoolError as error:
        raise VerbError(str(error), TEMPORARY) from error
    if not stories and not refusals:
        raise VerbError(_nothing(sought), NOT_FOUND)
    newest = sorted(stories.values(), key=lambda story: story.message.id)[-limit:]
    return {
        "messages": [story_data(story) for story in newest],
        "suspended": await _suspended(house, newest),
        "refusals": sorted(refusals, key=lambda note: float(note.get("at", 0))),
        "more": len(stories) > len(newest) or len(newest) == limit or len(refusals) == limit,
        "now": house.now(),
    }


async def _suspended(house: House, stories: Sequence[Story]) -> dict[str, dict[str, Any]]:
    """Of the destinations that these still wait for, those that nobody goes to now: until when, and what they said."""
    found: dict[str, dict[str, Any]] = {}
    for story in stories:
        shard = house.shard_of(story.message.id)
        waiting = {each.destination for each in story.recipients if each.state is State.QUEUED} - found.keys()
        if not waiting or shard is None:
            continue
        scheduler = house.scheduler_of(shard.shard)
        rows = scheduler.destinations(waiting) if scheduler is not None else await recorded(house, shard)
        for row in rows:
            if row["destination"] in waiting and row["suspended_until"] > house.now():
                found[row["destination"]] = {key: row[key] for key in ("suspended_until", "last_reply")}
    return found


def _nothing(sought: Sought) -> str:
    what = format_id(sought.message) if sought.message else sought.address or sought.message_id or sought.word
    return f"nothing is known of {what}: it is not in the queue, the history or the refusals that are kept"


def story_data(story: Story) -> dict[str, Any]:
    return {
        "message": message_data(story.message),
        "recipients": [recipient_data(each) for each in story.recipients],
        "entries": [
            {"at": entry.at, "kind": entry.kind.value, "recipient_id": entry.recipient, "data": dict(entry.data)}
            for entry in story.journal
        ],
    }


async def _find(house: House, sought: Sought) -> dict[int, Story]:
    """The stories that fit, by message; the spool's word goes before the history's (a copy may be in both for a moment)."""
    found: dict[int, Story] = {}
    if house.archive is not None:
        for story in await house.archive.stories(sought):
            found[story.message.id] = story
    for identifier, shard in (await _in_spool(house, sought)).items():
        record = await shard.message(identifier)
        if record is not None:
            found[identifier] = Story(*record, tuple(await shard.events(identifier)))
    return found


async def _in_spool(house: House, sought: Sought) -> dict[int, ReadableSpool]:
    """The newest messages of the spool that fit."""
    if sought.message:
        shard = house.shard_of(sought.message)
        return {sought.message: shard} if shard is not None else {}
    hits: dict[int, ReadableSpool] = {}
    for shard in house.shards:
        here: list[int] = []
        for selection in _selections(sought):
            here += await _scan(shard, selection, sought)
        hits.update(dict.fromkeys(here, shard))
    return dict(sorted(hits.items())[-sought.limit :])


def _selections(sought: Sought) -> list[Selection]:
    everywhere = tuple(State)
    if sought.address:
        return [
            Selection(states=everywhere, sender=sought.address),
            Selection(states=everywhere, recipient=sought.address),
        ]
    return [Selection(states=everywhere)]


async def _scan(shard: ReadableSpool, selection: Selection, sought: Sought) -> list[int]:
    found: list[int] = []
    seen = cursor = 0
    while True:
        page: Page = await shard.select(selection, SCAN_ROWS, cursor)
        for row in page.rows:
            if _fits(row, sought) and (not found or found[-1] != row.message.id):
                found.append(row.message.id)
        seen, cursor = seen + len(page.rows), page.cursor
        if not cursor or seen >= SCAN_MAX:
            return found[-sought.limit :]


def _fits(row: Claimed, sought: Sought) -> bool:
    message = row.message
    if sought.message_id:
        return message.message_id == sought.message_id
    if sought.word:
        word = sought.word.lower()
        return word in {message.client_ip, message.authcid.lower()} or word in row.recipient.last_text.lower()
    return True
