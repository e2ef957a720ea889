"""The contract of a spool shard. Values in, values out; no cursors of a database, no clock inside: every time is an argument.

One test suite (tests/properties/test_spool_machine.py, tests/unit/spool/) runs on every backend: memory and SQLite.

Durability: when the Deferred of `accept` or `settle` fires, what it holds survives a power cut (law 1). Both may wait for
others to share one commit. Each call is one transaction: all or nothing.

Ownership: `owner` is a positive integer that names one boot of one process. A row claimed by an owner is offered to nobody
else until its lease ends, or until `recover` finds that its owner is gone.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred

from mta.mail.envelope import BodyFile, Content, Message, NewRecipient, Recipient, State, value

INLINE_BODY_LIMIT_OCTETS = (
    128 * 1024
)  # a larger body is streamed to a file, so that memory per connection stays bounded
TOGETHER_MAX = 100  # recipients of one message that a claim brings together: RFC 5321 section 4.5.3.1.8


class SpoolError(Exception):
    """The spool could not do it. Our fault, never the peer's: the session says 451 or 452."""


class SpoolFull(SpoolError):
    """No space (or inodes): nothing was stored."""


class SpoolUnfit(SpoolError):
    """A value that can't be stored, or a bug of ours: the same again would fail again, and nothing else is concerned."""


class SpoolFailed(SpoolError):
    """An I/O error: after a failed fsync the shard is closed, reopened and verified; until then nothing is accepted."""


class SpoolLocked(SpoolError):
    """Another process has this spool (the daemon exits with 75)."""


class SpoolUnusable(SpoolError):
    """It can't be opened: too old an SQLite, a newer schema, an emptied spool, a directory that can't be written."""


class Event(enum.StrEnum):
    """Kinds of journal entries. The journal is append-only; every change of a recipient's state has one (law 2)."""

    ACCEPTED = "accepted"  # message: kind, peer, auth, tls, size
    QUEUED = "queued"  # recipient: address, destination, rule that routed it
    CLAIMED_AGAIN = "recovered"  # recipient: found in flight at a start after a crash
    DELIVERED = "delivered"
    RELAYED = "relayed"
    DEFERRED = "deferred"
    FAILED = "failed"
    EXPANDED = "expanded"
    DISCARDED = "discarded"
    REMOVED = "removed"
    HELD = "held"
    RELEASED = "released"
    RETRIED = "retried"  # an operator made it due at once
    REROUTED = "rerouted"
    REPORTED = "reported"  # a DSN was enqueued: its ID and kind
    REPORT_NOT_OWED = "report-not-owed"  # and why
    REFUSED = "refused"  # refusals file only: session refused, no message exists
    QUARANTINED = "quarantined"  # content failed its checksum


@value
class JournalEntry:
    """One line of a message's history. `data` are JSON-able values; text from the wire is escaped where it is shown."""

    message: int
    at: float
    kind: Event
    recipient: int = 0  # 0: the whole message
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A message to be made durable. `claim_for`: recipients that are due are born claimed by this owner (0: by nobody).

    A recipient with `held` or a future `next_attempt` is never born claimed.
    The backend writes the ACCEPTED entry and one QUEUED entry for each recipient itself; `journal` are further ones
    (policy verdicts, header fixes).
    """

    message: Message
    recipients: tuple[NewRecipient, ...]
    content: Content
    claim_for: int = 0
    lease_until: float = 0.0
    journal: tuple[JournalEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What `accept` gives for one Acceptance: the rows as inserted (with their IDs and tokens)."""

    message: Message
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A recipient claimed for work, with the message it belongs to."""

    message: Message
    recipient: Recipient


@value
class RecipientChange:
    """What one attempt makes of one recipient. A deferral keeps state QUEUED with a new `next_attempt`.

    The claim ends with it: owner becomes 0 and the token grows, unless `keep_claim`.
    """

    recipient: int
    token: int  # as claimed
    state: State
    code: int = 0
    status: str = ""
    text: str = ""
    next_attempt: float = 0.0
    attempts: int = 0  # the new count
    uncertain: bool = False
    delay_reported_at: float = 0.0  # 0: unchanged


@value
class Settlement:
    """All that one attempt causes, in one transaction (law 3): outcomes, children, the DSNs, the journal.

    All or nothing: when one token is stale (an operator removed the recipient meanwhile), nothing of it is applied, and the
    caller settles again without the stale recipients.
    """

    message: int
    changes: tuple[RecipientChange, ...]
    children: tuple[NewRecipient, ...] = ()
    reports: tuple[Acceptance, ...] = ()
    journal: tuple[JournalEntry, ...] = ()


@value
class Settled:
    """`stale` is empty when it was applied; else it names the recipients whose tokens were old, and nothing was applied."""

    stale: tuple[int, ...] = ()
    children: tuple[Recipient, ...] = ()
    reports: tuple[Accepted, ...] = ()


@dataclass(frozen=True, slots=True)
class DestinationDue:
    """A destination with unclaimed, unheld rows, and the time of the first of them."""

    destination: str
    next_attempt: float


@dataclass(frozen=True, slots=True)
class DestinationRecord:
    """What outlives a restart of what the scheduler knows of a destination. Times are wall time."""

    key: str
    suspended_until: float = 0.0  # nothing is tried before; 0: not suspended
    suspensions: int = 0  # in a row
    learned_limit: int = 0  # jobs at once; 0: not learned
    code: int = 0  # the reply that suspended it, as in mta.mail.outcome
    status: str = ""
    reason: str = ""

    @property
    def worth_keeping(self) -> bool:
        return bool(self.suspended_until or self.learned_limit)


@dataclass(frozen=True, slots=True)
class DestinationWaiting:
    """How many unclaimed, unheld rows a destination has, and the time of the first."""

    destination: str
    recipients: int
    next_attempt: float


@dataclass(frozen=True, slots=True)
class Patience:
    """When what waits behind a suspended destination is overdue: its message's lifetime is over `now`, or it was submitted before
    `delayed_since`, its sender may be told of a delay, and was not yet."""

    now: float
    delayed_since: float


@dataclass(frozen=True, slots=True)
class Overdue:
    """`rows` are claimed; `cursor` is where to go on, 0 at the end."""

    rows: tuple[Claimed, ...]
    cursor: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which recipients an operator means. Empty fields don't narrow; all given ones must fit.

    The selection language of the queue verbs grows here; each field is bound as a parameter, never pasted into SQL.
    """

    messages: tuple[int, ...] = ()
    recipients: tuple[int, ...] = ()
    states: tuple[State, ...] = (State.QUEUED,)
    held: bool | None = None
    sender: str = ""  # exact address, or "@domain"; "<>" for the null reverse-path
    recipient: str = ""  # exact address, or "@domain"
    destination: str = ""
    older_than: float = 0.0  # received before this time
    younger_than: float = 0.0
    due_after: float = 0.0  # next attempt later than this time, and not because its sender wanted it later


class Change(enum.StrEnum):
    """What an operator does to a selection."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"  # next_attempt = now
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing, in order of message ID. `cursor` is where the next page begins, 0 at the end."""

    rows: tuple[Claimed, ...]
    cursor: int


@dataclass(frozen=True, slots=True)
class Altered:
    """`changed` recipients of one batch, named in `recipients`, with their `destinations`; `cursor` for the next batch, 0 at the
    end.

    A hold does not end a claim, lest a delivery under way be forgotten and made twice: it counts from the next try on. Who has
    claimed rows in memory, not yet begun, finds here which to give back.
    """

    changed: int
    cursor: int
    recipients: tuple[int, ...] = ()
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    shard: int
    messages: int
    queued: int
    held: int
    claimed: int
    oldest_received_at: float  # 0: empty
    database_octets: int
    wal_octets: int
    free_octets: int
    free_share: float  # 0 .. 1 of the file system, the lesser of space and inodes
    commits: int
    accepted: int
    failing: str = ""  # why nothing is accepted now; "" when all is well


class BodyWriter(Protocol):
    """A large body on its way to a file. Content is durable, with its directory, before `finish` fires."""

    def write(self, block: bytes) -> bool:
        """Queue a block. False: the queue is full; pause the transport until `resume` is called."""

    def finish(self) -> Deferred[BodyFile]:
        """Sync and close. Fails with SpoolFull or SpoolFailed; the partial file is then gone."""

    def abort(self) -> None:
        """Drop the partial file. May be called at any time, more than once, also after a failure."""


class Spool(Protocol):
    """One shard. All methods are called in the reactor thread; Deferreds fire there."""

    shard: int

    def new_id(self) -> int:
        """An ID that was never given before, before the commit."""

    def body_writer(self, message: int, resume: Callable[[], None]) -> BodyWriter:
        """A writer for a body over INLINE_BODY_LIMIT_OCTETS. `resume` is called in the reactor when it drained."""

    def has_room(self, octets: int) -> bool:
        """Cheap (cached for a second): may a message of this size be taken? False below max(1.5 × octets, 5 %) free."""

    def accept(self, acceptances: Sequence[Acceptance]) -> Deferred[list[Accepted]]:
        """Make messages durable in one transaction. Fails with SpoolFull, SpoolFailed."""

    def destinations_due(self, now: float, limit: int) -> Deferred[list[DestinationDue]]:
        """Destinations with unclaimed, unheld queued rows, by the time of their first; at most `limit`. Those that are
        suspended `now` are left out, so that a thousand dead ones hide no living one."""

    def due_of(self, destinations: Sequence[str]) -> Deferred[list[DestinationDue]]:
        """The same of these destinations alone, suspended or not; those with nothing waiting are left out."""

    def destinations(self) -> Deferred[list[DestinationRecord]]:
        """What `remember` was told, by key."""

    def remember(self, records: Sequence[DestinationRecord]) -> Deferred[None]:
        """Keep these records in place of what was known of their destinations; those not worth keeping are forgotten."""

    def waiting(self) -> Deferred[list[DestinationWaiting]]:
        """All destinations with unclaimed, unheld rows, by key. For operators: it counts."""

    def claim(
        self, destination: str, limit: int, owner: int, now: float, lease_until: float
    ) -> Deferred[list[Claimed]]:
        """Claim due rows of one destination (next_attempt ≤ now, not held, unclaimed or lease ended), highest priority and
        oldest first. Recipients of one message come together, TOGETHER_MAX of them even where that exceeds `limit`: they
        go in one transaction."""

    def claim_overdue(self, patience: Patience, owner: int, lease_until: float, cursor: int = 0) -> Deferred[Overdue]:
        """Claim what waits behind a suspended destination and is overdue, in the order of messages, a bounded number of rows
        looked at. Rows of one message and slice come together."""

    def settle(self, settlements: Sequence[Settlement]) -> Deferred[list[Settled]]:
        """Apply attempts. May wait up to 5 ms to share a commit. One result for each settlement."""

    def unclaim(self, recipients: Sequence[tuple[int, int]]) -> Deferred[None]:
        """Give back (recipient, token) pairs unworked: at shutdown, or when a destination was suspended. No attempt counts."""

    def recover(self, owner: int, now: float, jitter: Callable[[int], float]) -> Deferred[int]:
        """At start: rows claimed by another owner whose lease can't be alive come back with attempts + 1 and a next attempt
        at `now + jitter(attempts)`, journalled. Returns how many."""

    def content(self, message: int) -> Deferred[Content]:
        """The content, its checksum verified. Fails with KeyError; with SpoolFailed when it is corrupt (and then the message
        has been quarantined: held, with a journal entry)."""

    def body_path(self, body: BodyFile) -> Path:
        """Where the file of a large body lies."""

    def message(self, message: int) -> Deferred[tuple[Message, tuple[Recipient, ...]] | None]:
        """One message with all its recipients, terminal ones too, while the spool still has it."""

    def select(self, selection: Selection, limit: int, cursor: int = 0) -> Deferred[Page]: ...

    def alter(
        self, selection: Selection, change: Change, now: float, by: str, limit: int = 500, cursor: int = 0
    ) -> Deferred[Altered]:
        """Apply an operator's change to one batch; `by` goes into the journal. REMOVE ends the claim (the token grows)."""

    def events(self, message: int) -> Deferred[list[JournalEntry]]:
        """The journal of a message, oldest first."""

    def move_finished(self, now: float, limit: int = 500) -> Deferred[int]:
        """Copy messages whose recipients are all terminal to the history and drop them here, idempotently. How many."""

    def status(self) -> Deferred[SpoolStatus]: ...

    def close(self) -> Deferred[None]:
        """Finish the commits in flight, checkpoint, release the lock. Later calls fail with SpoolError."""
