"""How arbitrary text travels in ENVID, ORCPT and AUTH= parameters: xtext (RFC 3461 section 4), and the 7-bit form of addresses beyond
ASCII in ORCPT and in reports (utf-8-addr-xtext of RFC 6533 section 3)."""

from __future__ import annotations

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_ENCODED = re.compile(r"\+([0-9A-F]{2})")
_MUST_ENCODE = re.compile(r"[^!-*,-<>-~]")
_UNICODE_ESCAPE = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")  # RFC 6533 section 3: what does not stand for itself


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


def encode_utf8_xtext(text: str) -> str:
    """`grün@example.net` → `gr\\x{FC}n@example.net`."""
    return _NOT_QCHAR.sub(lambda hit: f"\\x{{{ord(hit[0]):02X}}}", text)


def decode_utf8_xtext(text: str) -> str:
    """The address meant. An escape that names no character stays as it is; the result may hold any character: look before use."""
    return _UNICODE_ESCAPE.sub(_character, text)


def _character(hit: re.Match[str]) -> str:
    point = int(hit[1], 16)
    return chr(point) if point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF else hit[0]
