"""After an I/O error: open the database anew, and believe only what was written and synced again.

A sync that failed once may succeed the second time without having written anything: the kernel has dropped the pages or calls
them clean. So the log is not synced again: all of it is copied into the database, whose own sync then speaks of pages written
now, and begun anew. Then the database is looked over, and what was refused is undone, should its commit have reached the log.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

import apsw

from mta.spool.contract import SpoolFailed
from mta.spool.database import committing, open_writer

CHECK_SECONDS = 2.0  # at most; a large database is checked as far as that goes
_FREE = "UPDATE recipient SET owner = 0, lease_until = 0, token = token + 1 WHERE id = ? AND owner <> 0"
_CHECK_STEPS = 10_000  # virtual machine instructions between two looks at the clock


def reopen(
    path: Path, refused: Sequence[int], doubtful: Collection[int] = (), vfs: str | None = None
) -> apsw.Connection:
    """`refused` messages, and `doubtful` recipients whose claims nobody heard of: they are free again. Raises apsw.Error or SpoolFailed; nothing is left open then."""
    connection = open_writer(path, vfs)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        _check(connection)
        if refused or doubtful:
            with committing(connection):
                for message in refused:
                    for table, column in (("journal", "message"), ("recipient", "message"), ("message", "id")):
                        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (message,))
                connection.executemany(_FREE, [(recipient,) for recipient in doubtful])
    except BaseException:
        connection.close(True)
        raise
    return connection


def _check(connection: apsw.Connection) -> None:
    deadline = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _CHECK_STEPS)
    try:
        found = connection.execute("PRAGMA quick_check(1)").get
    except apsw.InterruptError:
        return
    finally:
        connection.set_progress_handler(None)
    if found != "ok":
        raise SpoolFailed(f"the spool database is damaged: {found}")
