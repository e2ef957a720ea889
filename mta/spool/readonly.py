"""The spool of a stopped daemon, or of a running one from another process: read, without the lock, changing nothing.

The methods are those of the contract that only read; their Deferreds have fired when they are returned, so no reactor is needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import apsw
from twisted.internet.defer import Deferred, maybeDeferred

from mta.mail.envelope import Content, Message, Recipient
from mta.spool import hops, queries
from mta.spool.contract import (
    DestinationRecord,
    DestinationWaiting,
    JournalEntry,
    Page,
    Selection,
    SpoolStatus,
    SpoolUnusable,
)
from mta.spool.database import BUSY_MS, SCHEMA, check_sqlite, newest_schema
from mta.spool.disk import FreeSpace, ShardPaths, shards_of
from mta.spool.reading import checked_content


class SpoolForbidden(SpoolUnusable):
    """Its files belong to somebody else."""


class SpoolReader:
    """One shard, read only. Made by `open_reader`."""

    def __init__(self, paths: ShardPaths, connection: apsw.Connection) -> None:
        self.shard = paths.shard
        self._paths, self._connection = paths, connection

    def message(self, message: int) -> Deferred[tuple[Message, tuple[Recipient, ...]] | None]:
        return maybeDeferred(queries.message, self._connection, message)

    def select(self, selection: Selection, limit: int, cursor: int = 0) -> Deferred[Page]:
        return maybeDeferred(queries.select, self._connection, selection, limit, cursor)

    def events(self, message: int) -> Deferred[list[JournalEntry]]:
        return maybeDeferred(queries.events, self._connection, message)

    def destinations(self) -> Deferred[list[DestinationRecord]]:
        return maybeDeferred(hops.records, self._connection)

    def waiting(self) -> Deferred[list[DestinationWaiting]]:
        return maybeDeferred(hops.waiting, self._connection)

    def content(self, message: int) -> Deferred[Content]:
        """Fails with KeyError, or with SpoolFailed when it is not what was accepted (nothing is held for that here)."""
        return maybeDeferred(checked_content, self._connection, self._paths.directory, message)

    def status(self) -> Deferred[SpoolStatus]:
        return maybeDeferred(self._status)

    def _status(self) -> SpoolStatus:
        waiting, held, both, oldest = queries.counts(self._connection)
        claimed = self._connection.execute("SELECT count(*) FROM recipient WHERE owner <> 0").get
        messages = self._connection.execute("SELECT count(DISTINCT message) FROM recipient").get
        space = FreeSpace(self._paths.directory, lambda: 0.0)
        space.look()
        log = self._paths.database.with_name("spool.db-wal")
        return SpoolStatus(
            self.shard, messages, waiting + held + claimed - both, held, claimed, oldest, self._paths.database.stat().st_size,
            log.stat().st_size if log.exists() else 0, space.octets, space.share, 0, 0,
        )  # fmt: skip

    def close(self) -> None:
        self._connection.close(True)


def open_reader(root: Path, shard: int = 0) -> SpoolReader:
    """Raises SpoolUnusable, with what to do."""
    check_sqlite()
    paths = ShardPaths(root, shard)
    try:
        if not paths.database.exists():
            raise SpoolUnusable(f"there is no spool in {paths.directory}")
        connection = _connect(paths.database)
    except (apsw.Error, OSError) as error:
        if not isinstance(error, PermissionError) and os.access(paths.database, os.R_OK):
            raise SpoolUnusable(f"the spool {paths.database} can't be read: {error}") from error
        raise SpoolForbidden(
            f"the spool {paths.database} can't be read by user {os.geteuid()} ({error}); "
            "run the command as root or as the daemon's user"
        ) from error
    try:
        found = connection.execute("SELECT schema_version FROM meta").get
    except apsw.Error as error:
        connection.close(True)
        raise SpoolUnusable(f"{paths.database} is no spool database: {error}") from error
    known = newest_schema(SCHEMA / "spool")
    if found != known:
        connection.close(True)
        raise SpoolUnusable(f"{paths.database} has schema {found}, this release reads {known}; start its daemon once")
    return SpoolReader(paths, connection)


def open_readers(root: Path) -> list[SpoolReader]:
    """All shards. Raises SpoolUnusable."""
    return [open_reader(root, shard) for shard in shards_of(root)]


def _connect(database: Path) -> apsw.Connection:
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018 - now it is really opened
        return connection
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        connection.close(True)
        log = database.with_name(database.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise
    # A database that was closed has no log; a directory where we may not write can't get its lock file. Nobody changes it.
    return apsw.Connection(
        f"file:{quote(str(database))}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
