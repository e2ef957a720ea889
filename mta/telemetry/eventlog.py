"""The event log: one line an event, the queue ID in each; what it says and means is in docs/event-log.md.

`event` formats once and appends to a list; the list goes to a writer thread every HAND_OVER_SECONDS. Nothing here raises,
waits or grows without a bound: when the target is full or stuck, lines are dropped, counted (`mta_log_lines_dropped_total`), and
the count is logged as `log-dropped` as soon as a line can be written again. Mail goes on.

Without the thread a full disk would stop the reactor for as long as the disk pleases. A hand-over each reactor turn would cost a
thread switch for the few events of a turn: measured 45 µs of CPU an event at one event a turn, 18 at five, 6 with this delay.

All methods are called in the reactor thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from mta.telemetry.lines import Stamp, Value, json_line, text_line
from mta.telemetry.metrics import counter
from mta.telemetry.writer import LineWriter, Target

HAND_OVER_SECONDS = 0.02  # a reader of the log doesn't see it; a crash of the process loses as much of the log
BACKLOG_LINES = 100_000  # waiting for the writer, at 150 octets some 15 MB
STOP_TIMEOUT_SECONDS = 5.0  # a stuck target must not keep the daemon from ending

_LINES = counter("mta_log_lines_total", "Lines handed to the event log's writer")
_DROPPED = counter("mta_log_lines_dropped_total", "Lines of the event log dropped: target full, stuck or failing")


class Events(Protocol):
    """What takes events: an EventLog, a NullLog, a test's list."""

    def event(self, name: str, message: int = 0, /, **fields: Value) -> None: ...


class EventLog:
    """The log of one process. `start` opens the target and starts the thread: call it after the daemon's fork.

    `reactor` needs callLater and callFromThread. Events before `start` wait in memory.
    """

    def __init__(
        self,
        reactor: Any,
        path: Path | str = "-",
        *,
        form: str = "text",
        stamp: Callable[[], str] | None = None,
        backlog_lines: int = BACKLOG_LINES,
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._stamp = stamp or Stamp()
        self._line = json_line if form == "json" else text_line
        self._backlog_lines = backlog_lines
        self._lines: list[str] = []
        self._scheduled = False
        self._writer: LineWriter | None = None
        self._stopped = False
        self._dropped_unreported = 0
        self._lost_seen = 0
        self.dropped_lines = 0

    def start(self) -> None:
        """Raises OSError when the target can't be opened."""
        self._open(Target(self._path))

    def _open(self, target: Target) -> None:
        self._writer = LineWriter(
            target, self._reactor.callFromThread, backlog_lines=self._backlog_lines, report=self._dropped_line
        )
        self._hand_over()

    def event(self, name: str, message: int = 0, /, **fields: Value) -> None:
        """Log one event. `name` and the keys are ours; values may be anything from the wire. Never raises.

        None leaves a field out; a trailing underscore of a key is dropped (`from_=`).
        """
        try:
            line = self._line(self._stamp(), name, message, fields)
        except Exception as error:  # noqa: BLE001 - a value whose str() raises: the event itself must still be seen
            line = self._line(self._stamp(), name, 0, {"log_fault": type(error).__name__, "fields": ",".join(fields)})
        self._lines.append(line)
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(HAND_OVER_SECONDS, self._hand_over)

    def _hand_over(self) -> None:
        self._scheduled = False
        lines, writer = self._lines, self._writer
        if writer is None:
            if len(lines) > self._backlog_lines:
                self._drop(len(lines))
                self._lines = []
            return
        if not lines:
            return
        self._lines = []
        if writer.lost_lines != self._lost_seen:
            lost, self._lost_seen = writer.lost_lines - self._lost_seen, writer.lost_lines
            self.dropped_lines += lost
            _DROPPED.value += lost
        if self._dropped_unreported:
            lines.insert(0, self._dropped_line(self._dropped_unreported, "the target is stuck"))
        if writer.take("".join(lines).encode("utf-8", "backslashreplace"), len(lines)):
            _LINES.value += len(lines)
            self._dropped_unreported = 0
        else:
            self._drop(len(lines) - bool(self._dropped_unreported))

    def _drop(self, number: int) -> None:
        self.dropped_lines += number
        self._dropped_unreported += number
        _DROPPED.value += number

    def _dropped_line(self, number: int, why: str) -> str:
        # also called in the writer thread: formats values of its own, and a Stamp of its own
        return self._line(Stamp()(), "log-dropped", 0, {"lines": number, "why": why})

    @property
    def fault(self) -> str:
        """Why the last lines were not written; "" when all is well. For `mta status`."""
        return self._writer.fault if self._writer is not None else ""

    def reopen(self, path: Path | str | None = None, form: str | None = None) -> Deferred[None]:
        """Open the target anew: after logrotate, or when a reload names another. Fails with OSError; the old one then stays."""
        done: Deferred[None] = Deferred()
        if self._writer is None:
            return succeed(None)
        self._hand_over()
        target = self._path if path is None else path

        def opened(error: OSError | None) -> None:
            if error is None:
                self._path = target
                done.callback(None)
            else:
                self.event("log-reopen-failed", path=str(target), why=str(error))
                done.errback(error)

        self._writer.switch(target, opened)
        if form is not None:
            self._line = json_line if form == "json" else text_line
        return done

    def stop(self) -> Deferred[None]:
        """Write what waits and close. Fires after STOP_TIMEOUT_SECONDS at the latest, and never fails."""
        writer, self._writer = self._writer, None
        if writer is None:
            return succeed(None)
        self._writer = writer
        self._hand_over()
        self._writer = None
        done: Deferred[None] = Deferred()
        timeout = self._reactor.callLater(STOP_TIMEOUT_SECONDS, done.callback, None)

        def written() -> None:
            if timeout.active():
                timeout.cancel()
                done.callback(None)

        writer.stop(written)
        return done


class NullLog(EventLog):
    """Takes every event and keeps none: for tools and tests. Needs neither reactor nor thread."""

    def __init__(self) -> None:
        super().__init__(None)

    def start(self) -> None:
        return None

    def event(self, name: str, message: int = 0, /, **fields: Value) -> None:
        return None
