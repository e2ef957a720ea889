"""Queue IDs: 63-bit integers made before the commit, printed in 13 characters.

Layout: 41 bits milliseconds since 2020-01-01 UTC (until 2089), 8 bits shard, 14 bits sequence. The order of IDs of a shard
is the order of their making; a clock that steps back does not repeat one, because a source never goes below its high-water
mark, which the spool stores (law 2 hangs on it: an ID names one message for ever).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z
SHARD_BITS = 8
SEQUENCE_BITS = 14
SHARDS_MAX = 1 << SHARD_BITS
_LOW_BITS = SHARD_BITS + SEQUENCE_BITS
_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U to misread
_VALUE = {c: i for i, c in enumerate(_ALPHABET)} | {c.lower(): i for i, c in enumerate(_ALPHABET)}
_VALUE |= {"o": 0, "O": 0, "i": 1, "I": 1, "l": 1, "L": 1}
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
TEXT_LENGTH = 13


class IdentifierSource:
    """Makes the IDs of one shard, each greater than the last.

    `clock` gives wall time in seconds. `high_water` is the greatest ID ever made for the shard, from the spool.
    """

    def __init__(self, shard: int, clock: Callable[[], float], high_water: int = 0) -> None:
        if not 0 <= shard < SHARDS_MAX:
            raise ValueError(f"shard {shard} is not within 0..{SHARDS_MAX - 1}")
        self._shard_bits = shard << SEQUENCE_BITS
        self._clock = clock
        self._last_ms = high_water >> _LOW_BITS
        self._sequence = _SEQUENCE_MASK if high_water else 0

    def next(self) -> int:
        now_ms = int(self._clock() * 1000) - EPOCH_MS
        if now_ms > self._last_ms:
            self._last_ms, self._sequence = now_ms, 0
        elif self._sequence < _SEQUENCE_MASK:
            self._sequence += 1
        else:  # more than 16,384 in one millisecond, or the clock stands or went back: borrow the next millisecond
            self._last_ms, self._sequence = self._last_ms + 1, 0
        return (self._last_ms << _LOW_BITS) | self._shard_bits | self._sequence


def shard_of(identifier: int) -> int:
    return (identifier >> SEQUENCE_BITS) & (SHARDS_MAX - 1)


def made_at(identifier: int) -> float:
    """Wall time in seconds at which the ID was made (to the millisecond)."""
    return ((identifier >> _LOW_BITS) + EPOCH_MS) / 1000


@lru_cache(maxsize=4096)  # each ID is asked for four times while its message is under way
def format_id(identifier: int) -> str:
    """13 characters of Crockford's base32; the same length always, so that text order is number order."""
    p = _PAIRS
    return (
        _ALPHABET[identifier >> 60]
        + p[identifier >> 50 & 1023]
        + p[identifier >> 40 & 1023]
        + p[identifier >> 30 & 1023]
        + p[identifier >> 20 & 1023]
        + p[identifier >> 10 & 1023]
        + p[identifier & 1023]
    )


def parse_id(text: str) -> int:
    """The ID from its text, in either case. Raises ValueError."""
    if len(text) != TEXT_LENGTH:
        raise ValueError(f"{text!r} is no queue ID: it has {TEXT_LENGTH} characters")
    value = 0
    for character in text:
        if character not in _VALUE:
            raise ValueError(f"{text!r} is no queue ID")
        value = value << 5 | _VALUE[character]
    if value >> 63:
        raise ValueError(f"{text!r} is no queue ID")
    return value
