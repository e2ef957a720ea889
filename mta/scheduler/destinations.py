"""One destination as the scheduler knows it: what waits for it, how much may run at once, whether its host is dead.

Without the limits a dead host would hold every connection until its time-outs; without the suspension every message for it would
wait for one of them in turn. A host counts as dead after as many attempts in a row that did not come as far as MAIL as it may have
at once (each of them lowers that number), at least FAILURES_BEFORE_SUSPENSION; then one message probes it after each suspension, and
a single success makes all well again.
"""

from __future__ import annotations

from collections import deque

from mta.delivery.agent import Attempt
from mta.mail.outcome import Deferred, Outcome
from mta.scheduler.limits import Limit
from mta.scheduler.pools import Pool, Site
from mta.scheduler.ring import USUAL, Ring
from mta.scheduler.work import Work

FAILURES_BEFORE_SUSPENSION = 3
FAILURE_REMEMBERED_SECONDS = 4 * 3600.0  # longer than the longest wait between two attempts
LIMIT_REMEMBERED_SECONDS = 900.0  # what was learned of an idle destination
REMOTE_SCHEMES = ("mx:", "smtp:", "smtps:")  # local delivery has no host: one broken mailbox must not stop the others
SITED_SCHEME = "mx:"  # its host is somebody's choice who serves others too; an explicit route's is its own site
_BEFORE_MAIL = frozenset(
    {"DNS", "connect", "greeting", "EHLO", "HELO", "STARTTLS", "TLS handshake", "AUTH", "our own calculation"}
)
_CLOSING = 421  # RFC 5321 section 3.8: the host wants fewer, or nobody just now


class Destination:
    """`on_disk`: the spool has, or may have, due rows for it that are not in memory. Times are the monotonic clock's.

    Until it is `placed` its site is not known, and it stands in no ring.
    """

    __slots__ = (
        "asking", "failed_at", "failures", "in_flight", "key", "lane", "last_outcome", "limit", "loading", "on_disk", "outcome",
        "placed", "placed_until", "pools", "proven", "remote", "reserved", "ring", "rows", "site", "suspended_until", "suspensions", "used_at",
        "waiting",
    )  # fmt: skip

    def __init__(self, key: str, most: int, at: float = 0.0) -> None:
        """`most`: jobs at once, as configured."""
        self.key = key
        self.remote = key.startswith(REMOTE_SCHEMES)
        self.limit = Limit(most) if self.remote else Limit(most, most)
        self.waiting: deque[Work] = deque()  # by priority, then in order of arrival
        self.rows = 0  # recipients in `waiting`, and room reserved for those that are being loaded
        self.reserved = 0
        self.in_flight = 0  # jobs
        self.on_disk = False
        self.loading = False
        self.ring: Ring[Destination] | None = None  # where it stands: among those that may go, or parked
        self.lane = USUAL
        self.placed = not key.startswith(SITED_SCHEME)
        self.placed_until = float("inf")
        self.asking = False
        self.site: Site[Destination] | None = None
        self.pools: tuple[Pool[Destination], ...] = ()
        self.proven = not self.remote
        self.failures = 0  # in a row
        self.failed_at = 0.0
        self.suspensions = 0  # in a row
        self.suspended_until = 0.0  # 0: not suspended
        self.outcome: Deferred | None = None  # what suspended it
        self.last_outcome: Outcome | None = None
        self.used_at = at

    def failed(self, at: float) -> bool:
        """An attempt that did not reach the host. True: it is to be suspended now."""
        self.failures += 1
        self.failed_at = at
        self.limit.failed()
        if self.suspended_until:
            return False
        return self.suspensions > 0 or self.failures >= max(FAILURES_BEFORE_SUSPENSION, self.limit.allowed)

    def is_forgettable(self, at: float) -> bool:
        """Nothing of it is in memory, and nothing was learned so lately that the next attempt should know of it."""
        if self.waiting or self.in_flight or self.on_disk or self.loading or self.asking or self.suspended_until:
            return False
        if self.failures:
            return at - self.failed_at > FAILURE_REMEMBERED_SECONDS
        return at - self.used_at > LIMIT_REMEMBERED_SECONDS


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


def pushed_back(attempt: Attempt) -> bool:
    """The host heard of the message and closed the door: it lives, and bears no more for now."""
    return all(outcome.code == _CLOSING for outcome in attempt.outcomes.values())
