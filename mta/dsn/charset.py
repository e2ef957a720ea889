"""Octets of somebody else's text as characters, by the charset they claim. Pure; never raises.

Only charsets that mail is really written in: Python knows others by the same means (punycode, unicode_escape, utf-7, idna) whose decoding is
quadratic, or is a program of its own.
"""

from __future__ import annotations

import re

_KNOWN = re.compile(
    r"utf-?8|us-?ascii|ascii|iso-?8859-?\d{1,2}|latin-?1|windows-125\d|cp125\d|koi8-[rut]|gb2312|gbk|gb18030|big5(-hkscs)?"
    r"|shift[_-]jis|iso-2022-(jp|kr)|euc-(jp|kr)",
    re.IGNORECASE,
)


def decode(octets: bytes, charset: str) -> str:
    """What can't be read becomes U+FFFD; an unknown charset is read as UTF-8."""
    name = charset if _KNOWN.fullmatch(charset) else "utf-8"
    try:
        return octets.decode(name, "replace")
    except LookupError:  # iso-8859-12 is no charset
        return octets.decode("utf-8", "replace")
