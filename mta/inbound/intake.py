"""One message's content on its way from the session to the spool: header held back, body in memory or streamed to a file.

Small content costs one join; memory per connection stays bounded however large a message is: the header by its limit, the
body by INLINE_BODY_LIMIT_OCTETS, beyond which it goes to a file of the spool while the transport waits for the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from twisted.internet.defer import Deferred

from mta.mail.envelope import Content
from mta.mail.reply import HEADER_TOO_BIG, Reply
from mta.policy.header import begins_with_field
from mta.spool.contract import INLINE_BODY_LIMIT_OCTETS, BodyWriter

LOOSE_BLOCKS = 512
LOOK_AGAIN_OCTETS = 64 * 1024  # a header that comes in tiny pieces is searched sixteen times, not a million times
_NO_HASH = hashlib.sha256()


class HeaderRefused(Exception):
    """The header section can't be taken; `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Intake:
    """`finish_header(raw) -> header` gives the header as it is stored (trace added, fixed) or raises HeaderRefused.

    `open_writer(resume)` opens the file of a large body; `resume` is called when it may be given more.
    """

    __slots__ = (
        "_blocks",
        "_finish_header",
        "_hash",
        "_header",
        "_header_limit",
        "_look_at",
        "_loose",
        "_octets",
        "_open_writer",
        "_resume",
        "_writer",
        "refusal",
    )  # fmt: skip

    def __init__(
        self,
        finish_header: Callable[[bytes], bytes],
        open_writer: Callable[[Callable[[], None]], BodyWriter],
        resume: Callable[[], None],
        header_limit: int,
    ) -> None:
        self._finish_header = finish_header
        self._open_writer = open_writer
        self._resume = resume
        self._header_limit = header_limit
        self._blocks: list[bytes] = []
        self._loose = 0  # blocks since the last were joined
        self._octets = 0
        self._look_at = INLINE_BODY_LIMIT_OCTETS  # more octets than this: see whether the header is complete
        self._header = b""
        self._hash = _NO_HASH  # made when the body is streamed
        self._writer: BodyWriter | None = None
        self.refusal: Reply | None = None

    def take(self, block: bytes) -> bool:
        """False: no more until `resume` is called."""
        if self.refusal is not None:
            return True
        if self._writer is not None:
            self._hash.update(block)
            return self._writer.write(block)
        self._blocks.append(block)
        self._octets += len(block)
        self._loose += 1
        if self._loose == LOOSE_BLOCKS:  # thousands of tiny chunks must not cost a list entry each
            self._blocks[-LOOSE_BLOCKS:] = [b"".join(self._blocks[-LOOSE_BLOCKS:])]
            self._loose = 0
        return self._octets <= self._look_at or self._overflow()

    def finish(self) -> tuple[Content, bytes] | Deferred[tuple[Content, bytes]]:
        """The content and its SHA-256. Raises HeaderRefused; the Deferred fails with SpoolFull or SpoolFailed."""
        writer = self._writer
        if writer is not None:
            digest = self._hash.digest()
            return writer.finish().addCallback(lambda body: (Content(self._header, body), digest))
        header, body = self._split(complete=True)
        header = self._finish_header(header)
        digest = hashlib.sha256(b"%b\r\n%b" % (header, body)).digest()
        return Content(header, body), digest

    def abort(self) -> None:
        self._blocks.clear()
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def _split(self, *, complete: bool) -> tuple[bytes, bytes]:
        raw = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        if raw.startswith(b"\r\n"):
            return b"", raw[2:]
        end = raw.find(b"\r\n\r\n")
        if end >= 0:
            header = raw[: end + 2]
            return (header, raw[end + 4 :]) if begins_with_field(header) else (b"", raw)
        if not begins_with_field(raw):
            return b"", raw
        if complete:
            return raw, b""
        self._blocks, self._loose = [raw], 0
        raise _Incomplete

    def _overflow(self) -> bool:
        """Too large for the row: the header is complete, or too large itself; the rest goes to a file."""
        try:
            header, body = self._split(complete=False)
        except _Incomplete:
            self._look_at = self._octets + LOOK_AGAIN_OCTETS
            if self._octets > self._header_limit:
                self._refuse(HEADER_TOO_BIG)
            return True
        try:
            self._header = self._finish_header(header)
        except HeaderRefused as refused:
            self._refuse(refused.reply)
            return True
        self._blocks.clear()
        self._hash = hashlib.sha256(self._header + b"\r\n")
        self._hash.update(body)
        self._writer = self._open_writer(self._resume)
        return self._writer.write(body) if body else True

    def _refuse(self, reply: Reply) -> None:
        self.refusal = reply
        self._blocks.clear()


class _Incomplete(Exception):
    """The header section has not ended yet."""
