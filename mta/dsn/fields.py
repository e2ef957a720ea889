"""Header fields and delivery-status fields as octets. The one place where text becomes a field of a report.

What comes from the wire (replies, addresses, envelope IDs) is made harmless by `wire_text` before it stands in a field, and `field`
refuses whatever control character is left: a reply of a remote server can add no line to a report (law 12).
"""

from __future__ import annotations

import re

from mta.mail.address import Address
from mta.smtp.xtext import decode_utf8_xtext, encode_utf8_xtext

LINE_LIMIT_OCTETS = 78  # RFC 5322 section 2.1.1, where there is a space to fold at
TEXT_LIMIT_CHARACTERS = 900  # with its field's name it stays below 998 (RFC 5322 section 2.1.1) even in one word

_NAME = re.compile(r"[!-9;-~]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ATOM = re.compile(r"[A-Za-z0-9-]+")


class FieldError(ValueError):
    """Text that must not stand in a field: our fault, somebody forgot to make it harmless."""


def field(name: str, value: str) -> bytes:
    """`name: value` with its CRLF, folded at single spaces. Raises FieldError for control characters."""
    if not _NAME.fullmatch(name):
        raise FieldError(f"{name!r} is no field name")
    if _CONTROL.search(value):
        raise FieldError(f"control characters in {name}")
    line = f"{name}: {value}"
    if len(line) > LINE_LIMIT_OCTETS and "  " not in line:
        line = _folded(line)
    return line.encode("utf-8") + b"\r\n"


def _folded(line: str) -> str:
    """Cut before a space, so that unfolding gives the same text; the name keeps its first word."""
    words = line.split(" ")
    lines, current = [], " ".join(words[:2])
    for word in words[2:]:
        if len(current) + 1 + len(word) > LINE_LIMIT_OCTETS:
            lines.append(current)
            current = " " + word
        else:
            current += " " + word
    return "\r\n".join([*lines, current])


def wire_text(text: str, limit: int = TEXT_LIMIT_CHARACTERS) -> str:
    """Text of a peer as one harmless line of printable ASCII: line breaks become spaces, the rest \\x escapes; cut at `limit`."""
    one_line = " ".join(text.split())
    if not (one_line.isascii() and one_line.isprintable()):
        one_line = "".join(each if " " <= each <= "~" else _escaped(each) for each in one_line)
    return one_line if len(one_line) <= limit else one_line[: limit - 3] + "..."


def _escaped(character: str) -> str:
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{{{point:x}}}"


def exact_text(text: str) -> str:
    """Printable ASCII as it is, with all its spaces; anything else as `wire_text` has it."""
    return text if text.isascii() and text.isprintable() and len(text) <= TEXT_LIMIT_CHARACTERS else wire_text(text)


def shown_text(text: str) -> str:
    """Text of somebody else for a person's eyes: printable Unicode as it is, the rest (control and direction marks too) \\x escapes."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in text)


def typed_address(address: Address, *, native: bool = False) -> str:
    """`rfc822; user@example.org`; for what is not ASCII `utf-8; ...`, as it is where `native`, else in the 7-bit form."""
    text = str(address)
    return "rfc822; " + text if text.isascii() else _utf8(text, native)


def original_recipient(orcpt: str, *, native: bool = False) -> str:
    """ORCPT (`type;address`, xtext decoded) as an Original-Recipient value; "" when there is none, or none that is lawful."""
    kind, separator, text = orcpt.partition(";")
    if not separator or not text or not _ATOM.fullmatch(kind) or _CONTROL.search(text):
        return ""
    if kind.lower() == "utf-8" or not text.isascii():
        value = _utf8(decode_utf8_xtext(text), native)
    else:
        value = f"{kind}; {text}"
    return value if len(value) <= TEXT_LIMIT_CHARACTERS else ""


def _utf8(text: str, native: bool) -> str:
    """RFC 6533 section 3. What could be taken for an escape, or is no printable text, goes in the 7-bit form in any case."""
    if native and text.isprintable() and "\\" not in text:
        return "utf-8; " + text
    return "utf-8; " + encode_utf8_xtext(text)
