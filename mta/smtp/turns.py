"""Whose turn it is to speak: open tickets, replies that wait to be sent, errors and what they cost, the end.

The part of the server's engine that knows no command. One ticket is open at most; while it is, nothing else is looked at
(law 8). Errors since the last accepted message are counted: past a soft limit each reply is handed out as a Penalty, to be
answered after a pause; at the hard limit the session ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mta.mail import reply
from mta.mail.reply import Reply
from mta.smtp import events
from mta.smtp.events import Event
from mta.smtp.extensions import ServerProfile
from mta.smtp.lines import InputBuffer
from mta.smtp.states import Mode

NO_TICKET = 0


class Turns:
    """Base of ServerEngine, which says what ends a transaction."""

    __slots__ = (
        "_events",
        "_input",
        "_out",
        "_settle",
        "_strikes",
        "_ticket",
        "_tickets",
        "errors",
        "mode",
        "profile",
    )

    def __init__(self, profile: ServerProfile) -> None:
        self.profile = profile
        self.errors = 0  # of the whole session, for the log
        self._strikes = 0  # errors since the last accepted message: what is punished
        self.mode = Mode.LINE  # what the next octets are; the adapter only reads it
        self._input = InputBuffer()
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()
        self._ticket = NO_TICKET  # the one that is open
        self._tickets = 0
        self._settle: Callable[[Reply], None] | None = None  # what the open ticket's answer does

    # --- the adapter's side ---------------------------------------------------------------------------------------

    def greet(self, answer: Reply) -> None:
        """The 220, or a 421/554 that closes."""
        self._out.append(answer.wire)
        if not answer.positive:
            self._close("refused at connect")
        elif self._input.octets:
            self._refuse_and_close(reply.PIPELINED_TOO_EARLY, "talked before the greeting")

    def data_to_send(self) -> bytes:
        """Replies since the last call."""
        out = self._out
        if not out:
            return b""
        octets = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return octets

    def close(self, answer: Reply, reason: str) -> None:
        """End the session from outside: a time-out, the shutdown. Whatever ticket is open is void."""
        if self.mode is Mode.CLOSED:
            return
        self._ticket, self._settle = NO_TICKET, None
        # What was not handed out is void too: a message must not be stored behind a 421. The end of a transaction is told.
        self._events = deque(each for each in self._events if isinstance(each, events.TransactionEnded))
        if self.mode is not Mode.HANDSHAKE:
            self._out.append(answer.wire)
        self._close(reason)

    # --- tickets and replies --------------------------------------------------------------------------------------

    def _open(self, settle: Callable[[Reply], None]) -> int:
        self._tickets += 1
        self._ticket = self._tickets
        self._settle = settle
        return self._ticket

    def _say(self, answer: Reply) -> None:
        """Every reply but content's LMTP ones goes out here: errors are counted, punished, and end the session."""
        if answer.code < 400:
            self._out.append(answer.wire)
            return
        self.errors += 1
        self._strikes += 1
        if answer.code == 421:
            self._out.append(answer.wire)
            self._close("refused with 421")
        elif self._strikes >= self.profile.hard_errors:
            self._out.append(answer.wire)
            self._refuse_and_close(reply.TOO_MANY_ERRORS, "too many errors")
        elif self._strikes > self.profile.soft_errors:
            self._events.append(events.Penalty(self._open(self._after_penalty), answer))
        else:
            self._out.append(answer.wire)

    def _after_penalty(self, answer: Reply) -> None:
        self._out.append(answer.wire)

    def _refuse(self, answer: Reply, line: bytes) -> None:
        """A refusal that is the engine's own."""
        self._events.append(events.Refused(answer, line))
        self._say(answer)

    def _refuse_and_close(self, answer: Reply, reason: str) -> None:
        self._out.append(answer.wire)
        self._close(reason)

    def _close(self, reason: str) -> None:
        self._end_transaction()
        self.mode = Mode.CLOSED
        self._input.clear()
        self._events.append(events.Close(reason))

    def _end_transaction(self) -> None:
        """The one reset (law 10); the engine says what belongs to a transaction."""
