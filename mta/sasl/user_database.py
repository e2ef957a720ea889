"""The own user store: a SQLite file with SCRAM verifiers, kept by `mta user`, read by the daemon.

Of each password three verifiers are made together (SHA-1, -256, -512), so that no mechanism that comes later needs a
password reset; the password itself is nowhere. The file also has the secret of the decoys (verifier.decoy): they have to
be the same after a restart.

Each call opens the file anew (about 0.2 ms, beside a 30 ms key derivation): the file may be replaced at any time, and
threads share nothing. The journal is SQLite's rollback journal, not WAL: readers need no right to write beside the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from mta.config.secret_file import exposure
from mta.sasl.refusal import BackendUnavailable
from mta.sasl.saslprep import saslprep
from mta.sasl.verifier import HASHES, ROUNDS, SALT_OCTETS, Hash, Verifier, derive

APPLICATION_ID = 0x6D746175  # "mtau"
SCHEMA_VERSION = 1
BUSY_SECONDS = 2.0
SECRET_OCTETS = 32
SETTLED_SECONDS = 1.0  # a file changed more recently could change again without its time telling

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE meta (
    key         TEXT PRIMARY KEY,   -- 'decoy_secret': makes the salts of users that don't exist; set once, at creation
    value       BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE user (
    name        TEXT PRIMARY KEY,   -- user@domain, as mta.sasl.names.user_name spells it
    created_at  REAL NOT NULL,      -- wall time, by `mta user add`
    changed_at  REAL NOT NULL       -- of the password, by `mta user add` and `passwd`
) WITHOUT ROWID;
CREATE TABLE verifier (             -- one for each hash; all made from one password together
    user        TEXT NOT NULL REFERENCES user (name) ON DELETE CASCADE,
    hash        TEXT NOT NULL,      -- sha1, sha256, sha512
    rounds      INTEGER NOT NULL,   -- iterations of PBKDF2
    salt        BLOB NOT NULL,
    stored_key  BLOB NOT NULL,      -- RFC 5802 section 3
    server_key  BLOB NOT NULL,
    PRIMARY KEY (user, hash)
) WITHOUT ROWID;
"""


class UserExists(Exception):
    """There is such a user already."""


class UserMissing(Exception):
    """There is no such user."""


@dataclass(frozen=True, slots=True)
class UserInfo:
    """What a listing shows."""

    name: str
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, repr=False)
class UserRow:
    """One user's verifiers. `fingerprint` changes when the password does."""

    name: str
    verifiers: dict[Hash, Verifier]

    @property
    def fingerprint(self) -> bytes:
        parts = [self.verifiers[hash_name] for hash_name in sorted(self.verifiers)]
        return hashlib.sha256(b"".join(one.salt + one.stored_key for one in parts)).digest()


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells that the file has changed."""

    inode: int
    size: int
    changed_ns: int


class UserDatabase:
    """The database at `path`. Every method raises BackendUnavailable when the file is missing, exposed, locked or broken."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._busy_ms = int(busy_seconds * 1000)

    def create(self, random: Callable[[int], bytes], *, owner: tuple[int, int] | None = None) -> None:
        """Make the file, whole or not at all, mode 0600 from its first moment.

        `owner`: uid and gid, where root makes it for the daemon. Raises FileExistsError, OSError.
        """
        unfinished = UserDatabase(self.path.with_name(f".{self.path.name}.{random(8).hex()}"))
        descriptor = os.open(unfinished.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.close(descriptor)
            with unfinished._opened(check=False) as database, database:
                for _ in database.execute(_SCHEMA):
                    pass
                database.execute("INSERT INTO meta VALUES ('decoy_secret', ?)", (random(SECRET_OCTETS),))
            os.link(unfinished.path, self.path)  # unlike rename, it never replaces
        finally:
            os.unlink(unfinished.path)

    def state(self) -> FileState:
        """The file as it is now; quick. Raises BackendUnavailable."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise BackendUnavailable(f"user database {self.path}: {error.strerror}") from None
        return FileState(status.st_ino, status.st_size, status.st_mtime_ns)

    def find(self, name: str) -> UserRow | None:
        with self._opened() as database:
            rows: list[Any] = database.execute(
                "SELECT hash, rounds, salt, stored_key, server_key FROM verifier WHERE user = ?", (name,)
            ).fetchall()
        verifiers = {row[0]: Verifier(*row) for row in rows if row[0] in HASHES}
        return UserRow(name, verifiers) if verifiers else None

    def names(self) -> frozenset[str]:
        with self._opened() as database:
            return frozenset(str(name) for (name,) in database.execute("SELECT name FROM user"))

    def users(self) -> list[UserInfo]:
        with self._opened() as database:
            rows: list[Any] = database.execute("SELECT name, created_at, changed_at FROM user ORDER BY name").fetchall()
        return [UserInfo(*row) for row in rows]

    def decoy_secret(self) -> bytes:
        with self._opened() as database:
            rows: list[Any] = database.execute("SELECT value FROM meta WHERE key = 'decoy_secret'").fetchall()
        if not rows:
            raise BackendUnavailable(f"user database {self.path}: its secret is missing")
        return bytes(rows[0][0])

    def add(self, name: str, password: str, *, now: float, random: Callable[[int], bytes]) -> None:
        """`name` by names.user_name, with stored=True. Raises UserExists, ProhibitedText. Slow: three key derivations."""
        verifiers = make_verifiers(password, random)
        with self._opened() as database, database:
            try:
                database.execute("INSERT INTO user VALUES (?, ?, ?)", (name, now, now))
            except apsw.ConstraintError:
                raise UserExists(name) from None
            _insert(database, name, verifiers)

    def change_password(self, name: str, password: str, *, now: float, random: Callable[[int], bytes]) -> None:
        """Raises UserMissing, ProhibitedText. Slow."""
        verifiers = make_verifiers(password, random)
        with self._opened() as database, database:
            database.execute("UPDATE user SET changed_at = ? WHERE name = ?", (now, name))
            if not database.changes():
                raise UserMissing(name)
            database.execute("DELETE FROM verifier WHERE user = ?", (name,))
            _insert(database, name, verifiers)

    def delete(self, name: str) -> None:
        """Raises UserMissing."""
        with self._opened() as database, database:
            database.execute("DELETE FROM user WHERE name = ?", (name,))
            if not database.changes():
                raise UserMissing(name)

    @contextlib.contextmanager
    def _opened(self, *, check: bool = True) -> Iterator[apsw.Connection]:
        database = None
        try:
            exposed = exposure(self.path)
            if exposed:
                raise BackendUnavailable(exposed)
            # Writable if the file is: only so can a reader undo what a crashed writer left half done.
            database = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            database.set_busy_timeout(self._busy_ms)
            database.execute("PRAGMA foreign_keys = ON")
            if check:
                self._check(database)
            yield database
        except OSError as error:
            forbidden = isinstance(error, PermissionError)
            raise BackendUnavailable(f"user database {self.path}: {error.strerror}", forbidden=forbidden) from None
        except apsw.Error as error:
            forbidden = isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError) or not os.access(
                self.path, os.R_OK
            )
            raise BackendUnavailable(f"user database {self.path}: {error}", forbidden=forbidden) from None
        finally:
            if database is not None:
                database.close()

    def _check(self, database: apsw.Connection) -> None:
        if database.pragma("application_id") != APPLICATION_ID:
            raise BackendUnavailable(f"user database {self.path}: is no user database")
        if database.pragma("user_version") != SCHEMA_VERSION:
            raise BackendUnavailable(f"user database {self.path}: made by another version of this program")


def make_verifiers(password: str, random: Callable[[int], bytes]) -> list[Verifier]:
    """Raises ProhibitedText. Slow: a key derivation for each hash."""
    prepared = saslprep(password, stored=True)
    return [derive(prepared, hash_name, random(SALT_OCTETS), ROUNDS) for hash_name in HASHES]


def _insert(database: apsw.Connection, name: str, verifiers: list[Verifier]) -> None:
    database.executemany(
        "INSERT INTO verifier VALUES (?, ?, ?, ?, ?, ?)",
        [(name, one.hash, one.rounds, one.salt, one.stored_key, one.server_key) for one in verifiers],
    )
