"""xtext of RFC 3461 section 4: how arbitrary text travels in ENVID, ORCPT and AUTH= parameters."""

from __future__ import annotations

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_ENCODED = re.compile(r"\+([0-9A-F]{2})")
_MUST_ENCODE = re.compile(r"[^!-*,-<>-~]")


def decode_xtext(text: str) -> str:
    """The text meant. Raises ValueError for what is no xtext, or hides anything but printable ASCII and space.

    RFC 3461 section 4.4 and 4.2: the decoded value is printable; a CR or NUL in it is an attack, not a value.
    """
    if not _XTEXT.fullmatch(text):
        raise ValueError("malformed xtext")
    decoded = _ENCODED.sub(lambda hit: chr(int(hit[1], 16)), text)
    if any(not " " <= character <= "~" for character in decoded):
        raise ValueError("control characters in xtext")
    return decoded


def encode_xtext(text: str) -> str:
    """`text` (printable ASCII) as xtext."""
    return _MUST_ENCODE.sub(lambda hit: f"+{ord(hit[0]):02X}", text)
