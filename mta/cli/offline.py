"""The spool of a stopped daemon, read without its lock: for the verbs that change nothing.

The very operations of the daemon run here, on a house whose shards are read-only connections. Nothing is locked or written, so a
daemon that starts meanwhile is not disturbed; what it changes is seen or not seen, a page at a time.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import apsw
from twisted.internet.defer import Deferred, succeed

from mta.admin.archive import FileArchive
from mta.admin.errors import CONFIGURATION, NOT_ALLOWED, TEMPORARY, UNAVAILABLE, VerbError
from mta.admin.house import Caller, House
from mta.admin.operations import VERBS
from mta.cli.fault import Trouble
from mta.config.load import load_settings
from mta.config.problem import ConfigurationError
from mta.config.settings import Settings
from mta.mail.envelope import Message, Recipient
from mta.spool import queries
from mta.spool.contract import JournalEntry, Page, Selection, SpoolError, SpoolStatus
from mta.spool.database import open_reader
from mta.spool.disk import ShardPaths, shards_of
from mta.spool.history import History

_COUNTS = """
SELECT (SELECT count(*) FROM message), count(*), coalesce(sum(held), 0), coalesce(sum(owner <> 0), 0) FROM recipient WHERE state = 0"""
_OLDEST = "SELECT coalesce(min(m.received_at), 0) FROM message AS m WHERE m.id IN (SELECT message FROM recipient WHERE state = 0)"


class ShardReader:
    """mta.admin.house.ReadableSpool on the files of one shard. Its Deferreds have fired already."""

    def __init__(self, paths: ShardPaths) -> None:
        """Raises apsw.Error, OSError."""
        self.shard = paths.shard
        self._paths = paths
        paths.database.stat()  # else SQLite says no more than "unable to open"
        self._connection = open_reader(paths.database)

    def message(self, message: int) -> Deferred[tuple[Message, tuple[Recipient, ...]] | None]:
        return succeed(queries.message(self._connection, message))

    def select(self, selection: Selection, limit: int, cursor: int = 0) -> Deferred[Page]:
        return succeed(queries.select(self._connection, selection, limit, cursor))

    def events(self, message: int) -> Deferred[list[JournalEntry]]:
        return succeed(queries.events(self._connection, message))

    def status(self) -> Deferred[SpoolStatus]:
        messages, queued, held, claimed = self._connection.execute(_COUNTS).get
        disk = os.statvfs(self._paths.root)
        shares = [disk.f_bavail / max(1, disk.f_blocks)]
        if disk.f_files:  # some file systems count no inodes
            shares.append(disk.f_favail / disk.f_files)
        return succeed(
            SpoolStatus(
                shard=self.shard,
                messages=messages,
                queued=queued,
                held=held,
                claimed=claimed,
                oldest_received_at=self._connection.execute(_OLDEST).get,
                database_octets=_size(self._paths.database),
                wal_octets=_size(self._paths.database.with_name(self._paths.database.name + "-wal")),
                free_octets=disk.f_bavail * disk.f_frsize,
                free_share=min(shares),
                commits=0,
                accepted=0,
            )
        )

    def close(self) -> None:
        self._connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Offline:
    """Verbs as the control socket offers them. Raises Trouble."""

    def __init__(self, configuration: Path) -> None:
        try:
            settings = load_settings(configuration, 0, checks=False)
        except ConfigurationError as error:
            raise Trouble(f"the configuration has errors; see `mta config check`\n{error}", CONFIGURATION) from error
        self._readers: list[ShardReader] = []
        self.house = self._open(settings)

    def _open(self, settings: Settings) -> House:
        root = settings.configuration.spool.path
        try:
            if not root.is_dir():
                raise Trouble(f"the daemon is not running, and there is no spool in {root}", UNAVAILABLE)
            for shard in shards_of(root):
                self._readers.append(ShardReader(ShardPaths(root, shard)))
        except PermissionError as error:
            raise Trouble(f"you may not read {error.filename or root}", NOT_ALLOWED) from error
        except (OSError, apsw.Error) as error:
            raise Trouble(f"the spool in {root} can't be read: {error}", TEMPORARY) from error
        paths = ShardPaths(root, 0)
        archive = FileArchive(History(paths.history), paths.refusals, lambda work: succeed(work()))
        return House(settings=lambda: settings, readers=tuple(self._readers), archive=archive, running=False)

    def call(self, verb: str, **arguments: object) -> Any:
        """The result of a verb that reads."""
        known = VERBS[verb]
        if not known.reads:
            raise Trouble("this needs a running daemon", UNAVAILABLE)
        results: list[Any] = []
        failures: list[BaseException] = []
        caller = Caller(os.getuid(), getpass.getuser())
        done = Deferred.fromCoroutine(known.operation(self.house, caller, arguments))
        done.addCallbacks(results.append, lambda failure: failures.append(failure.value))
        for error in failures:
            if isinstance(error, VerbError):
                raise Trouble(str(error), error.code, error.details) from error
            if isinstance(error, apsw.Error | SpoolError | OSError):
                raise Trouble(f"the spool can't be read: {error}", TEMPORARY) from error
            raise error
        return results[0]

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()
