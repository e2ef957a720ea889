"""A shard of the spool in SQLite: the contract's face, over the writer, a reader, a keeper, and the bodies' threads.

    reactor ── accept, settle, claim, verbs ──→ writer   group commit (writer.py)
            ── due destinations, content ─────→ reader   reads beside it (reading.py)
            ── listings, move_finished ───────→ keeper   long reads, copies to the history (mover.py)
            ── large bodies ──────────────────→ bodies   files (body.py)

All methods are called in the reactor thread, and their Deferreds fire there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import apsw
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from mta.mail.envelope import BodyFile, Content, Message, Recipient, State
from mta.mail.identifiers import IdentifierSource
from mta.spool import hops, queries
from mta.spool.body import Bodies, remove_orphans
from mta.spool.contract import (
    Acceptance,
    Accepted,
    Altered,
    BodyWriter,
    Change,
    Claimed,
    DestinationDue,
    DestinationRecord,
    DestinationWaiting,
    JournalEntry,
    Overdue,
    Page,
    Patience,
    Selection,
    Settled,
    Settlement,
    SpoolError,
    SpoolFailed,
    SpoolFull,
    SpoolStatus,
    SpoolUnusable,
)
from mta.spool.database import SCHEMA, check_sqlite, committing, migrate, open_writer
from mta.spool.disk import (
    FreeSpace,
    ShardLock,
    ShardPaths,
    check_marker,
    new_marker,
    prepare,
    read_marker,
    write_marker,
)
from mta.spool.history import History
from mta.spool.lane import Lane, Reactor
from mta.spool.mover import Mover
from mta.spool.reading import Damaged, Reading, checked_content
from mta.spool.rows import Row
from mta.spool.settling import Settle
from mta.spool.works import Accept, Alter, Claim, Drop, EndLeases, Quarantine, Recover, Unclaim, Work
from mta.spool.writer import HIGH_WATER_BLOCK, Writer

DROP_TOGETHER = 100  # messages deleted in one commit: more would make an acceptance wait for it


class SqliteSpool:
    """A Spool. Made by `open_spool`."""

    def __init__(
        self,
        paths: ShardPaths,
        lock: ShardLock,
        reactor: Reactor,
        clock: Callable[[], float],
        high_water: int,
        vfs: str | None,
    ) -> None:
        self.shard = paths.shard
        self._paths, self._lock, self._reactor, self._clock = paths, lock, reactor, clock
        self._source = IdentifierSource(paths.shard, clock, high_water)
        self._last_id = self._source.next()
        # Journal numbers grow within a boot, and from one boot to the next because each starts at a new ID.
        self.next_seq = count(self._last_id).__next__
        self._closed: Deferred[None] | None = None
        self.space = FreeSpace(paths.directory, reactor.seconds)
        self._writer = Writer(
            paths.database, self.shard, reactor, self.next_seq, lambda: self._last_id,
            vfs,
        )  # fmt: skip
        self._reading = Reading(paths.database, vfs)
        self._keeping = Reading(paths.database, vfs)
        self._mover = Mover(self._writer, paths.database, History(paths.history), vfs)
        self._reader = Lane(f"spool-{self.shard}-reader", reactor)
        self._keeper = Lane(f"spool-{self.shard}-keeper", reactor)
        self._bodies = Bodies(paths.directory, self.shard, reactor)
        self._writer.start()

    # --- what comes in --------------------------------------------------------------------------------------------

    def new_id(self) -> int:
        self._last_id = made = self._source.next()
        return made

    def has_room(self, octets: int) -> bool:
        return not self._writer.failing and self.space.has_room(octets, self._writer.owed_octets)

    def body_writer(self, message: int, resume: Callable[[], None]) -> BodyWriter:
        return self._bodies.writer(message, resume)

    def body_path(self, body: BodyFile) -> Path:
        return self._bodies.path(body)

    def accept(self, acceptances: Sequence[Acceptance]) -> Deferred[list[Accepted]]:
        if self._closed is None and self.space.must_stop():
            return fail(SpoolFull("the file system of the spool is nearly full"))
        accepted = self._do(Accept(acceptances, self))
        for one in acceptances:
            self.space.spend(one.message.size)
            if isinstance(one.content.body, BodyFile):
                accepted.addErrback(self._not_stored, self._bodies.take(one.content.body))
        return accepted

    def _not_stored(self, failure: Failure, writer: Any) -> Failure:
        if failure.check(SpoolFull):
            self.space.forget()
        # After an I/O error its row may be in the log all the same, until the shard is verified: then the next start decides.
        if writer is not None and not failure.check(SpoolFailed):
            writer.discard()
        return failure

    # --- what goes out --------------------------------------------------------------------------------------------

    def destinations_due(self, now: float, limit: int) -> Deferred[list[DestinationDue]]:
        if self._writer.claims.any_ended(now):
            ended: Deferred[Any] = self._do(EndLeases(self._writer.claims, now))
            return ended.addCallback(lambda _: self._read(queries.destinations_due, now, limit))
        return self._read(queries.destinations_due, now, limit)

    def due_of(self, destinations: Sequence[str]) -> Deferred[list[DestinationDue]]:
        return self._read(hops.due_of, destinations)

    def destinations(self) -> Deferred[list[DestinationRecord]]:
        return self._read(hops.records)

    def remember(self, records: Sequence[DestinationRecord]) -> Deferred[None]:
        return self._do(hops.Remember(records))

    def waiting(self) -> Deferred[list[DestinationWaiting]]:
        return self._keep(hops.waiting)

    def claim(
        self, destination: str, limit: int, owner: int, now: float, lease_until: float
    ) -> Deferred[list[Claimed]]:
        return self._do(Claim(self._writer.claims, destination, limit, owner, now, lease_until))

    def claim_overdue(self, patience: Patience, owner: int, lease_until: float, cursor: int = 0) -> Deferred[Overdue]:
        def take(found: tuple[list[int], int]) -> Any:
            recipients, following = found
            if not recipients:
                return Overdue((), following)
            claimed: Deferred[Any] = self._do(hops.ClaimRows(recipients, owner, lease_until))
            return claimed.addCallback(lambda rows: Overdue(tuple(rows), following))

        return self._keep(hops.overdue, patience, cursor).addCallback(take)

    def settle(self, settlements: Sequence[Settlement]) -> Deferred[list[Settled]]:
        return self._do(Settle(settlements, self))

    def unclaim(self, recipients: Sequence[tuple[int, int]]) -> Deferred[None]:
        return self._do(Unclaim(recipients))

    def recover(self, owner: int, now: float, jitter: Callable[[int], float]) -> Deferred[int]:
        return self._do(Recover(self._writer.claims, owner, now, jitter))

    # --- what is asked --------------------------------------------------------------------------------------------

    def content(self, message: int) -> Deferred[Content]:
        return self._read(checked_content, self._paths.directory, message).addErrback(self._quarantine, message)

    def _quarantine(self, failure: Failure, message: int) -> Any:
        if not failure.check(Damaged):
            return failure
        held: Deferred[Any] = self._do(Quarantine(message, self._clock(), failure.getErrorMessage()))
        return held.addCallback(lambda _: failure)

    def message(self, message: int) -> Deferred[tuple[Message, tuple[Recipient, ...]] | None]:
        return self._read(queries.message, message)

    def select(self, selection: Selection, limit: int, cursor: int = 0) -> Deferred[Page]:
        return self._keep(queries.select, selection, limit, cursor)

    def events(self, message: int) -> Deferred[list[JournalEntry]]:
        return self._read(queries.events, message)

    def alter(
        self, selection: Selection, change: Change, now: float, by: str, limit: int = 500, cursor: int = 0
    ) -> Deferred[Altered]:
        def change_rows(page: Page) -> Deferred[Altered]:
            rows = [
                (row.message.id, row.recipient.id, row.recipient.destination)
                for row in page.rows
                if row.recipient.state is State.QUEUED
            ]
            return self._do(Alter(rows, change, now, by, page.cursor))

        return self.select(selection, limit, cursor).addCallback(change_rows)

    def status(self) -> Deferred[SpoolStatus]:
        return self._read(queries.counts).addCallback(self._status)

    def _status(self, counted: tuple[int, int, int, float]) -> SpoolStatus:
        waiting, held, both, oldest = counted
        writer, space = self._writer, self.space
        space.look()
        claimed = len(writer.claims.held)
        return SpoolStatus(
            self.shard, writer.messages, waiting + held + claimed - both, held, claimed, oldest, size_of(self._paths.database),
            size_of(self._paths.database.with_name("spool.db-wal")), space.octets, space.share, writer.commits,
            writer.accepted, writer.failing,
        )  # fmt: skip

    # --- what is over ---------------------------------------------------------------------------------------------

    def move_finished(self, now: float, limit: int = 500) -> Deferred[int]:
        if self._closed is not None:
            return fail(SpoolError("the spool is closed"))
        return self._keeper.submit(self._mover.copy, limit).addCallback(self._drop, 0)

    def _drop(self, copied: list[int], dropped: int) -> Any:
        if not copied:
            return dropped
        those, rest = copied[:DROP_TOGETHER], copied[DROP_TOGETHER:]

        def gone(result: tuple[list[int], list[str]]) -> Any:
            if result[1]:
                self._keeper.send(self._bodies.unlink, result[1])
            return self._drop(rest, dropped + len(result[0]))

        def kept(failure: Failure) -> Failure:
            self._mover.again(copied)
            return failure

        return self._do(Drop(those)).addCallbacks(gone, kept)

    def close(self) -> Deferred[None]:
        if self._closed is None:
            self._closed = Deferred()
            for lane, last in ((self._reader, self._reading.close), (self._keeper, self._keeping.close)):
                lane.send(last)
                lane.stop()
            self._bodies.stop()
            threading.Thread(target=self._join, name=f"spool-{self.shard}-closing", daemon=True).start()
        return self._closed

    def _join(self) -> None:
        """Readers first, so that the writer can bring its log to an end."""
        for part in (self._reader, self._keeper, self._bodies):
            part.join()
        self._writer.stop()
        self._writer.join()
        self._lock.release()
        assert self._closed is not None
        self._reactor.callFromThread(self._closed.callback, None)

    # --- threads --------------------------------------------------------------------------------------------------

    def _do(self, work: Work) -> Deferred[Any]:
        if self._closed is not None:
            return fail(SpoolError("the spool is closed"))
        self._writer.submit(work)
        return work.deferred

    def _read(self, query: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        if self._closed is not None:
            return fail(SpoolError("the spool is closed"))
        return self._reader.submit(self._reading.ask, query, *arguments)

    def _keep(self, query: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Not in the reader's thread: a search through a long queue must not stand before what the scheduler asks."""
        if self._closed is not None:
            return fail(SpoolError("the spool is closed"))
        return self._keeper.submit(self._keeping.ask, query, *arguments)


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def open_spool(
    root: Path, shard: int, *, reactor: Reactor, clock: Callable[[], float], create: bool, vfs: str | None = None
) -> SqliteSpool:
    """A shard of the spool in `root`, locked. `clock`: wall time in seconds; `create`: make it when it is not there.

    `vfs` is for tests that let the disk fail. Raises SpoolLocked, SpoolUnusable, whose texts tell an administrator what to do.
    """
    check_sqlite()
    paths = ShardPaths(root, shard)
    prepare(paths, create=create)
    lock = ShardLock(paths.lock)
    try:
        check_marker(paths, create=create)
        try:
            high_water = _make_ready(paths, clock, vfs)
            History(paths.history).mend()
            return SqliteSpool(paths, lock, reactor, clock, high_water, vfs)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise SpoolUnusable(
                f"the spool database {paths.database} is damaged ({error}). Keep a copy of it; then save what can be saved "
                f"with: sqlite3 {paths.database} .recover"
            ) from error
        except (apsw.Error, OSError) as error:
            raise SpoolUnusable(f"the spool {paths.directory} can't be opened: {error}") from error
    except BaseException:
        lock.release()
        raise


def _make_ready(paths: ShardPaths, clock: Callable[[], float], vfs: str | None) -> int:
    """Schema, marker, orphans. Gives the mark below which every ID was made before."""
    connection = open_writer(paths.database, vfs)
    try:
        found, _ = migrate(connection, SCHEMA / "spool")
        if not found:
            with committing(connection):
                connection.execute("UPDATE meta SET shard = ?, marker = ?", (paths.shard, new_marker()))
        meta: Row | None = connection.execute("SELECT shard, marker, high_water FROM meta").fetchone()
        if meta is None:
            raise SpoolUnusable(f"{paths.database} is not whole: its table meta is empty. Restore it from a copy")
        shard, marker, high_water = meta
        if shard != paths.shard:
            raise SpoolUnusable(
                f"{paths.database} is the database of shard {shard}: it belongs into {paths.root / str(shard)}"
            )
        expected = read_marker(paths)
        if expected and expected != marker:
            raise SpoolUnusable(
                f"{paths.database} is not the database that {paths.marker} speaks of. If it was restored on purpose, remove "
                f"{paths.marker} and start again"
            )
        if not expected:
            write_marker(paths, marker)
        bodies = {name for (name,) in connection.execute("SELECT body_file FROM message WHERE body_file IS NOT NULL")}
        remove_orphans(paths.directory, bodies)
        for table in ("message", "recipient"):
            high_water = max(high_water, connection.execute(f"SELECT max(id) FROM {table}").get or 0)
        reserved = IdentifierSource(paths.shard, clock, high_water).next() + HIGH_WATER_BLOCK
        with committing(connection):
            connection.execute("UPDATE meta SET high_water = ?", (reserved,))
        return int(high_water)
    finally:
        connection.close(True)
