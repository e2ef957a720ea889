"""The reading side of a shard's database: one connection, used by one thread, opened when it is first needed.

Whoever reads the spool of a running shard does so beside the writer: SQLite's log gives each read one committed state.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import apsw

from mta.mail.envelope import BodyFile, Content
from mta.spool import queries
from mta.spool.contract import SpoolFailed
from mta.spool.database import open_reader

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_BLOCK_OCTETS = 256 * 1024


class Damaged(SpoolFailed):
    """The content is not what was accepted."""


class Reading:
    """Owns a reading connection; after an error it is opened anew."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self._path, self._vfs = path, vfs
        self._connection: apsw.Connection | None = None

    def ask(
        self,
        query: Callable[Concatenate[apsw.Connection, Parameters], Result],
        *arguments: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Result:
        """Raises SpoolFailed for what the disk did, and what the query raises."""
        try:
            if self._connection is None:
                self._connection = open_reader(self._path, self._vfs)
            return query(self._connection, *arguments, **options)
        except apsw.Error as error:
            self.close()
            raise SpoolFailed(f"the spool could not be read: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(apsw.Error):
                self._connection.close(True)
            self._connection = None


def checked_content(connection: apsw.Connection, directory: Path, message: int) -> Content:
    """Raises KeyError, Damaged; SpoolFailed where a file can't be read."""
    content, expected = queries.content(connection, message)
    if not expected:
        return content
    if not isinstance(content.header, bytes) or not isinstance(content.body, bytes | BodyFile):
        raise Damaged("the content is not what was accepted: it is of another type")
    digest = hashlib.sha256(content.header + b"\r\n")
    if isinstance(content.body, BodyFile):
        _digest_file(digest, directory / content.body.path)
    else:
        digest.update(content.body)
    if digest.digest() != expected:
        raise Damaged("the content is not what was accepted: its checksum differs")
    return content


def _digest_file(digest: Any, path: Path) -> None:
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_OCTETS):
                digest.update(block)
    except FileNotFoundError as error:
        raise Damaged(f"the file of the body is gone: {path}") from error
    except OSError as error:
        raise SpoolFailed(f"the body can't be read: {error.strerror}: {path}") from error
