"""Which users exist, in memory: for RCPT, where the answer must be quick and must not tell by its time who is known."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from mta.mail.address import Address
from mta.sasl.names import user_of, without_tag
from mta.sasl.refusal import BackendUnavailable
from mta.sasl.threads import Threads
from mta.sasl.user_database import FileState, UserDatabase

_log = Logger()


class UserTable:
    """The names of one database. A database that breaks later leaves the last good table in force."""

    def __init__(self, database: UserDatabase, threads: Threads) -> None:
        self._database = database
        self._threads = threads
        self._names: frozenset[str] | None = None
        self._state: FileState | None = None
        self._loading = False
        self._problem = ""

    def __len__(self) -> int:
        return len(self._names or ())

    def load(self) -> None:
        """Read the names here and now: at start and at a reload. What can't be read is logged and stays unknown."""
        try:
            self._state, self._names = self._read()
        except BackendUnavailable as error:
            self._complain(error.cause)

    def refresh(self) -> Deferred[bool]:
        """Read them again if the file has changed; fires with whether it had. Called by a timer; never fails."""
        try:
            unchanged = self._names is not None and self._database.state() == self._state
        except BackendUnavailable as error:
            self._complain(error.cause)
            return succeed(False)
        if unchanged or self._loading:
            return succeed(False)
        self._loading = True
        return self._threads.run(self._read).addCallbacks(self._swap, self._failed)

    def user(self, address: Address) -> str:
        """The user whose mailbox this is, "" for none. Raises BackendUnavailable while nothing was ever read."""
        names = self._names
        if names is None:
            raise BackendUnavailable(f"user database {self._database.path}: not read yet")
        name = user_of(address)
        if name in names:
            return name
        name = without_tag(name)
        return name if name in names else ""

    def _read(self) -> tuple[FileState, frozenset[str]]:
        return self._database.state(), self._database.names()  # the state first: a change between the two shows later

    def _swap(self, loaded: tuple[FileState, frozenset[str]]) -> bool:
        self._loading = False
        self._problem = ""
        self._state, self._names = loaded
        return True

    def _failed(self, caught: object) -> bool:
        self._loading = False
        error = getattr(caught, "value", None)
        self._complain(error.cause if isinstance(error, BackendUnavailable) else type(error).__name__)
        return False

    def _complain(self, problem: str) -> None:
        """Once for each problem: the timer comes every few seconds."""
        if problem != self._problem:
            self._problem = problem
            _log.error("{problem}", problem=problem)
