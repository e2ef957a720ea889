"""Answers while they live, at most so many: what was not used for the longest time goes first.

A queue asks for the same few domains all day. Failures are kept too, shortly (RFC 9520): without that, a domain whose name servers
are down costs a time-out for every message.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from mta.dns.resolver import Answer, AnyAnswer, RecordType, Temporary, Trouble

LIFE_MIN_SECONDS = 5.0  # also of records with TTL 0: a batch of messages asks once
LIFE_MAX_SECONDS = 3600.0
NEGATIVE_LIFE_MAX_SECONDS = 900.0  # RFC 2308 section 5 allows hours; a domain that was just made should be found sooner
FAILURE_LIFE_SECONDS = 5.0  # RFC 9520 section 3.2
ENTRIES_LIMIT = 20_000  # about 10 MB

Key = tuple[str, RecordType]


class Cache:
    """`seconds`: a monotonic clock."""

    def __init__(self, seconds: Callable[[], float], limit: int = ENTRIES_LIMIT) -> None:
        self._seconds = seconds
        self._limit = limit
        self._entries: OrderedDict[Key, tuple[float, AnyAnswer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> AnyAnswer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._seconds():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: Key, answer: AnyAnswer) -> None:
        life = _life(answer)
        if not life:
            return
        self._entries[key] = (self._seconds() + life, answer)
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()


def _life(answer: AnyAnswer) -> float:
    """Seconds."""
    if isinstance(answer, Temporary):
        return 0.0 if answer.trouble is Trouble.LOCAL else FAILURE_LIFE_SECONDS
    longest = LIFE_MAX_SECONDS if isinstance(answer, Answer) else NEGATIVE_LIFE_MAX_SECONDS
    return min(max(answer.ttl_seconds, LIFE_MIN_SECONDS), longest)
