"""A large body on its way to a peer: read in blocks by a thread, given on as fast as the peer takes them, never whole in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

BLOCK_OCTETS = 64 * 1024  # stuffing it takes 0.1 ms (law 13)


class InThread(Protocol):
    """Runs something that may block in a thread (deferToThreadPool with its reactor and pool bound)."""

    def __call__(self, work: Callable[[], bytes], /) -> Deferred[bytes]: ...


class BodyError(Exception):
    """The stored body is not what the row says. Nothing of it may be taken for the whole."""


@implementer(IPushProducer)
class BodyStream:
    """Reads one file, block after block, unless the transport says that it has enough (`pauseProducing`).

    `give` gets each block, `end` is called after the last, `fail` when the file can't be read or has another length; one of
    the latter two, once. After `stopProducing` nothing is called any more.
    """

    def __init__(
        self,
        path: Path,
        octets: int,
        in_thread: InThread,
        give: Callable[[bytes], None],
        end: Callable[[], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._path = path
        self._left = octets
        self._in_thread = in_thread
        self._give, self._end, self._fail = give, end, fail
        self._file: BinaryIO | None = None
        self._reading = self._paused = self._stopped = False

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._go_on()

    def _go_on(self) -> None:
        if self._reading or self._stopped or self._paused:
            return
        self._reading = True
        self._in_thread(self._read).addCallbacks(self._took, self._failed)

    def stopProducing(self) -> None:
        self._stopped = True
        if not self._reading:
            self._close()

    def _read(self) -> bytes:
        """In a thread."""
        if self._file is None:
            self._file = self._path.open("rb", buffering=0)
        return self._file.read(min(BLOCK_OCTETS, self._left + 1))

    def _took(self, block: bytes) -> None:
        self._reading = False
        if self._stopped:
            self._close()
            return
        self._left -= len(block)
        if self._left < 0 or (not block and self._left):
            self._stop_with(BodyError(f"{self._path.name}: {self._left:+d} octets differ from the record"))
        elif not block:
            self._stopped = True
            self._close()
            self._end()
        else:
            self._give(block)
            self._go_on()

    def _failed(self, failure: Failure) -> None:
        self._reading = False
        if self._stopped:
            self._close()
            return
        problem = failure.value
        self._stop_with(problem if isinstance(problem, Exception) else BodyError(str(problem)))

    def _stop_with(self, problem: Exception) -> None:
        self._stopped = True
        self._close()
        self._fail(problem)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
