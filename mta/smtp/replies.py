"""Replies of a peer, from octets: bounded, total, and never trusted.

A peer may send anything for ever. A line has at most 4096 octets and a reply at most 128 lines; what is no reply raises
ReplyError, and nothing else is ever raised. The text of a reply is made harmless here, once (no control characters, no
marks that turn the reading direction): it goes to logs, the journal and reports of failure.

A line may end with LF alone, as Postfix and Exim take it: no boundary of a message hangs on a reply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from mta.mail.envelope import value

LINE_LIMIT_OCTETS = 4096  # RFC 5321 section 4.5.3.1.5 says 512; real peers write novels, eight times as long
LINES_LIMIT = 128  # the longest EHLO reply seen has about 30
REMEMBERED_OCTETS = (
    2048  # a longer reply of several lines is parsed anew each time: a cache must not be filled by strangers
)
TEXT_LIMIT = 1000  # characters of a reply's text that are kept in outcomes

# RFC 5321 section 4.2: second digit 0-5; 571 and 471 are spoken in the wild. The space may be missing (section 4.2.1).
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
# RFC 3463 section 2, RFC 2034 section 3
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: +|$)")


class ReplyError(ValueError):
    """What came is no reply. The message says why, and is safe to show."""


@value
class PeerReply:
    """A reply: code 200..599, enhanced status ("" when there is none that fits the code), text lines without both."""

    code: int
    status: str
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        return self.code < 300

    @property
    def text(self) -> str:
        """One line, at most TEXT_LIMIT characters."""
        lines = self.lines
        return (lines[0] if len(lines) == 1 else " ".join(line for line in lines if line))[:TEXT_LIMIT]

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.status, self.text) if part)


class ReplyParser:
    """Cuts octets into replies. After a ReplyError it must not be used again."""

    __slots__ = ("_buffer", "_code", "_lines", "_searched", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0  # of the line that is not complete
        self._searched = 0  # no LF before it
        self._lines: list[bytes] = []  # of a reply that is not complete
        self._code = b""

    @property
    def pending(self) -> bool:
        """Octets are here that belong to no complete reply yet."""
        return self._start < len(self._buffer) or bool(self._lines)

    def feed(self, data: bytes) -> None:
        if self._start == len(self._buffer):
            self._buffer, self._start, self._searched = data, 0, 0
        else:
            self._buffer = self._buffer[self._start :] + data
            self._searched -= self._start
            self._start = 0

    def next_reply(self) -> PeerReply | None:
        """The next complete reply, or None when more octets are needed. Raises ReplyError."""
        while True:
            line = self._next_line()
            if line is None:
                return None
            if line[3:4] != b"-":
                return self._last_line(line)
            hit = _LINE.fullmatch(line)
            if hit is None:
                raise ReplyError(f"malformed reply: {_harmless(line[:80])}")
            if self._lines and hit[1] != self._code:
                raise ReplyError("a reply of several lines with different codes")  # RFC 5321 section 4.2.1
            if len(self._lines) >= LINES_LIMIT - 1:
                raise ReplyError(f"a reply of more than {LINES_LIMIT} lines")
            self._code = hit[1]
            self._lines.append(hit[3])

    def _next_line(self) -> bytes | None:
        buffer, start = self._buffer, self._start
        end = buffer.find(b"\n", self._searched)
        if (end if end >= 0 else len(buffer)) - start > LINE_LIMIT_OCTETS:
            raise ReplyError(f"a reply line of more than {LINE_LIMIT_OCTETS} octets")
        if end < 0:
            self._searched = len(buffer)
            return None
        self._start = self._searched = end + 1
        return buffer[start : end - 1] if buffer[end - 1 : end] == b"\r" and end > start else buffer[start:end]

    def _last_line(self, line: bytes) -> PeerReply:
        if not self._lines:
            return _single(line)
        hit = _LINE.fullmatch(line)
        if hit is None:
            raise ReplyError(f"malformed reply: {_harmless(line[:80])}")
        if hit[1] != self._code:
            raise ReplyError("a reply of several lines with different codes")
        lines, self._lines = (*self._lines, hit[3] or b""), []
        return _several(hit[1], lines) if sum(map(len, lines)) <= REMEMBERED_OCTETS else _reply(hit[1], lines)


@lru_cache(maxsize=512)  # "250 2.1.0 Ok" comes a million times; bounded by 512 lines of 4096 octets
def _single(line: bytes) -> PeerReply:
    hit = _LINE.fullmatch(line)
    if hit is None:
        raise ReplyError(f"malformed reply: {_harmless(line[:80])}")
    return _reply(hit[1], [hit[3] or b""])


@lru_cache(maxsize=128)  # a host says the same to each EHLO
def _several(code: bytes, octets: tuple[bytes, ...]) -> PeerReply:
    return _reply(code, octets)


def _reply(code: bytes, octets: Sequence[bytes]) -> PeerReply:
    texts = [_harmless(line) for line in octets]
    hit = _STATUS.match(texts[0])
    if hit is None or hit[1] != chr(code[0]):  # RFC 2034 section 4: the class is the code's, else it says nothing
        return PeerReply(int(code), "", tuple(texts))
    status = f"{hit[1]}.{int(hit[2])}.{int(hit[3])}"
    lead = texts[0][: hit.end()].rstrip(" ")
    return PeerReply(int(code), status, tuple(t[len(lead) :].lstrip(" ") if t.startswith(lead) else t for t in texts))


def _harmless(line: bytes) -> str:
    """Text that str.isprintable calls printable: no controls, no line ends of Unicode, no marks of direction."""
    text = line.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else _escape(ord(c)) for c in text])


def _escape(point: int) -> str:
    if point == 9:
        return " "
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"
