"""A shard of the spool in memory: the same contract, for simulated houses and tests. Nothing survives its process.

Deferreds have fired when they are returned; with `reactor` commits take a turn (`commit_seconds`), and `crash` loses what was
not yet committed, as a power cut would.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from mta.mail.envelope import BodyFile, Content, Message, Recipient, State
from mta.mail.identifiers import IdentifierSource, format_id
from mta.spool.birth import born
from mta.spool.contract import (
    TOGETHER_MAX,
    Acceptance,
    Accepted,
    Altered,
    BodyWriter,
    Change,
    Claimed,
    DestinationDue,
    DestinationRecord,
    DestinationWaiting,
    Event,
    JournalEntry,
    Overdue,
    Page,
    Patience,
    Selection,
    Settled,
    Settlement,
    SpoolError,
    SpoolFailed,
    SpoolStatus,
)
from mta.spool.day import Told
from mta.spool.journal import accepted_entry
from mta.spool.memory_tables import MemoryBody, Stored, is_delayed
from mta.spool.settling import born_children
from mta.spool.works import ALTERED

OVERDUE_MAX = 250  # rows of one call


class Timer(Protocol):
    """The part of IReactorTime that commits need."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any: ...  # noqa: A002 - Twisted's


class MemorySpool:
    """One shard. `clock`: wall time in seconds. `room`: what `has_room` says, for tests of a full disk."""

    def __init__(
        self,
        shard: int = 0,
        *,
        clock: Callable[[], float],
        reactor: Timer | None = None,
        commit_seconds: float = 0.0,
        stored: Stored | None = None,
    ) -> None:
        self.shard = shard
        self.room = True
        self._clock, self._reactor, self._commit_seconds = clock, reactor, commit_seconds
        self._stored = stored or Stored()
        self._source = IdentifierSource(shard, clock, self._stored.high_water)
        self._pending: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._taken: set[str] = set()  # bodies that a row names, or is about to
        self._closed = self._crashed = False

    @property
    def history(self) -> dict[int, Told]:
        """What `move_finished` moved, by message."""
        return self._stored.history

    def crash(self) -> MemorySpool:
        """The machine loses its power: what was committed comes back in the spool that is returned; this one is dead."""
        self._crashed = True
        self._pending.clear()
        stored = self._stored
        named = {content.body.path for _, content in stored.messages.values() if isinstance(content.body, BodyFile)}
        stored.bodies = {name: body for name, body in stored.bodies.items() if name in named}
        return MemorySpool(
            self.shard, clock=self._clock, reactor=self._reactor, commit_seconds=self._commit_seconds, stored=stored
        )

    # --- commits --------------------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], Any]) -> Deferred[Any]:
        if self._closed or self._crashed:
            return fail(SpoolError("the spool is closed"))
        if self._reactor is None:
            return self._run(work, Deferred())
        deferred: Deferred[Any] = Deferred()
        if not self._pending:
            self._reactor.callLater(self._commit_seconds, self._commit)
        self._pending.append((work, deferred))
        return deferred

    def _commit(self) -> None:
        pending, self._pending = self._pending, []
        for work, deferred in pending:
            self._run(work, deferred)

    def _run(self, work: Callable[[], Any], deferred: Deferred[Any]) -> Deferred[Any]:
        self._stored.commits += 1
        try:
            result = work()
        except (SpoolError, KeyError) as error:
            deferred.errback(error)
        else:
            deferred.callback(result)
        return deferred

    # --- what comes in --------------------------------------------------------------------------------------------

    def new_id(self) -> int:
        self._stored.high_water = made = self._source.next()
        return made

    def has_room(self, octets: int) -> bool:
        return self.room

    def body_writer(self, message: int, resume: Callable[[], None]) -> BodyWriter:
        return MemoryBody(f"body/{format_id(message)}", self._stored.bodies, self._taken)

    def body_path(self, body: BodyFile) -> Path:
        """A file that is made when it is asked for."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="memory-spool-")
        path = Path(self._folder.name) / body.path.replace("/", "-")
        if not path.exists():
            path.write_bytes(self._stored.bodies[body.path])
        return path

    def accept(self, acceptances: Sequence[Acceptance]) -> Deferred[list[Accepted]]:
        bodies = {one.content.body.path for one in acceptances if isinstance(one.content.body, BodyFile)}
        self._taken |= bodies

        def not_stored(failure: Failure) -> Failure:
            self._taken -= bodies
            for name in bodies:
                self._stored.bodies.pop(name, None)
            return failure

        return self._do(lambda: [self._insert(one) for one in acceptances]).addErrback(not_stored)

    def _insert(self, acceptance: Acceptance) -> Accepted:
        stored, message = self._stored, acceptance.message
        if message.id in stored.messages:
            raise SpoolError(f"message {message.id} is here already")
        if isinstance(acceptance.content.body, BodyFile) and acceptance.content.body.path not in stored.bodies:
            raise SpoolError(f"there is no body {acceptance.content.body.path}")
        stored.messages[message.id] = (message, acceptance.content)
        stored.of_message[message.id] = []
        stored.journal[message.id] = [accepted_entry(message)]
        recipients = born(acceptance, self.new_id)
        for recipient in recipients:
            stored.insert(recipient, message.received_at)
        for entry in acceptance.journal:
            stored.note(entry)
        stored.accepted += 1
        return Accepted(message, recipients)

    # --- what goes out --------------------------------------------------------------------------------------------

    def destinations_due(self, now: float, limit: int) -> Deferred[list[DestinationDue]]:
        def look() -> list[DestinationDue]:
            self._stored.end_leases(now)
            records = self._stored.destinations
            suspended = {key for key, one in records.items() if one.suspended_until > now}
            return [one for one in self._stored.first_times() if one.destination not in suspended][:limit]

        return self._do(look)

    def due_of(self, destinations: Sequence[str]) -> Deferred[list[DestinationDue]]:
        return self._do(lambda: [one for one in self._stored.first_times() if one.destination in destinations])

    def destinations(self) -> Deferred[list[DestinationRecord]]:
        return self._do(lambda: sorted(self._stored.destinations.values(), key=lambda one: one.key))

    def remember(self, records: Sequence[DestinationRecord]) -> Deferred[None]:
        def keep() -> None:
            for one in records:
                if one.worth_keeping:
                    self._stored.destinations[one.key] = one
                else:
                    self._stored.destinations.pop(one.key, None)

        return self._do(keep)

    def waiting(self) -> Deferred[list[DestinationWaiting]]:
        def count() -> list[DestinationWaiting]:
            numbers: dict[str, int] = {}
            for one in self._stored.waiting():
                numbers[one.destination] = numbers.get(one.destination, 0) + 1
            first = {one.destination: one.next_attempt for one in self._stored.first_times()}
            return [DestinationWaiting(name, numbers[name], first[name]) for name in sorted(numbers)]

        return self._do(count)

    def claim_overdue(self, patience: Patience, owner: int, lease_until: float, cursor: int = 0) -> Deferred[Overdue]:
        def take() -> Overdue:
            records, now = self._stored.destinations, patience.now
            suspended = {key for key, one in records.items() if one.suspended_until > now}
            rows: list[Claimed] = []
            for one in sorted(self._stored.waiting(), key=lambda one: (one.message, one.id)):
                message = self._stored.messages[one.message][0]
                late = message.expires_at <= now or is_delayed(message, one, patience.delayed_since)
                if late and one.destination in suspended and one.message >= cursor:
                    if len(rows) >= OVERDUE_MAX and rows[-1].message.id != one.message:
                        return Overdue(tuple(rows), one.message)
                    claimed = self._stored.put(one, owner=owner, lease_until=lease_until, token=one.token + 1)
                    rows.append(Claimed(message, claimed))
            return Overdue(tuple(rows), 0)

        return self._do(take)

    def claim(
        self, destination: str, limit: int, owner: int, now: float, lease_until: float
    ) -> Deferred[list[Claimed]]:
        def take() -> list[Claimed]:
            self._stored.end_leases(now)
            due = [one for one in self._stored.waiting() if one.destination == destination and one.next_attempt <= now]
            chosen: dict[int, Recipient] = {}
            messages: set[int] = set()
            for head in sorted(due, key=lambda one: (-one.priority, one.next_attempt, one.message, one.id)):
                if len(chosen) >= limit:
                    break
                chosen.setdefault(head.id, head)
                if head.message in messages:
                    continue
                messages.add(head.message)
                companions = (one for one in due if one.message == head.message and one.id != head.id)
                together = sorted(companions, key=lambda one: (-one.priority, one.id))
                for one in together[: TOGETHER_MAX - 1]:
                    chosen.setdefault(one.id, one)
            claimed = [
                self._stored.put(one, owner=owner, lease_until=lease_until, token=one.token + 1)
                for one in chosen.values()
            ]
            return [Claimed(self._stored.messages[one.message][0], one) for one in claimed]

        return self._do(take)

    def settle(self, settlements: Sequence[Settlement]) -> Deferred[list[Settled]]:
        return self._do(lambda: [self._settle(one) for one in settlements])

    def _settle(self, settlement: Settlement) -> Settled:
        stored = self._stored
        stale = tuple([change.recipient for change in settlement.changes if not self._stored.current(change)])
        if stale:
            return Settled(stale=stale)
        for change in settlement.changes:
            one = stored.recipients[change.recipient]
            self._stored.put(
                one,
                state=change.state,
                held=one.held and change.state is State.QUEUED,
                last_code=change.code,
                last_status=change.status,
                last_text=change.text,
                next_attempt=change.next_attempt,
                attempts=change.attempts,
                uncertain=change.uncertain,
                delay_reported_at=max(one.delay_reported_at, change.delay_reported_at),
                owner=0,
                lease_until=0.0,
                token=one.token + 1,
            )
        reports = tuple([self._insert(report) for report in settlement.reports])
        for entry in settlement.journal:
            stored.note(entry)
        children = born_children(settlement, self.new_id)
        for child in children:
            stored.insert(child, settlement.journal[0].at if settlement.journal else child.next_attempt)
        return Settled((), children, reports)

    def unclaim(self, recipients: Sequence[tuple[int, int]]) -> Deferred[None]:
        def give_back() -> None:
            for identifier, token in recipients:
                one = self._stored.recipients.get(identifier)
                if one is not None and one.token == token and one.state is State.QUEUED:
                    self._stored.put(one, owner=0, lease_until=0.0, token=token + 1)

        return self._do(give_back)

    def recover(self, owner: int, now: float, jitter: Callable[[int], float]) -> Deferred[int]:
        def give_back() -> int:
            lost = [one for one in self._stored.recipients.values() if one.owner and one.owner != owner]
            for one in lost:
                tries = one.attempts + 1
                at = now + jitter(tries)
                self._stored.put(one, owner=0, lease_until=0.0, token=one.token + 1, attempts=tries, next_attempt=at)
                data = {"attempts": tries, "next_attempt": at}
                self._stored.note(JournalEntry(one.message, now, Event.CLAIMED_AGAIN, one.id, data))
            return len(lost)

        return self._do(give_back)

    # --- what is asked --------------------------------------------------------------------------------------------

    def content(self, message: int) -> Deferred[Content]:
        def read() -> Content:
            record, content = self._stored.messages[message]
            body = self._stored.bodies[content.body.path] if isinstance(content.body, BodyFile) else content.body
            digest = hashlib.sha256(b"%b\r\n%b" % (content.header, body)).digest()
            if record.sha256 and digest != record.sha256:
                self._quarantine(message)
                raise SpoolFailed("the content is not what was accepted: its checksum differs")
            return content

        return self._do(read)

    def damage(self, message: int) -> None:
        """For tests: flip a bit of the stored content."""
        record, content = self._stored.messages[message]
        self._stored.messages[message] = (record, Content(content.header + b"\0", content.body))

    def _quarantine(self, message: int) -> None:
        waiting = [one for one in self._stored.of(message) if one.state is State.QUEUED and not one.held]
        for one in waiting:
            self._stored.put(one, held=True)
        if waiting:
            why = {"why": "the content is not what was accepted: its checksum differs"}
            self._stored.note(JournalEntry(message, self._clock(), Event.QUARANTINED, 0, why))

    def message(self, message: int) -> Deferred[tuple[Message, tuple[Recipient, ...]] | None]:
        def read() -> tuple[Message, tuple[Recipient, ...]] | None:
            if message not in self._stored.messages:
                return None
            return self._stored.messages[message][0], self._stored.of(message)

        return self._do(read)

    def select(self, selection: Selection, limit: int, cursor: int = 0) -> Deferred[Page]:
        return self._do(lambda: self._stored.select(selection, limit, cursor))

    def alter(
        self, selection: Selection, change: Change, now: float, by: str, limit: int = 500, cursor: int = 0
    ) -> Deferred[Altered]:
        def alter() -> Altered:
            page = self._stored.select(selection, limit, cursor)
            changed = [row.recipient for row in page.rows if self._alter(row.recipient, change, now)]
            for one in changed:
                self._stored.note(JournalEntry(one.message, now, ALTERED[change], one.id, {"by": by}))
            destinations = dict.fromkeys([one.destination for one in changed])
            return Altered(len(changed), page.cursor, tuple([one.id for one in changed]), tuple(destinations))

        return self._do(alter)

    def _alter(self, one: Recipient, change: Change, now: float) -> bool:
        if one.state is not State.QUEUED:
            return False
        if change is Change.REMOVE:
            self._stored.put(one, state=State.REMOVED, held=False, owner=0, lease_until=0.0, token=one.token + 1)
        elif change is Change.RETRY and not one.owner:
            self._stored.put(one, next_attempt=now)
        elif change in (Change.HOLD, Change.RELEASE) and one.held is (change is Change.RELEASE):
            self._stored.put(one, held=not one.held)
        else:
            return False
        return True

    def events(self, message: int) -> Deferred[list[JournalEntry]]:
        return self._do(lambda: list(self._stored.journal.get(message, ())))

    def status(self) -> Deferred[SpoolStatus]:
        def count() -> SpoolStatus:
            queued = [one for one in self._stored.recipients.values() if one.state is State.QUEUED]
            oldest = min([self._stored.messages[one.message][0].received_at for one in queued], default=0.0)
            held, claimed = sum(one.held for one in queued), sum(one.owner != 0 for one in queued)
            messages, stored = len(self._stored.messages), self._stored
            return SpoolStatus(
                self.shard, messages, len(queued), held, claimed, oldest, 0, 0, 1 << 40, 1.0, stored.commits,
                stored.accepted,
            )  # fmt: skip

        return self._do(count)

    # --- what is over ---------------------------------------------------------------------------------------------

    def move_finished(self, now: float, limit: int = 500) -> Deferred[int]:
        def move() -> int:
            stored = self._stored
            over = [
                m for m in sorted(stored.finished) if all(one.state is not State.QUEUED for one in self._stored.of(m))
            ]
            for number in over[:limit]:
                message, content = stored.messages.pop(number)
                stored.history[number] = Told(message, self._stored.of(number), stored.journal.pop(number))
                for recipient in stored.of_message.pop(number):
                    del stored.recipients[recipient]
                if isinstance(content.body, BodyFile):
                    stored.bodies.pop(content.body.path, None)
                    self._taken.discard(content.body.path)
                stored.finished.discard(number)
            return len(over[:limit])

        return self._do(move)

    def close(self) -> Deferred[None]:
        if not self._closed and not self._crashed:
            self._commit()
            self._closed = True
            if self._folder is not None:
                self._folder.cleanup()
        return succeed(None)
