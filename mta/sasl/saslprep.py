"""SASLprep (RFC 4013): two spellings of one name or password become one. Pure; the tables are the standard library's.

The profile is of stringprep (RFC 3454), whose tables are Unicode 3.2: normalisation has to use that version too, or a
password typed on two systems could differ.
"""

from __future__ import annotations

import stringprep
from unicodedata import ucd_3_2_0 as unicode_3_2

_PROHIBITED = (  # RFC 4013 section 2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class ProhibitedText(ValueError):
    """The text may not be a name or password. The message never quotes it."""


def saslprep(text: str, *, stored: bool = False) -> str:
    """The prepared form of `text`. Raises ProhibitedText.

    `stored`: for what is kept (RFC 3454 section 7): code points that Unicode 3.2 did not assign are refused; in a query
    they pass.
    """
    if text.isascii():
        if not text.isprintable():
            raise ProhibitedText("control characters")
        return text
    mapped = "".join(_mapped(character) for character in text)
    prepared = unicode_3_2.normalize("NFKC", mapped)
    for character in prepared:
        if any(prohibited(character) for prohibited in _PROHIBITED):
            raise ProhibitedText("prohibited characters (RFC 4013 section 2.3)")
        if stored and stringprep.in_table_a1(character):
            raise ProhibitedText("characters that Unicode 3.2 does not know (RFC 4013 section 2.5)")
    _check_bidi(prepared)
    return prepared


def _mapped(character: str) -> str:
    """RFC 4013 section 2.1: other spaces become a space, what is commonly mapped to nothing vanishes."""
    if stringprep.in_table_c12(character):
        return " "
    return "" if stringprep.in_table_b1(character) else character


def _check_bidi(text: str) -> None:
    """RFC 3454 section 6."""
    if not any(stringprep.in_table_d1(character) for character in text):
        return
    if any(stringprep.in_table_d2(character) for character in text):
        raise ProhibitedText("left-to-right and right-to-left characters mixed")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ProhibitedText("right-to-left text must begin and end so")
