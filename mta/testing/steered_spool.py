"""A spool whose commits do what a test says: at once, later, or not at all. Only what reception asks of a spool.

spool.wait = True           commits wait for `commit()`
spool.fails = SpoolFull()   they fail with it
spool.room = False          MAIL is told that the disk is full
spool.stalled = True        a large body's file takes nothing more until `drain()`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from mta.mail.envelope import BodyFile, NewRecipient, Recipient, State
from mta.mail.identifiers import IdentifierSource
from mta.spool.contract import Acceptance, Accepted, SpoolError


@dataclass
class SteeredBody:
    """A large body: its octets, and what has become of it."""

    spool: SteeredSpool
    name: str
    resume: Callable[[], None]
    octets: bytearray = field(default_factory=bytearray)
    aborted: bool = False
    finished: bool = False

    def write(self, block: bytes) -> bool:
        if self.aborted or self.finished:
            raise AssertionError("written to after its end")
        self.octets += block
        return not self.spool.stalled

    def finish(self) -> Deferred[BodyFile]:
        self.finished = True
        return self.spool.later(lambda: BodyFile(self.name, len(self.octets)))

    def abort(self) -> None:
        self.aborted = True


class SteeredSpool:
    """One shard."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.shard = 0
        self.wait = self.stalled = False
        self.room = True
        self.fails: SpoolError | None = None
        self.asked: list[Acceptance] = []  # what accept was called with
        self.committed: list[Accepted] = []
        self.bodies: dict[str, SteeredBody] = {}
        self._new_id = IdentifierSource(0, now).next
        self._waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def new_id(self) -> int:
        return self._new_id()

    def has_room(self, octets: int) -> bool:
        return self.room

    def body_writer(self, message: int, resume: Callable[[], None]) -> SteeredBody:
        body = self.bodies[str(message)] = SteeredBody(self, str(message), resume)
        return body

    def drain(self) -> None:
        """The disk has caught up."""
        self.stalled = False
        for body in list(self.bodies.values()):
            if not body.aborted and not body.finished:
                body.resume()

    def accept(self, acceptances: Sequence[Acceptance]) -> Deferred[list[Accepted]]:
        self.asked += acceptances
        return self.later(lambda: [self._insert(each) for each in acceptances])

    def _insert(self, acceptance: Acceptance) -> Accepted:
        message = acceptance.message
        rows = [
            _row(number, message.id, new, acceptance.claim_for)
            for number, new in enumerate(acceptance.recipients, len(self.committed) * 1000 + 1)
        ]
        accepted = Accepted(message, tuple(rows))
        self.committed.append(accepted)
        return accepted

    def later(self, work: Callable[[], Any]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self._waiting.append((deferred, work))
        if not self.wait:
            self.commit()
        return deferred

    def commit(self) -> None:
        """What waits happens now, or fails."""
        waiting, self._waiting = self._waiting, []
        for deferred, work in waiting:
            if self.fails is not None:
                deferred.errback(self.fails)
            else:
                deferred.callback(work())


def _row(number: int, message: int, new: NewRecipient, owner: int) -> Recipient:
    return Recipient(
        id=number,
        message=message,
        parent=new.parent,
        address=new.address,
        original=new.original,
        orcpt=new.orcpt,
        notify=new.notify,
        reverse_path=new.reverse_path,
        state=State.QUEUED,
        held=new.held,
        uncertain=False,
        priority=new.priority,
        destination=new.destination,
        route_generation=new.route_generation,
        next_attempt=new.next_attempt,
        attempts=0,
        delay_reported_at=0.0,
        last_code=0,
        last_status="",
        last_text="",
        owner=0 if new.held else owner,
        lease_until=0.0,
        token=1,
    )
