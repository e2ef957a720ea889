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

    __slots__ = ("_buffer", "_dropping", "_offset", "_pending", "octets")

    def __init__(self) -> None:
        self.octets = 0  # how many there are; an attribute, because it is asked for at every command
        self._buffer = b""
        self._offset = 0
        self._pending: list[bytes] = []
        self._dropping = False  # inside an overlong line

    def receive(self, octets: bytes) -> None:
        if self.octets:
            self._pending.append(octets)
            self.octets += len(octets)
        else:  # all that came before was dealt with: the path of a client that waits for each reply
            self._buffer, self._offset, self.octets = octets, 0, len(octets)

    def clear(self) -> None:
        self._pending.clear()
        self._buffer, self._offset, self.octets = b"", 0, 0

    def take_all(self) -> bytes:
        """Everything, for content. What does not belong to it comes back by `put_back`."""
        if self._pending:
            self._gather()
        octets = self._buffer[self._offset :] if self._offset else self._buffer
        self._buffer, self._offset, self.octets = b"", 0, 0
        return octets

    def put_back(self, octets: bytes) -> None:
        """Only right after take_all."""
        self._buffer, self._offset, self.octets = octets, 0, len(octets)

    def take_some(self, limit: int) -> bytes:
        """At most `limit` octets; costs what it gives, however much is behind it (thousands of one-octet chunks)."""
        if self._pending:
            self._gather()
        octets = self._buffer[self._offset : self._offset + limit]
        self._offset += len(octets)
        self.octets -= len(octets)
        return octets

    def starts_with(self, octets: bytes) -> bool:
        if self._pending and len(self._buffer) - self._offset < len(octets):
            self._gather()
        return self._buffer.startswith(octets, self._offset)

    def take_line(self, limit: int, prefix: bytes = b"", more: int = 0) -> bytes | Oddity | None:
        """The next line without its end; None when it has not come whole.

        `limit` in octets without CRLF; a line that begins with `prefix` (upper case) may be `more` octets longer.
        """
        if not self.octets:
            return None
        end = self._buffer.find(b"\n", self._offset)
        if end < 0:
            if not self._pending:
                return None
            self._gather()
            end = self._buffer.find(b"\n")
            if end < 0:
                if self._dropping or self.octets > self._limit(self._buffer, limit, prefix, more) + 1:
                    self._dropping = True
                    self._buffer, self.octets = b"", 0
                return None
        offset = self._offset
        line = self._buffer[offset:end]
        self._offset = end + 1
        self.octets -= end + 1 - offset
        if self._dropping:
            self._dropping = False
            return OVERLONG
        if end - offset - 1 > limit and end - offset - 1 > self._limit(line, limit, prefix, more):
            return OVERLONG
        return line[:-1] if line.endswith(b"\r") else BARE_LF

    def _limit(self, line: bytes, limit: int, prefix: bytes, more: int) -> int:
        return limit + more if prefix and line[: len(prefix)].upper() == prefix else limit

    def _gather(self) -> None:
        """Join what came in to one buffer, without the part that is done with."""
        if self._offset < len(self._buffer):
            self._pending.insert(0, self._buffer[self._offset :])
        self._buffer = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._offset = 0
        self._pending.clear()
