"""The laws of docs/invariants.md, checked on a house, simulated or real: each breach in words.

- Whatever a client heard 250 for is in the spool or the history of its node, with every recipient that was taken (law 1).
- Each recipient is in one state, its journal leads there step by step, and no step is missing (law 2).
- Each failure has its report in the same house, or a reason why none is owed; nobody is told the same twice (law 3).
- No report causes a report (law 5).
- What the journal calls relayed arrived at the neighbour, and what it calls delivered lies in the mailbox; more copies than one need a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from mta.admin.house import Story
from mta.mail.address import NULL_PATH
from mta.mail.envelope import Kind, Recipient, State
from mta.mail.identifiers import format_id, parse_id
from mta.spool.contract import Event, JournalEntry
from mta.testing.peer import Peer, addressees
from mta.testing.sender import Receipt


class Node(Protocol):
    """A txmta, and what its clients heard."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def receipts(self) -> Sequence[Receipt]: ...

    def stories(self) -> list[Story]: ...

    def mailbox(self, address: str) -> list[bytes]: ...


class House(Protocol):
    @property
    def nodes(self) -> Mapping[str, Node]: ...

    @property
    def peers(self) -> Mapping[str, Peer]: ...


_TERMINAL = {
    Event.DELIVERED: State.DELIVERED,
    Event.RELAYED: State.RELAYED,
    Event.FAILED: State.FAILED,
    Event.EXPANDED: State.EXPANDED,
    Event.DISCARDED: State.DISCARDED,
    Event.REMOVED: State.REMOVED,
}
_TRIED = frozenset({Event.DELIVERED, Event.RELAYED, Event.FAILED, Event.DEFERRED, Event.DISCARDED, Event.CLAIMED_AGAIN})


def breaches(house: House) -> list[str]:
    """Empty: all is well."""
    found: list[str] = []
    for node in house.nodes.values():
        stories = {story.message.id: story for story in node.stories()}
        for problem in (
            *_acknowledged(node, stories),
            *(each for story in stories.values() for each in _story(story, stories)),
            *(each for story in stories.values() for each in _copies(house, node, story)),
        ):
            found.append(f"{node.name}: {problem}")
    return found


def _acknowledged(node: Node, stories: dict[int, Story]) -> Iterator[str]:
    for receipt in node.receipts:
        if not receipt.taken:
            continue
        story = stories.get(parse_id(receipt.id))
        if story is None:
            yield f"{receipt.id} was acknowledged and is lost"
            continue
        known = Counter(each.original.lower() for each in story.recipients)
        for recipient in receipt.recipients:
            if not known[recipient.lower()]:
                yield f"{receipt.id}: {recipient} was acknowledged and is lost"


def _story(story: Story, stories: dict[int, Story]) -> Iterator[str]:
    name = format_id(story.message.id)
    of: dict[int, list[JournalEntry]] = {}
    for entry in story.journal:
        of.setdefault(entry.recipient, []).append(entry)
    if [entry.kind for entry in of.get(0, ())].count(Event.ACCEPTED) != 1:
        yield f"{name}: its acceptance is not journalled once"
    if sorted(entry.at for entry in story.journal) != [entry.at for entry in story.journal]:
        yield f"{name}: its journal goes back in time"
    if unknown := set(of) - {0} - {each.id for each in story.recipients}:
        yield f"{name}: the journal tells of recipients that do not exist: {unknown}"
    if story.message.kind is Kind.REPORT:
        yield from _report(story, stories)
    for recipient in story.recipients:
        for problem in _recipient(recipient, of.get(recipient.id, []), story, stories):
            yield f"{name} for {recipient.address}: {problem}"


def _recipient(
    recipient: Recipient, journal: Sequence[JournalEntry], story: Story, stories: dict[int, Story]
) -> Iterator[str]:
    kinds = [entry.kind for entry in journal]
    if kinds[:1] != [Event.QUEUED] or kinds.count(Event.QUEUED) != 1:
        yield f"its journal does not begin with its queueing: {kinds}"
    ends = [_TERMINAL[kind] for kind in kinds if kind in _TERMINAL]
    wanted = [] if recipient.state is State.QUEUED else [recipient.state]
    if ends != wanted:
        yield f"it is {recipient.state.name}, and its journal ends it {len(ends)} times: {ends}"
    tried = 0
    for entry in journal:
        # What only waited, behind a suspended destination, expired without an attempt of its own.
        if entry.kind in _TRIED and not ("expired" in entry.data and entry.data.get("attempt") == tried):
            tried += 1
    if tried != recipient.attempts:
        yield f"{recipient.attempts} attempts, {tried} of them in the journal"
    reports = [entry for entry in journal if entry.kind is Event.REPORTED]
    told = Counter(str(entry.data.get("kind")) for entry in reports)
    if twice := [kind for kind, count in told.items() if count > 1]:
        yield f"its sender was told more than once: {twice}"
    for entry in reports:
        report = stories.get(parse_id(str(entry.data["report"])))
        if report is None:
            yield f"the report {entry.data['report']} does not exist"
        elif report.message.cause_message != story.message.id:
            yield f"the report {entry.data['report']} speaks of another message"
    if recipient.state is State.FAILED and not told["failed"] and Event.REPORT_NOT_OWED not in kinds:
        yield "it failed, and nobody was told, nor why not"
    if reports and (story.message.kind is Kind.REPORT or not _reverse_path(story, recipient)):
        yield "a report caused a report"


def _reverse_path(story: Story, recipient: Recipient) -> object:
    return story.message.reverse_path if recipient.reverse_path is None else recipient.reverse_path


def _report(story: Story, stories: dict[int, Story]) -> Iterator[str]:
    name = format_id(story.message.id)
    if story.message.reverse_path != NULL_PATH:
        yield f"{name}: a report with a reverse-path"
    cause = stories.get(story.message.cause_message)
    if cause is None:
        yield f"{name}: a report on a message that does not exist"
    elif cause.message.kind is Kind.REPORT:
        yield f"{name}: a report on a report"


def _copies(house: House, node: Node, story: Story) -> Iterator[str]:
    """What arrived where we can look."""
    name = format_id(story.message.id)
    mark = f"id {name}".encode()
    for recipient in story.recipients:
        address = str(recipient.address)
        if recipient.state is State.RELAYED and not _to_nodes(house, node, story, recipient):
            copies = sum(
                (address in addressees(each) and mark in each.content)
                or _is_report(story, each.content, address, addressees(each))
                for peer in house.peers.values()
                for each in peer.messages
            )
        elif recipient.state is State.DELIVERED and story.message.kind is not Kind.REPORT:
            copies = sum(mark in each for each in node.mailbox(address))
        else:
            continue
        again = sum(entry.kind is Event.CLAIMED_AGAIN for entry in story.journal if entry.recipient == recipient.id)
        if not copies:
            yield f"{name} for {address}: it is {recipient.state.name} and arrived nowhere"
        elif copies > 1 + again and not recipient.uncertain:
            yield f"{name} for {address}: {copies} copies, and no doubt to excuse them"


def _to_nodes(house: House, node: Node, story: Story, recipient: Recipient) -> bool:
    """Did the last attempt end at another txmta? Its own journal tells then."""
    for entry in reversed(story.journal):
        if entry.recipient == recipient.id and entry.kind is Event.RELAYED:
            tries = entry.data.get("tries")
            last = tries[-1] if isinstance(tries, list) and tries else {}
            return any(last.get("address") == each.address for each in house.nodes.values())
    return False


def _is_report(story: Story, content: bytes, address: str, recipients: Sequence[str]) -> bool:
    """A report has no Received field of ours; its boundary names it."""
    return (
        story.message.kind is Kind.REPORT and address in recipients and format_id(story.message.id).encode() in content
    )
