"""Logins proved a moment ago, so that a client with many connections pays for one key derivation, not for each.

No password is kept: only a hash of it with a key of this boot that never leaves the process. An entry holds as long as
the user's row is the one it was proved against (`row`), and no longer than its time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

ENTRIES_MAX = 10_000


@dataclass(frozen=True, slots=True, repr=False)
class Remembered:
    """A proof: of which row, and of which state of the store's file it was known to be current."""

    keyed_hash: bytes
    row: bytes
    state: object  # None: the file's state can't be trusted to show the next change
    expires_at: float


class LoginCache:
    """`key`: 32 octets, random for each boot. `clock`: monotonic seconds. Used in the reactor thread alone."""

    def __init__(self, key: bytes, clock: Callable[[], float], seconds: float, *, entries: int = ENTRIES_MAX) -> None:
        self._key = key
        self._clock = clock
        self._seconds = seconds
        self._entries_max = entries
        self._entries: OrderedDict[str, Remembered] = OrderedDict()

    def recall(self, name: str, password: str) -> Remembered | None:
        """The proof of this very password, if there is a fresh one."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            del self._entries[name]
            return None
        return entry if hmac.compare_digest(entry.keyed_hash, self._hash(name, password)) else None

    def remember(self, name: str, password: str, row: bytes, state: object) -> None:
        expires_at = self._clock() + self._seconds
        self._entries[name] = Remembered(self._hash(name, password), row, state, expires_at)
        self._entries.move_to_end(name)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)

    def _hash(self, name: str, password: str) -> bytes:
        text = f"{name}\0{password}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()
