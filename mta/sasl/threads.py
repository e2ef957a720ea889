"""A few threads with a bounded queue for what must not run in the reactor: key derivation, reading a database.

PBKDF2 releases the interpreter's lock, so two threads use two cores. A login that finds the queue full is told to come
back later (454): a queue without a bound would make every login wait for an attack to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from mta.sasl.refusal import BackendUnavailable

THREADS = 2
WAITING_MAX = 100  # at 30 ms each in two threads: the last one waits 1.5 s

P = ParamSpec("P")
T = TypeVar("T")


class Threads(Protocol):
    """Runs a function elsewhere. A test runs it on the spot."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...


class BoundedThreads:
    """Threads start with the first use, so that this can be made before the daemon forks."""

    def __init__(self, reactor: Any, *, threads: int = THREADS, waiting: int = WAITING_MAX) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, name="mta-logins")
        self._places = threads + waiting
        self._busy = 0

    def start(self) -> None:
        if not self._pool.started:
            self._pool.start()

    def stop(self) -> None:
        """Wait for what runs (tens of milliseconds); what waits is run too."""
        if self._pool.started and not self._pool.joined:
            self._pool.stop()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        if self._busy >= self._places:
            return fail(BackendUnavailable("too many logins at once"))
        if not self._pool.started or self._pool.joined:
            return fail(BackendUnavailable("the login threads don't run"))
        self._busy += 1
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs).addBoth(self._done)

    def _done(self, result: T) -> T:
        self._busy -= 1
        return result
