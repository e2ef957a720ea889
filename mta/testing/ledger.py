"""What was sent, what arrived, and the verdict: every message is known by its mark and the SHA-256 of its body.

    verdict = judge(load.ledger, daemon.mailbox("bob"))                  # one mailbox, one recipient a message
    verdict = judge_copies(load.ledger, [*copies(daemon.mailbox("bob"), "bob@dev.test"), *sink.copies()])

What is owed is counted by message and recipient: an acknowledged message for three owes three copies, or a report to its sender
for each that is missing (`returned`). Nothing here knows how mail is sent or who carried it.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Outcome = Literal["acknowledged", "refused", "open"]
Owed: TypeAlias = tuple[str, str]  # mark and recipient
_MARK = re.compile(rb"^X-ID: (\S+)$", re.MULTILINE)
_FINAL_RECIPIENT = re.compile(rb"^Final-Recipient: *rfc822; *(\S+)", re.MULTILINE | re.IGNORECASE)


@dataclass(slots=True)
class Sent:
    """What became of a message at the door. `digest` is of the body with newlines as LF."""

    digest: str
    recipients: tuple[str, ...] = ()
    outcome: Outcome = "open"
    queue_id: str = ""
    reply: str = ""


@dataclass(slots=True)
class Ledger:
    """All that was sent, by mark."""

    sent: dict[str, Sent] = field(default_factory=dict)

    def marks(self, outcome: Outcome) -> set[str]:
        return {mark for mark, sent in list(self.sent.items()) if sent.outcome == outcome}

    @property
    def acknowledged(self) -> set[str]:
        return self.marks("acknowledged")

    def merge(self, other: Ledger) -> None:
        self.sent.update(other.sent)


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that arrived for one recipient. `at`: wall time in seconds, where whoever took it noted it."""

    mark: str
    digest: str
    recipient: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`lost`: acknowledged and nowhere; `duplicates`: copies beyond the first; `corrupt`: changed; `ghosts`: arrived, although
    refused or for another; `open`: without an answer, which may have arrived or not."""

    acknowledged: int
    lost: tuple[str, ...]
    duplicates: int
    ghosts: tuple[str, ...]
    corrupt: tuple[str, ...]
    open: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {len(self.lost)} lost, {self.duplicates} duplicates, "
            f"{len(self.ghosts)} ghosts, {len(self.corrupt)} corrupt, {self.open} without an answer"
        )


def judge(ledger: Ledger, messages: Iterable[bytes], queued: Collection[str] = ()) -> Verdict:
    """Where every message has one recipient and all arrive in one place. `queued` holds the IDs of what the queue still has."""
    found = (copy_of(message, "") for message in messages)
    only = {mark: sent.recipients[0] if sent.recipients else "" for mark, sent in ledger.sent.items()}
    placed = [Copy(each.mark, each.digest, only.get(each.mark, "")) for each in found]
    return judge_copies(ledger, placed, queued=queued)


def judge_copies(
    ledger: Ledger, copies: Iterable[Copy], *, returned: Collection[Owed] = (), queued: Collection[str] = ()
) -> Verdict:
    """Compare what was acknowledged with what arrived, what came back to its sender, and what the queue still has."""
    copies = list(copies)
    number = Counter((each.mark, each.recipient) for each in copies)
    known = [(each, ledger.sent.get(each.mark)) for each in copies]
    lost = [
        mark if len(sent.recipients) <= 1 else f"{mark} for {recipient}"
        for mark, sent in list(ledger.sent.items())
        if sent.outcome == "acknowledged" and sent.queue_id not in queued
        for recipient in sent.recipients or ("",)
        if not number[mark, recipient] and (mark, recipient) not in returned
    ]
    ghosts = {
        each.mark
        for each, sent in known
        if sent is not None and (sent.outcome == "refused" or each.recipient not in (sent.recipients or ("",)))
    }
    return Verdict(
        acknowledged=len(ledger.acknowledged),
        lost=tuple(sorted(lost)),
        duplicates=sum(many - 1 for many in number.values()),
        ghosts=tuple(sorted(ghosts)),
        corrupt=tuple(each.mark or "unmarked" for each, sent in known if sent is None or sent.digest != each.digest),
        open=len(ledger.marks("open")),
    )


def repeated(
    found: Iterable[Copy], starts: Sequence[float], way: Callable[[Copy], str]
) -> tuple[list[Copy], Counter[tuple[int, str]]]:
    """Second copies that no restart explains; and, for each start of the MTA (their times) and each way out, the messages that came again.

    A message that was under way when the MTA died is sent again by the next one: once a restart and message, to whom it
    was sent before. Anything beyond is a fault.
    """
    unexplained, again = [], set()
    latest: dict[Owed, int] = {}
    for each in sorted(found, key=lambda copy: copy.at):
        generation = bisect.bisect_right(starts, each.at)
        before = latest.get((each.mark, each.recipient))
        if before == generation:
            unexplained.append(each)
        elif before is not None:
            again.add((generation, way(each), each.mark))
        latest[each.mark, each.recipient] = generation
    return unexplained, Counter((generation, to) for generation, to, _ in again)


def copy_of(message: bytes, recipient: str, at: float = 0.0) -> Copy:
    header, _, body = message.replace(b"\r\n", b"\n").partition(b"\n\n")
    mark = _MARK.search(header)
    return Copy(mark[1].decode("ascii", "replace") if mark else "", digest_of(body), recipient, at)


def copies(messages: Iterable[bytes], recipient: str) -> Iterator[Copy]:
    """Of the messages in the mailbox of one recipient."""
    return (copy_of(message, recipient) for message in messages)


def returned_by(reports: Iterable[bytes]) -> set[Owed]:
    """What the reports (RFC 3464) in a sender's mailbox say of: the marks in what they return, and for whom."""
    found = set()
    for report in reports:
        text = report.replace(b"\r\n", b"\n")
        for mark in _MARK.findall(text):
            found |= {(mark.decode(), recipient.decode()) for recipient in _FINAL_RECIPIENT.findall(text)}
    return found


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body.replace(b"\r\n", b"\n")).hexdigest()


def compose(mark: str, octets: int) -> tuple[bytes, str]:
    """A message of about so many octets with CRLF newlines, and its body's digest. The mark stands in header and body."""
    source = random.Random(mark)
    lines = [f"{mark} begins".encode(), b".", b"..", b".dots lead", b"From the middle", b"", "Gruß".encode()]
    filler = base64.b64encode(source.randbytes(48)) + b"\r\n"
    body = b"\r\n".join(lines) + b"\r\n"
    body += filler * max(0, (octets - len(body)) // len(filler)) + f"{mark} ends\r\n".encode()
    # Three times, so that one of them stands whole on a page of the spool.
    header = "".join(f"{name}: {mark}\r\n" for name in ("X-ID", "X-Again", "X-And-Again"))
    header += f"From: <load@client.example>\r\nSubject: {'load ' * 8}\r\n"
    return header.encode() + b"\r\n" + body, digest_of(body)
