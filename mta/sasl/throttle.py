"""Guessing gets slow: failed logins make the next ones wait, by peer and by account.

- Three failures are free; then each attempt waits 1 s, 2 s, 4 s ... 30 s behind the last one, also when attempts come in
  parallel: each one takes a place in the queue when it is admitted. What would wait over a minute is turned away.
- A peer is an IPv4 address or an IPv6 /64. An account is a name as claimed, known or not: the delay tells nothing.
- An account that has logged in from a peer is not slowed there by what others do to it, nor by that peer's other failures
  (an office behind one address): the pair has a count of its own. So an attacker can't lock anybody out of a usual place.
- A success clears only the pair's count: an attacker with one good account does not clear his peer by using it.
- Tables are bounded; who has been quiet longest is forgotten first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Hashable

FREE_FAILURES = 3
DELAY_MAX_SECONDS = 30.0
WAIT_MAX_SECONDS = 60.0
FORGET_SECONDS = 900.0
KNOWN_GOOD_SECONDS = 7 * 86400.0
TABLE_LIMIT = 20_000


class _Failures:
    """Failed logins of one key, and when its next attempt may start."""

    __slots__ = ("count", "free_at", "last")

    def __init__(self) -> None:
        self.count = 0
        self.free_at = 0.0
        self.last = 0.0

    @property
    def delay(self) -> float:
        over = self.count - FREE_FAILURES
        return 0.0 if over < 0 else min(2.0 ** min(over, 10), DELAY_MAX_SECONDS)


class Throttle:
    """`clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float], *, table_limit: int = TABLE_LIMIT) -> None:
        self._clock = clock
        self._limit = table_limit
        self._failures: OrderedDict[Hashable, _Failures] = OrderedDict()
        self._known_good: OrderedDict[tuple[str, str], float] = OrderedDict()

    def admit(self, peer: str, account: str) -> float | None:
        """Seconds that this attempt has to wait before it is examined; None: it is turned away."""
        now = self._clock()
        slowed = [one for key in self._keys(peer, account, now) if (one := self._recent(key, now)) and one.delay]
        if not slowed:
            return 0.0
        start = max(now, *(one.free_at for one in slowed))
        if start - now > WAIT_MAX_SECONDS:
            return None
        for one in slowed:
            one.free_at = start + one.delay
        return start - now

    def failed(self, peer: str, account: str) -> None:
        """`account` is "" where the attempt did not get so far as to name one."""
        now = self._clock()
        for key in self._keys(peer, account, now):
            one = self._recent(key, now)
            if one is None:
                one = self._failures[key] = _Failures()
            one.count += 1
            one.last = now
            one.free_at = max(one.free_at, now + one.delay)
            self._failures.move_to_end(key)
        while len(self._failures) > self._limit:
            self._failures.popitem(last=False)

    def succeeded(self, peer: str, account: str) -> None:
        pair = (network_of(peer), account)
        self._known_good[pair] = self._clock() + KNOWN_GOOD_SECONDS
        self._known_good.move_to_end(pair)
        self._failures.pop(pair, None)
        while len(self._known_good) > self._limit:
            self._known_good.popitem(last=False)

    def forget(self, account: str) -> None:
        """The account's password has changed: its failures were another password's."""
        self._failures.pop(("account", account), None)

    def _keys(self, peer: str, account: str, now: float) -> list[tuple[str, str]]:
        network = network_of(peer)
        if self._known_good.get((network, account), now) > now:
            return [(network, account)]
        keys = [("peer", network)]
        if account:
            keys.append(("account", account))
        return keys

    def _recent(self, key: Hashable, now: float) -> _Failures | None:
        one = self._failures.get(key)
        if one is not None and now - one.last > FORGET_SECONDS:
            del self._failures[key]
            return None
        return one


def network_of(peer: str) -> str:
    """A normalised peer's address, an IPv6 one cut to its /64: one customer's network."""
    if ":" not in peer:
        return peer
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(peer)) >> 64 << 64))
