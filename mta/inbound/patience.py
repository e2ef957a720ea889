"""How long a session may take: for a command, a handshake, its content, and in all; and what is said when that is over.

The part of the adapter that knows time. It is asked to `look` now and then (deadlines.py); what a session does in between sets
`deadline` and, inside content, `content_began`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol

from mta.config.model import Limits
from mta.inbound.session import Session
from mta.mail import reply
from mta.mail.reply import Reply
from mta.policy.limits import ConnectionCounts
from mta.smtp.server import ServerEngine
from mta.smtp.states import Mode

RATE_GRACE_SECONDS = 30.0  # content is not called slow before
CONTENT_GRACE = 2  # how many times the session's time a session may last whose content is still coming


class TimedSession(Protocol):
    """Base of ESMTP. Seconds are the clock's."""

    __slots__ = ("_counts", "_limits", "_paused_for", "_seconds", "bucket", "content_began", "content_octets", "deadline", "engine", "opened",
                 "session")  # fmt: skip

    def __init__(self, session: Session, engine: ServerEngine, counts: ConnectionCounts, clock: IReactorTime) -> None:
        self.session = session
        self.engine = engine
        self._limits: Limits = session.listener.limits
        self._counts = counts
        self._seconds: Callable[[], float] = clock.seconds
        self._paused_for: set[str] = set()  # why nothing is read: input, output, disk
        self.bucket: set[Any] | None = None
        self.content_began = 0.0  # 0: not inside content
        self.content_octets = 0
        self.opened = self.deadline = 0.0

    def _pump(self) -> None:
        """Deal with what the engine has."""
        raise NotImplementedError

    def _command_seconds(self) -> float:
        return self._limits.stress_timeout if self._counts.stress else self._limits.command_timeout

    def look(self, now: float) -> float:
        """Watched: what has run out?"""
        engine, limits = self.engine, self._limits
        if engine.mode is Mode.CLOSED:
            if now >= self.deadline and self.transport is not None:
                cast(Any, self.transport).abortConnection()
            return self.deadline
        if self.session.accepting:
            return now + 1.0  # a commit is no fault of the client's
        if self._counts.stress and engine.mode is Mode.LINE:
            self.deadline = min(self.deadline, now + limits.stress_timeout)
        if self.content_began and self._too_slow(now, limits.data_rate):
            self.close(reply.TOO_SLOW, "content too slow")
        elif now >= self.deadline and (self._paused_for or not self.content_began):
            if engine.mode is Mode.HANDSHAKE or (engine.over_tls and not self.session.tls):
                self.close(reply.IDLE_TOO_LONG, "handshake timed out")
                cast(Any, self.transport).abortConnection()  # there is nothing to say goodbye with
            else:
                self.close(reply.IDLE_TOO_LONG, "idle")
        elif now - self.opened >= limits.session_timeout * (1 if not self.content_began else CONTENT_GRACE):
            self.close(reply.SESSION_TOO_LONG, "session too long")
        return max(self.deadline, now + 1.0)

    def _too_slow(self, now: float, rate: int) -> bool:
        """Of what comes, kept or not, in windows: what came fast excuses no standstill, and our own pauses don't count."""
        seconds = now - self.content_began
        if not self._paused_for:
            if seconds <= RATE_GRACE_SECONDS:
                return False
            if self.content_octets < rate * seconds:
                return True
        self.content_began, self.content_octets = now, 0
        return False

    def close(self, answer: Reply, reason: str) -> None:
        """End the session from our side. A client that does not read is not told: its connection is cut."""
        deaf = "output" in self._paused_for
        self.engine.close(answer, reason)
        self._paused_for.discard("output")
        self._pump()
        if deaf and self.transport is not None:
            cast(Any, self.transport).abortConnection()
