"""Octets in, lines out: linear in what comes, bounded, whatever the peer does with its packets.

A line ends with CRLF; one that ends with LF alone is given back with its LF's lack of a CR told (RFC 5321 section 2.3.8).
An overlong line is dropped as it comes and reported once, when it ends.
"""

from __future__ import annotations

import enum


class Oddity(enum.Enum):
    """A line that is none."""

    OVERLONG = "longer than its limit"
    BARE_LF = "ended by LF alone"


OVERLONG, BARE_LF = Oddity.OVERLONG, Oddity.BARE_LF


class InputBuffer:
    """What was received and not yet looked at. Appending costs nothing; the pieces are joined when they are needed."""

    __slots__ = ("_buffer", "_dropping", "_offset", "_pending", "_pending_octets")

    def __init__(self) -> None:
        self._buffer = b""
        self._offset = 0
        self._pending: list[bytes] = []
        self._pending_octets = 0
        self._dropping = False  # inside an overlong line

    def __len__(self) -> int:
        return self._pending_octets + len(self._buffer) - self._offset

    def receive(self, octets: bytes) -> None:
        self._pending.append(octets)
        self._pending_octets += len(octets)

    def clear(self) -> None:
        self._pending.clear()
        self._pending_octets = 0
        self._buffer, self._offset = b"", 0

    def take_all(self) -> bytes:
        """Everything, for content. What does not belong to it comes back by `put_back`."""
        if self._pending:
            self._gather()
        octets = self._buffer[self._offset :] if self._offset else self._buffer
        self._buffer, self._offset = b"", 0
        return octets

    def put_back(self, octets: bytes) -> None:
        """Only right after take_all."""
        self._buffer, self._offset = octets, 0

    def starts_with(self, octets: bytes) -> bool:
        first = (
            self._pending[0] if self._pending and self._offset >= len(self._buffer) else self._buffer[self._offset :]
        )
        return first.startswith(octets)

    def take_line(self, limit: int, longer: tuple[bytes, int] = (b"", 0)) -> bytes | Oddity | None:
        """The next line without its end; None when it has not come whole.

        `limit` in octets without CRLF; a line that begins with `longer[0]` (upper case) may be `longer[1]` octets longer.
        """
        end = self._buffer.find(b"\n", self._offset)
        if end < 0:
            if not self._pending:
                return None
            self._gather()
            end = self._buffer.find(b"\n")
            if end < 0:
                if self._dropping or len(self._buffer) > self._limit(self._buffer, limit, longer) + 1:
                    self._dropping = True
                    self._buffer = b""
                return None
        line = self._buffer[self._offset : end]
        self._offset = end + 1
        if self._dropping:
            self._dropping = False
            return OVERLONG
        if len(line) - 1 > limit and len(line) - 1 > self._limit(line, limit, longer):
            return OVERLONG
        return line[:-1] if line.endswith(b"\r") else BARE_LF

    def _limit(self, line: bytes, limit: int, longer: tuple[bytes, int]) -> int:
        prefix, more = longer
        return limit + more if prefix and line[: len(prefix)].upper() == prefix else limit

    def _gather(self) -> None:
        """Join what came in to one buffer, without the part that is done with."""
        if self._offset < len(self._buffer):
            self._pending.insert(0, self._buffer[self._offset :])
        self._buffer = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._offset = 0
        self._pending.clear()
        self._pending_octets = 0
