"""Text that becomes a field."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dsn.fields import FieldError, field, original_recipient, wire_text


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "a\rb", "a\x00b", "\x1b[0m", "a\u2028b", "a\x85b"])
def test_a_control_character_is_refused(value: str) -> None:
    with pytest.raises(FieldError):
        field("Subject", value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "ä"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(FieldError):
        field(name, "x")


@given(st.text(max_size=3000))
def test_whatever_the_wire_said_makes_one_field_that_reads_back(text: str) -> None:
    harmless = wire_text(text)
    octets = field("Diagnostic-Code", "smtp; " + harmless)
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    parsed = message_from_bytes(octets + b"\r\n", policy=policy.compat32)
    assert len(parsed.items()) == 1
    assert parsed["Diagnostic-Code"].replace("\r\n", "").rstrip() == ("smtp; " + harmless).rstrip()


def test_a_long_value_is_folded_before_spaces() -> None:
    octets = field("Subject", " ".join(["word"] * 40))
    assert max(map(len, octets.split(b"\r\n"))) <= 78
    assert octets.replace(b"\r\n", b"") == b"Subject: " + b" ".join([b"word"] * 40)


@pytest.mark.parametrize(
    ("orcpt", "value"),
    [
        ("rfc822;bob@example.org", "rfc822; bob@example.org"),
        ("utf-8;gr\\x{FC}n@example.org", "utf-8; gr\\x{FC}n@example.org"),
        ("rfc822;grün@example.org", "utf-8; gr\\x{FC}n@example.org"),
        ("rfc822;", ""),
        ("rfc 822;x", ""),
        (";x", ""),
        ("x", ""),
        ("rfc822;" + "x" * 2000, ""),
    ],
)
def test_orcpt_as_a_field(orcpt: str, value: str) -> None:
    assert original_recipient(orcpt) == value
