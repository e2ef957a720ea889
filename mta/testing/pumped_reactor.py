"""A reactor for tests of what uses threads: `callFromThread` queues, the test's own thread takes it out while it waits.

`wait(deferred)` runs what the threads ask for until the Deferred has fired. Time stands still until the test sets it.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

Result = TypeVar("Result")
DEADLINE_SECONDS = 30.0


class PumpedReactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self._queue: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., Any], /, *args: Any) -> None:
        self._queue.put((function, args))

    def turn(self) -> None:
        """Run what waits."""
        while not self._queue.empty():
            self._one()

    def wait(self, deferred: Deferred[Result]) -> Result:
        """The result; raises what it failed with, or TimeoutError."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        while not results:
            self._one()
        if isinstance(results[0], Failure):
            results[0].raiseException()
        found: Result = results[0]
        return found

    def _one(self) -> None:
        try:
            function, args = self._queue.get(timeout=DEADLINE_SECONDS)
        except Empty:
            raise TimeoutError("no thread came back to the reactor") from None
        function(*args)
