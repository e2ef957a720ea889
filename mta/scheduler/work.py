"""What waits or is under way in memory: claimed rows of one message with the same destination and reverse-path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mta.delivery.agent import Job
from mta.mail.address import Address
from mta.mail.envelope import Content, Message, Recipient

RECIPIENTS_MAX = 100  # of one transaction: RFC 5321 section 4.5.3.1.8 promises no more than that


class Work:
    """One job before and while it is done. `content` is None where it must be read back; `octets` are what it holds of the hot
    budget. Unlike a Job it changes: a row that an operator touched meanwhile comes back with a new token."""

    __slots__ = ("content", "destination", "message", "octets", "recipients")

    def __init__(
        self, message: Message, recipients: tuple[Recipient, ...], destination: str, content: Content | None = None
    ) -> None:
        self.message = message
        self.recipients = recipients
        self.destination = destination
        self.content = content
        self.octets = 0

    def job(self, content: Content) -> Job:
        return Job(self.message, self.recipients, content, self.destination)

    def renew(self, row: Recipient) -> None:
        """The same recipient as the spool has it now."""
        self.recipients = tuple(row if row.id == each.id else each for each in self.recipients)


def grouped(
    rows: Iterable[tuple[Message, Recipient]], contents: Content | None = None, limit: int = RECIPIENTS_MAX
) -> Iterator[Work]:
    """Rows as work, in their order: by (message, destination, reverse-path), at most `limit` recipients each."""
    groups: dict[tuple[int, str, Address | None], list[Recipient]] = {}
    messages: dict[int, Message] = {}
    for message, recipient in rows:
        messages[message.id] = message
        groups.setdefault((message.id, recipient.destination, recipient.reverse_path), []).append(recipient)
    for (identifier, destination, _), recipients in groups.items():
        for first in range(0, len(recipients), limit):
            yield Work(messages[identifier], tuple(recipients[first : first + limit]), destination, contents)


def claims_of(recipients: Sequence[Recipient]) -> list[tuple[int, int]]:
    """(recipient, token) pairs, as the spool takes claims back."""
    return [(each.id, each.token) for each in recipients]
