"""Spools under test: letters to put in, and the two backends behind one face, that can lose their power."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import apsw
from twisted.internet.defer import Deferred

from mta.mail.address import NULL_PATH, Address
from mta.mail.envelope import BodyFile, Content, Kind, Message, NewRecipient, Recipient, State
from mta.spool.contract import Acceptance, Event, JournalEntry, RecipientChange, Settlement, Spool
from mta.spool.day import Day, Told, days
from mta.spool.memory import MemorySpool
from mta.spool.sqlite import SqliteSpool, open_spool
from mta.testing.pumped_reactor import PumpedReactor

Result = TypeVar("Result")
START = 1_800_000_000.0
OWNER = 11
HEADER = b"Subject: a letter\r\n"


def digest(header: bytes, body: bytes) -> bytes:
    return hashlib.sha256(header + b"\r\n" + body).digest()


def letter(
    identifier: int,
    *recipients: NewRecipient | str,
    now: float = START,
    sender: str = "sender@example.org",
    body: bytes | BodyFile = b"Hello\r\n",
    sha256: bytes = b"",
    claim_for: int = 0,
    lease_until: float = START + 1e9,
    journal: tuple[JournalEntry, ...] = (),
    **fields: Any,
) -> Acceptance:
    """An acceptance; recipients by address go to "mx:their domain". A body in a file needs its `sha256`."""
    content = Content(HEADER, body)
    local, _, domain = sender.rpartition("@")
    message = Message(
        id=identifier,
        kind=fields.pop("kind", Kind.RELAY),
        reverse_path=Address(local, domain) if sender else NULL_PATH,
        received_at=now,
        expires_at=now + 5 * 86400,
        size=content.size,
        sha256=sha256 or (digest(HEADER, body) if isinstance(body, bytes) else b""),
        **fields,
    )
    return Acceptance(
        message,
        tuple([recipient(one) if isinstance(one, str) else one for one in recipients or ("user@example.net",)]),
        content,
        claim_for,
        lease_until if claim_for else 0.0,
        journal,
    )


def recipient(address: str, destination: str = "", **fields: Any) -> NewRecipient:
    local, _, domain = address.rpartition("@")
    return NewRecipient(Address(local, domain), address, destination or f"mx:{domain}", **fields)


def outcome(one: Recipient, state: State, now: float = START, **fields: Any) -> Settlement:
    """A settlement of one recipient, with its journal line."""
    kind = Event.DEFERRED if state is State.QUEUED else Event[state.name]
    change = RecipientChange(
        one.id, one.token, state, attempts=one.attempts + 1,
        **{name: fields.pop(name) for name in ("code", "status", "text", "next_attempt", "uncertain") if name in fields},
    )  # fmt: skip
    return Settlement(
        one.message, (change,), journal=(JournalEntry(one.message, now, kind, one.id, {"try": 1}),), **fields
    )


class MemoryHouse:
    """MemorySpool, with commits that wait until the test lets them go."""

    def __init__(self, _: Path) -> None:
        self.reactor = PumpedReactor()
        self.now = START
        self.spool: Spool = MemorySpool(clock=lambda: self.now, reactor=self.reactor)

    def wait(self, deferred: Deferred[Result]) -> Result:
        self.reactor.advance(0)
        return self.reactor.wait(deferred)

    def send(self, deferred: Deferred[Any]) -> Deferred[Any]:
        """Not waited for: what becomes of it is not known when the power goes."""
        return deferred.addErrback(lambda _: None)

    def crash(self, *, committed: bool) -> None:
        """The power goes; `committed`: what was sent had reached the disk, though nobody heard of it."""
        assert isinstance(self.spool, MemorySpool)
        if committed:
            self.reactor.advance(0)
        self.spool = self.spool.crash()

    def told(self) -> list[Told]:
        assert isinstance(self.spool, MemorySpool)
        return list(self.spool.history.values())

    def bodies(self) -> set[str]:
        assert isinstance(self.spool, MemorySpool)
        return set(self.spool._stored.bodies)

    def close(self) -> None:
        self.wait(self.spool.close())


class SqliteHouse:
    """SqliteSpool; a crash abandons the running one, and opens another on a copy of its files as they were at that moment."""

    def __init__(self, folder: Path) -> None:
        self.reactor = PumpedReactor()
        self.now = START
        self._folder, self._generation = folder, 0
        self._abandoned: list[tuple[SqliteSpool, threading.Event]] = []
        self.root = folder / "0"
        self._open()

    def _open(self) -> None:
        self.sqlite = open_spool(self.root, 0, reactor=self.reactor, clock=lambda: self.now, create=True)
        self.spool: Spool = self.sqlite
        self._hold: threading.Event | None = None

    def wait(self, deferred: Deferred[Result]) -> Result:
        return self.reactor.wait(deferred)

    def send(self, deferred: Deferred[Any]) -> Deferred[Any]:
        return deferred.addErrback(lambda _: None)

    def hold_commits(self) -> None:
        """From now on no commit is made: a transaction of another connection stands before the writer."""
        self._hold = hold = threading.Event()
        ready = threading.Event()

        def stand_in_the_way() -> None:
            connection = apsw.Connection(str(self.sqlite._paths.database))
            connection.execute("BEGIN IMMEDIATE")
            ready.set()
            hold.wait(30)
            connection.execute("ROLLBACK")
            connection.close()

        threading.Thread(target=stand_in_the_way, daemon=True).start()
        ready.wait(10)

    def crash(self, *, committed: bool) -> None:
        if committed:
            # Works are done in their order: when this one is, what was sent before it is on disk.
            self.wait(self.spool.unclaim(()))
        self._generation += 1
        copy = self._folder / str(self._generation)
        # By another process: to open and close a database here would drop SQLite's own locks.
        subprocess.run(["cp", "-r", str(self.root), str(copy)], check=True)
        self._abandon()
        self.root = copy
        self._open()

    def _abandon(self) -> None:
        if self._hold is not None:
            self._hold.set()
        self.sqlite.close().addErrback(lambda _: None)

    def told(self) -> list[Told]:
        """All that is in the history; a message twice if it is there twice."""
        found: list[Told] = []
        for _, path in days(self.root / "history"):
            with contextlib.closing(Day(path)) as day:
                numbers: list[int] = [row[0] for row in day.connection.execute("SELECT id FROM message")]
                found += [told for number in numbers if (told := day.message(number)) is not None]
        return found

    def bodies(self) -> set[str]:
        for lane in self.sqlite._bodies._lanes:  # behind what they were given to remove
            self.wait(lane.submit(lambda: None))
        return {f"body/{path.name}" for path in (self.root / "0" / "body").iterdir()}

    def close(self) -> None:
        self._abandon()
        self.reactor.wait(self.sqlite.close())


House = MemoryHouse | SqliteHouse
HOUSES: Iterable[type[MemoryHouse] | type[SqliteHouse]] = (MemoryHouse, SqliteHouse)
