"""One destination as the scheduler knows it: what waits for it, how much may run at once, whether its host is dead.

Without the limits a dead host would hold every connection until its time-outs; without the suspension every message for it would
wait for one of them in turn. A host counts as dead after FAILURES_BEFORE_SUSPENSION attempts in a row that did not come as far as
MAIL; then one message probes it after each suspension, and a single success makes all well again.
"""

from __future__ import annotations

from collections import deque

from mta.delivery.agent import Attempt
from mta.mail.outcome import Deferred
from mta.scheduler.work import Work

FAILURES_BEFORE_SUSPENSION = 3
UNPROVEN_CONCURRENCY = 5  # until the first attempt went through: 10,000 dead domains must not hold 20 slots each
FAILURE_REMEMBERED_SECONDS = 4 * 3600.0  # longer than the longest wait between two attempts
REMOTE_SCHEMES = ("mx:", "smtp:", "smtps:")  # local delivery has no host: one broken mailbox must not stop the others
_BEFORE_MAIL = frozenset(
    {"DNS", "connect", "greeting", "EHLO", "HELO", "STARTTLS", "TLS handshake", "AUTH", "our own calculation"}
)


class Destination:
    """`on_disk`: the spool has, or may have, due rows for it that are not in memory. Times are the monotonic clock's."""

    __slots__ = (
        "failed_at",
        "failures",
        "in_flight",
        "key",
        "loading",
        "on_disk",
        "proven",
        "reason",
        "remote",
        "ringed",
        "rows",
        "suspended_until",
        "suspensions",
        "waiting",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.remote = key.startswith(REMOTE_SCHEMES)
        self.waiting: deque[Work] = deque()
        self.rows = 0  # recipients in `waiting`
        self.in_flight = 0  # jobs
        self.on_disk = False
        self.loading = False
        self.ringed = False  # it stands in the ring of those that may go
        self.proven = not self.remote
        self.failures = 0  # in a row
        self.failed_at = 0.0
        self.suspensions = 0  # in a row
        self.suspended_until = 0.0  # 0: not suspended
        self.reason = ""  # of the suspension

    def limit(self, configured: int) -> int:
        """Jobs at once. One only, while a dead host is probed."""
        if self.proven:
            return configured
        return 1 if self.suspensions else min(configured, UNPROVEN_CONCURRENCY)

    def succeeded(self) -> None:
        self.failures = self.suspensions = 0
        self.suspended_until = 0.0
        self.proven, self.reason = True, ""

    def failed(self, at: float) -> bool:
        """An attempt that did not reach the host. True: it is to be suspended now."""
        self.failures += 1
        self.failed_at = at
        return not self.suspended_until and (self.suspensions > 0 or self.failures >= FAILURES_BEFORE_SUSPENSION)

    def suspend(self, until: float, reason: str) -> None:
        self.suspensions += 1
        self.suspended_until, self.reason = until, reason
        self.proven = False

    def resume(self) -> None:
        """The time is over, or an operator wants it tried: a probe may go."""
        self.suspended_until = 0.0

    def is_forgettable(self, at: float) -> bool:
        """Nothing of it is in memory, and no failure is so young that the next attempt must know of it."""
        if self.waiting or self.in_flight or self.on_disk or self.loading:
            return False
        return not self.failures or at - self.failed_at > FAILURE_REMEMBERED_SECONDS


def unreached(attempt: Attempt) -> Deferred | None:
    """The deferral, where an attempt at a next hop ended before the host heard of the message: no address, no connection, a
    greeting or handshake that failed (law 4). None where it came as far as MAIL."""
    last: Deferred | None = None
    for outcome in attempt.outcomes.values():
        if type(outcome) is not Deferred:
            return None
        last = outcome
    if last is None:
        return None
    if attempt.trail:
        return last if attempt.trail[-1].phase in _BEFORE_MAIL else None
    return last if not last.code and last.status.startswith("4.4.") else None
