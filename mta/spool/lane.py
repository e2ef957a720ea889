"""A thread that does blocking work in order and tells the reactor in batches: one wake-up for all that is done.

Spool threads are few and named by their duty; `deferToThread` would cost a hop of the reactor for each call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from mta.spool.contract import SpoolError

Result = TypeVar("Result")
_TOLD_TOGETHER = 50  # results that may wait for one another before the reactor is woken


class Reactor(Protocol):
    """What the spool needs of a reactor."""

    def callFromThread(self, function: Callable[..., Any], /, *args: Any) -> None: ...

    def seconds(self) -> float: ...


class Job:
    """One piece of work, its Deferred, and what became of it."""

    __slots__ = ("arguments", "deferred", "failure", "function", "result")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.deferred: Deferred[Any] = Deferred()
        self.result: Any = None
        self.failure: Failure | None = None


def tell(jobs: list[Job]) -> None:
    """In the reactor: fire what is done."""
    for job in jobs:
        if job.deferred.called:  # cancelled by who asked
            continue
        if job.failure is not None:
            job.deferred.errback(job.failure)
        else:
            job.deferred.callback(job.result)


class Lane:
    """`submit` in the reactor thread; functions run in the lane's thread, one after the other."""

    def __init__(self, name: str, reactor: Reactor) -> None:
        self._reactor = reactor
        self._stopped = False
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Deferred[Result]:
        if self._stopped:
            return fail(SpoolError("the spool is closed"))
        job = Job(function, arguments)
        self._queue.put(job)
        return job.deferred

    def send(self, function: Callable[..., object], *arguments: Any) -> None:
        """The same, with nobody waiting. Faults are swallowed: `function` keeps its own."""
        if self._stopped:
            return
        job = Job(function, arguments)
        job.deferred.addErrback(lambda _: None)
        self._queue.put(job)

    def stop(self) -> None:
        """End the thread behind what was submitted before. What is submitted later fails with SpoolError."""
        self._stopped = True
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        done: list[Job] = []
        while True:
            job = self._queue.get()
            if job is None:
                if done:
                    self._reactor.callFromThread(tell, done)
                return
            try:
                job.result = job.function(*job.arguments)
            except BaseException:  # noqa: BLE001 - who asked gets it, whatever it is
                job.failure = Failure()
                job.failure.cleanFailure()
            done.append(job)
            if len(done) >= _TOLD_TOGETHER or self._queue.empty():
                self._reactor.callFromThread(tell, done)
                done = []
