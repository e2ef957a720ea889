"""What waits or is under way in memory: claimed rows of one message with the same destination and reverse-path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mta.delivery.agent import Job
from mta.mail.address import Address
from mta.mail.envelope import Content, Message, Recipient
from mta.scheduler.pools import Pool

RECIPIENTS_MAX = 100  # of one transaction: RFC 5321 section 4.5.3.1.8 promises no more than that


class Work:
    """One job before and while it is done. `content` is None where it must be read back; `octets` are what it holds of the hot
    budget; `pools` where it counts while it is under way; `failures` how often in a row its destination was not reached, this attempt
    among them. Unlike a Job it changes: a row that an operator touched meanwhile comes back
    with a new token."""

    __slots__ = ("content", "destination", "failures", "message", "octets", "pools", "priority", "recipients")

    def __init__(
        self, message: Message, recipients: tuple[Recipient, ...], destination: str, content: Content | None = None
    ) -> None:
        self.message = message
        self.recipients = recipients
        self.destination = destination
        self.priority = recipients[0].priority
        self.content = content
        self.octets = 0
        self.failures = 0
        self.pools: tuple[Pool[Any], ...] = ()

    def job(self, content: Content) -> Job:
        return Job(self.message, self.recipients, content, self.destination)

    def renew(self, row: Recipient) -> None:
        """The same recipient as the spool has it now."""
        self.recipients = tuple(row if row.id == each.id else each for each in self.recipients)

    def split(self, recipients: frozenset[int]) -> Work | None:
        """Those of its rows, taken out of it; None when it has none of them."""
        taken = tuple(each for each in self.recipients if each.id in recipients)
        if not taken:
            return None
        self.recipients = tuple(each for each in self.recipients if each.id not in recipients)
        return Work(self.message, taken, self.destination)


def grouped(
    rows: Iterable[tuple[Message, Recipient]], contents: Content | None = None, limit: int = RECIPIENTS_MAX
) -> Iterator[Work]:
    """Rows as work, in their order: by (message, destination, reverse-path, priority), at most `limit` recipients each."""
    groups: dict[tuple[int, str, Address | None, int], list[Recipient]] = {}
    messages: dict[int, Message] = {}
    for message, recipient in rows:
        messages[message.id] = message
        key = (message.id, recipient.destination, recipient.reverse_path, recipient.priority)
        groups.setdefault(key, []).append(recipient)
    for (identifier, destination, _, _), recipients in groups.items():
        for first in range(0, len(recipients), limit):
            yield Work(messages[identifier], tuple(recipients[first : first + limit]), destination, contents)


def claims_of(recipients: Sequence[Recipient]) -> list[tuple[int, int]]:
    """(recipient, token) pairs, as the spool takes claims back."""
    return [(each.id, each.token) for each in recipients]
