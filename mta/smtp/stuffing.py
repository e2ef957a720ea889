"""Content as it goes out: dots doubled on the final octets, block by block, and the end that nobody can forge.

A virtual CRLF stands before the first octet (RFC 5321 section 4.5.2: the first line may begin with a dot too). No lone CR or
LF ever leaves: a peer that takes one for the end of a line could be made to see a second message (SMTP smuggling). Content was
checked when it was accepted; what fails here is our fault, so it raises, and the connection is dropped before the end is said.
"""

from __future__ import annotations

from mta.smtp.newlines import has_bare_newline


class BareNewlineError(ValueError):
    """A lone CR or LF was about to be sent. Our fault, never the peer's."""


class DotStuffer:
    """Stuffs one message. The same octets cut anywhere give the same octets on the wire."""

    __slots__ = ("_at_line_start", "_held_cr")

    def __init__(self) -> None:
        self._at_line_start = True
        self._held_cr = False

    def feed(self, block: bytes) -> bytes:
        """The block as it goes out. A CR at its end waits for the next one. Raises BareNewlineError."""
        if self._held_cr:
            block = b"\r" + block
            self._held_cr = False
        if block.endswith(b"\r"):
            block = block[:-1]
            self._held_cr = True
        if not block:
            return b""
        if has_bare_newline(block):
            raise BareNewlineError("a lone CR or LF in content on its way out")
        dot = self._at_line_start and block.startswith(b".")
        self._at_line_start = block.endswith(b"\n")
        if block.find(b"\r\n.") >= 0:
            block = block.replace(b"\r\n.", b"\r\n..")
        return b"." + block if dot else block

    def finish(self) -> bytes:
        """The end of data, after a CRLF where the last line lacks it (RFC 5321 section 4.1.1.4). Raises BareNewlineError."""
        if self._held_cr:
            raise BareNewlineError("content that ends with a lone CR")
        return b".\r\n" if self._at_line_start else b"\r\n.\r\n"
