"""xtext (RFC 3461 section 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.xtext import decode_xtext, encode_xtext


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_what_was_encoded_decodes_to_the_same(text: str) -> None:
    encoded = encode_xtext(text)
    assert decode_xtext(encoded) == text
    assert " " not in encoded
    assert "=" not in encoded


@given(st.text(max_size=30))
def test_hostile_text_is_a_value_error_or_printable(text: str) -> None:
    try:
        decoded = decode_xtext(text)
    except ValueError:
        return
    assert decoded.isascii()
    assert decoded.isprintable()


@pytest.mark.parametrize(
    "text", ["+", "+4", "+4g", "+0a", "a=b", "a b", "é", "+0D", "+0A", "+00", "+1B", "+7F", "+80", "+FF", "a\0"]
)
def test_what_is_no_xtext_or_hides_something(text: str) -> None:
    with pytest.raises(ValueError, match="xtext"):
        decode_xtext(text)


def test_examples() -> None:
    assert decode_xtext("QQ+2B314159") == "QQ+314159"
    assert decode_xtext("a+20b+3Dc") == "a b=c"
    assert encode_xtext("a b=c+d") == "a+20b+3Dc+2Bd"
