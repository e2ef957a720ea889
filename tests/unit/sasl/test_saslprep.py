"""SASLprep: the examples of RFC 4013 section 3, and what a keyboard does."""

from __future__ import annotations

import pytest

from mta.sasl.saslprep import ProhibitedText, saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),  # a soft hyphen is mapped to nothing
        ("user", "user"),
        ("USER", "USER"),  # case is kept
        ("\u00aa", "a"),  # NFKC
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),  # another space is a space
        ("Pa\u0308sswort", "P\u00e4sswort"),  # the two ways to type a letter with a mark are one
    ],
)
def test_the_prepared_form(text, prepared):
    assert prepared == saslprep(text)


@pytest.mark.parametrize("text", ["\u0007", "a\x7f", "\u0627\u0031", "a\ue000", "\u200ea", "\u0627b\u0627", "\x00"])
def test_what_is_prohibited_is_not_quoted_in_the_error(text):
    with pytest.raises(ProhibitedText) as caught:
        saslprep(text)
    assert text not in str(caught.value)


def test_what_unicode_3_2_did_not_know_is_refused_in_storage_only():
    assert saslprep("\U0001f600") == "\U0001f600"
    with pytest.raises(ProhibitedText):
        saslprep("\U0001f600", stored=True)
