"""Opening an SQLite file as a spool must have it, and bringing its schema up to date.

Nothing here believes a pragma: what must hold is read back.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import apsw

from mta.spool.contract import SpoolUnusable

SQLITE_OLDEST = (3, 51, 3)  # before it, a WAL reset during a checkpoint could corrupt the database
SCHEMA = Path(__file__).parent / "schema"
# 8 KiB: a message of 10 KB fills one page and a part of the next. Measured, batches of 10, checkpoints included: 0.036 ms CPU a
# message for its content, against 0.055 with 4 KiB (more write calls) and 0.048 with 16 KiB (half-empty pages are written whole).
# Growing the file in chunks (SQLITE_FCNTL_CHUNK_SIZE) costs 0.020 more.
PAGE_OCTETS = 8192
# Filled by use alone. What is relayed within seconds is dropped again by pages that are still here: 16 MiB made a relayed message 10 to 14 %
# dearer, in every of four pairs of runs, because its pages had to be read back to be freed.
_CACHE_KIB = 64 * 1024
STATEMENTS_KEPT = 200  # inserts of 1 to 16 rows into three tables, and the rest
BUSY_MS = 10_000
_FULL = 2
# Without it SQLite compiles a statement anew for each value bound to it, when a partial index makes it look at the value: reading
# the recipients of a message took 22 us instead of 4.
_STABLE_PLANS = apsw.SQLITE_DBCONFIG_ENABLE_QPSG
_VERSIONED = re.compile(r"(\d{4})\.sql")


def check_sqlite(version: str = "") -> None:
    """Raises SpoolUnusable when SQLite is too old to be trusted with mail."""
    version = version or apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")[:3]) < SQLITE_OLDEST:
        oldest = ".".join(map(str, SQLITE_OLDEST))
        raise SpoolUnusable(
            f"SQLite {version} can corrupt the spool (a WAL reset during a checkpoint); {oldest} or newer is needed. "
            "Install a newer apsw: pip install --upgrade apsw"
        )


def open_writer(path: Path, vfs: str | None = None) -> apsw.Connection:
    """A connection that writes: WAL, every commit synced, checkpoints left to us. Raises SpoolUnusable, apsw.Error."""
    connection = apsw.Connection(str(path), vfs=vfs, statementcachesize=STATEMENTS_KEPT)
    try:
        connection.set_busy_timeout(BUSY_MS)
        connection.config(_STABLE_PLANS, 1)
        connection.execute(f"PRAGMA page_size={PAGE_OCTETS}")  # of a new file; an old one keeps its own
        mode = connection.pragma("journal_mode", "WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.wal_autocheckpoint(0)
        # With NORMAL a power cut lost everything acknowledged: nothing is accepted before both were read back.
        if mode != "wal" or connection.pragma("synchronous") != _FULL:
            raise SpoolUnusable(
                f"{path} can't be opened with a write-ahead log (it says {mode!r}): is it on a local file system?"
            )
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def committing(connection: apsw.Connection) -> Iterator[None]:
    """One transaction, durable at the end. Raises apsw.Error.

    apsw's own `with connection` keeps the interpreter to itself while it syncs: the reactor stood still for 50 ms each time.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def open_reader(path: Path, vfs: str | None = None) -> apsw.Connection:
    """A connection that only reads, beside the writer. Raises apsw.Error."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    connection.set_busy_timeout(BUSY_MS)
    connection.config(_STABLE_PLANS, 1)
    connection.execute("PRAGMA query_only=ON")
    return connection


def has_tables(connection: apsw.Connection) -> bool:
    found = connection.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'meta'").get
    return bool(found)


def newest_schema(folder: Path) -> int:
    return max(_scripts(folder))


def migrate(connection: apsw.Connection, folder: Path) -> tuple[int, int]:
    """Apply the files of `folder` that the database has not had. (Version found, version now); 0 found: it was new.

    Each file is one transaction with its version number. Raises SpoolUnusable for a database newer than this program:
    it may hold what we would lose.
    """
    scripts = _scripts(folder)
    found = connection.execute("SELECT schema_version FROM meta").get if has_tables(connection) else 0
    newest = max(scripts)
    if found > newest:
        raise SpoolUnusable(
            f"{connection.filename} has schema {found}, written by a newer release; this one knows {newest}. "
            "Start the newer release again: there is no way back"
        )
    for version in range(found + 1, newest + 1):
        with committing(connection):
            connection.execute(scripts[version].read_text(encoding="utf-8"))
            if version > 1:
                connection.execute("UPDATE meta SET schema_version = ?", (version,))
            elif not connection.execute("SELECT count(*) FROM meta").get:
                _first_meta(connection)
    return found, newest


def _first_meta(connection: apsw.Connection) -> None:
    columns = [row[1] for row in connection.execute("PRAGMA table_info(meta)")]
    values = {"schema_version": 1, "shard": 0, "marker": "", "high_water": 0}
    places = ",".join("?" * len(columns))
    connection.execute(f"INSERT INTO meta VALUES ({places})", [values[name] for name in columns])


def _scripts(folder: Path) -> dict[int, Path]:
    found = {int(hit[1]): path for path in folder.iterdir() if (hit := _VERSIONED.fullmatch(path.name))}
    if sorted(found) != list(range(1, len(found) + 1)):
        raise SpoolUnusable(f"the schema files in {folder} are not complete; install txmta again")
    return found
