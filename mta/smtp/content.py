"""Content as it comes: the end of DATA, dot unstuffing, chunks, and what the content turns out to be. Block by block.

Only CRLF.CRLF ends DATA (RFC 5321 section 4.1.1.4); nothing else does, whatever a lenient peer might read into it. A virtual
CRLF stands before the first octet, so that `.CRLF` at once is a lawful empty message. The same octets cut anywhere give the
same content: what may still become an end or half a CRLF is held back until it can't.
"""

from __future__ import annotations

import re

from mta.mail import reply
from mta.mail.reply import Reply
from mta.smtp.newlines import has_bare_newline

LINE_LIMIT_OCTETS = 998  # RFC 5322 section 2.1.1, without CRLF
_END = b"\r\n.\r\n"
_DOT_LINE = re.compile(rb"\r\n\.")  # searching by pattern is twice as fast as bytes.find here
# Which fault of a content is named when it has several; a refusal that came from outside (policy) stands before all.
_RANK = {
    each: rank
    for rank, each in enumerate(
        [reply.BARE_NEWLINE, reply.NUL_IN_CONTENT, reply.MESSAGE_TOO_BIG, reply.TEXT_LINE_TOO_LONG], start=1
    )
}


class ContentFacts:
    """Measures content as it passes and decides whether it can be taken. Facts are about what is given on, not about the wire."""

    __slots__ = ("_limit", "_line_limit", "_normalize", "_run", "has_8bit", "max_line", "refusal", "size")

    def __init__(self, size_limit: int, line_limit: int, normalize: bool) -> None:
        self._limit = size_limit
        self._line_limit = line_limit
        self._normalize = normalize
        self._run = 0  # octets since the last LF
        self.size = 0
        self.has_8bit = False
        self.max_line = 0
        self.refusal: Reply | None = None

    def take(self, block: bytes) -> bytes:
        """The block as it may be stored; b"" once the content is refused. A block never ends in a CR that LF may follow.

        Refused content is measured to its end all the same: which fault is named must not depend on how it was cut.
        """
        if b"\0" in block:
            self.refuse(reply.NUL_IN_CONTENT)
        if has_bare_newline(block):
            if self._normalize:
                block = block.replace(b"\r\n", b"\n").replace(b"\r", b" ").replace(b"\n", b"\r\n")
            else:
                self.refuse(reply.BARE_NEWLINE)
        self.size += len(block)
        if self.size > self._limit:
            self.refuse(reply.MESSAGE_TOO_BIG)
        if not self.has_8bit and not block.isascii():
            self.has_8bit = True
        self._measure_lines(block)
        return block if self.refusal is None else b""

    def refuse(self, why: Reply) -> None:
        """The content can't be taken; of several reasons the first in _RANK is named."""
        if self.refusal is None or _RANK.get(why, 0) < _RANK.get(self.refusal, 0):
            self.refusal = why

    def _measure_lines(self, block: bytes) -> None:
        """Leaps of a line's lawful length: about one search per thousand octets, not one per line."""
        start, end = 0, len(block)
        run = self._run
        while start < end:
            # the farthest LF that still makes every line before it lawful
            stop = max(start, start + LINE_LIMIT_OCTETS + 2 - run)
            cut = block.rfind(b"\n", start, stop)
            if cut < 0:
                if stop >= end:
                    run += end - start
                    break
                cut = block.find(b"\n", stop)
                length = run + (cut if cut >= 0 else end) - start
                octets = length - 1 if cut >= 0 else length  # without the CR
                if octets > self.max_line:
                    self.max_line = octets
                    if self.max_line > self._line_limit:
                        self.refuse(reply.TEXT_LINE_TOO_LONG)
                if cut < 0:
                    run = length
                    break
            start, run = cut + 1, 0
        self._run = run


class DotReader:
    """Finds the end of DATA and takes the stuffing out."""

    __slots__ = ("_first", "_held", "_virtual")

    def __init__(self) -> None:
        self._held = b""
        self._first = True
        self._virtual = False  # what is held begins with the CRLF that only we put there

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """(content, rest): rest is None while the end has not come; then it is what follows the end."""
        if self._first and data:
            self._first = False
            if data.startswith(b"."):  # else the virtual CRLF makes no difference, and no copy
                self._held, self._virtual = b"\r\n", True
        work = self._held + data if self._held else data
        hit = _DOT_LINE.search(work)
        if hit is not None:
            dot = hit.start()
            # The first dot line is the end, or the end is behind it. Before it nothing is stuffed.
            end = dot if work[dot + 3 : dot + 5] == b"\r\n" else work.find(_END, dot)
            if end >= 0:
                return self._unstuff(work[: end + 2], stuffed=end > dot), work[end + 5 :]
        keep = _possible_end(work)
        self._held = work[len(work) - keep :]
        if keep == len(work):
            return b"", None
        return self._unstuff(work[: len(work) - keep], stuffed=hit is not None), None

    def _unstuff(self, block: bytes, *, stuffed: bool) -> bytes:
        if stuffed:
            block = block.replace(b"\r\n.", b"\r\n")  # RFC 5321 section 4.5.2
        if self._virtual:
            self._virtual = False
            return block[2:]
        return block


def _possible_end(work: bytes) -> int:
    """How many octets at the end of `work` may be the beginning of CRLF.CRLF."""
    for length in (4, 3, 2, 1):
        if work.endswith(_END[:length]):
            return length
    return 0


class ChunkReader:
    """Counts the octets of BDAT chunks (RFC 3030) and joins a CRLF that a chunk's border cuts."""

    __slots__ = ("_ends_with_crlf", "_held", "remaining")

    def __init__(self) -> None:
        self.remaining = 0
        self._held = b""
        self._ends_with_crlf = True

    def feed(self, data: bytes) -> bytes:
        """The content in `data`, which is no more than `remaining`; that is 0 when the chunk is complete."""
        self.remaining -= len(data)
        block = self._held + data
        self._held = b""
        if block.endswith(b"\r"):
            block, self._held = block[:-1], b"\r"
        if block:
            self._ends_with_crlf = block.endswith(b"\n")
        return block

    def finish(self) -> bytes:
        """What still belongs to the content after the last chunk: a lone CR, or the CRLF that its last line lacks.

        Content that is sent on by DATA must end with CRLF; adding it here keeps it the same content for every hop.
        """
        if self._held:
            return self._held + b"\r\n"
        return b"" if self._ends_with_crlf else b"\r\n"
