"""One event is one line, whatever the wire put into it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.telemetry.lines import VALUE_LIMIT_CHARACTERS, Stamp, escaped, json_line, quoted, text_line

AT = "2026-01-01T12:00:00.123Z"
HOSTILE = {
    "CR": ("a\rb", r'"a\x0db"'),
    "LF": ("a\nb", r'"a\x0ab"'),
    "ESC": ("\x1b[2J", r'"\x1b[2J"'),
    "DEL": ("a\x7f", r'"a\x7f"'),
    "NUL": ("\0", r'"\x00"'),
    "C1 CSI": ("\x9b31m", r'"\u009b31m"'),
    "line separator": ("a\u2028b", r'"a\u2028b"'),
    "bidi override": ("\u202egpj.exe", r'"\u202egpj.exe"'),
    "tag beyond the BMP": ("\U000e0041", r'"\U000e0041"'),
    "quote": ('a"b', r'"a\"b"'),
    "backslash": ("a\\b", r'"a\\b"'),
    "forged key": ("x id=1 from=y", '"x id=1 from=y"'),
    "no UTF-8": (b"\xff".decode("utf-8", "surrogateescape"), r'"\xff"'),
    "empty": ("", '""'),
    "letters": ("jürgen@dev.test", '"jürgen@dev.test"'),
}


@pytest.mark.parametrize(("value", "expected"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_values_are_quoted_and_escaped(value: str, expected: str) -> None:
    assert text_line(AT, "refused", 0, {"helo": value}) == f"{AT} refused helo={expected}\n"


@pytest.mark.parametrize("value", [value for value, _ in HOSTILE.values()], ids=HOSTILE.keys())
def test_json_keeps_hostile_values_in_one_line_of_plain_ascii(value: str) -> None:
    line = json_line(AT, "refused", 0, {"helo": value})
    assert re.fullmatch(r"[ -~]+\n", line)
    meant = value if value.isascii() or value.encode("utf-8", "replace").decode() == value else "\\xff"
    assert json.loads(line)["helo"] == meant


def test_text_line_names_event_id_and_fields() -> None:
    fields = {"from_": "<a@b>", "size": 1234, "seconds": 0.25, "tls": True, "auth": None, "raw": b"\xe9"}
    expected = f'{AT} accepted id=0000000000001 from=<a@b> size=1234 seconds=0.250 tls=yes raw="\\xe9"\n'
    assert text_line(AT, "accepted", 1, fields) == expected


def test_json_line_keeps_types() -> None:
    fields = {"from_": "<a@b>", "size": 1234, "seconds": 0.25, "tls": False, "auth": None, "odd": float("nan")}
    assert json.loads(json_line(AT, "accepted", 1, fields)) == {
        "time": AT,
        "event": "accepted",
        "id": "0000000000001",
        "from": "<a@b>",
        "size": 1234,
        "seconds": 0.25,
        "tls": False,
        "odd": None,
    }


def test_a_long_value_is_cut() -> None:
    line = text_line(AT, "refused", 0, {"helo": "x" * 1_000_000})
    assert len(line) < VALUE_LIMIT_CHARACTERS + 100
    assert "(1000000 characters)" in line


@given(st.text())
def test_no_text_breaks_a_line_or_steers_a_terminal(value: str) -> None:
    for line in (text_line(AT, "x", 0, {"k": value}), json_line(AT, "x", 0, {"k": value}), quoted(value) + "\n"):
        assert line.splitlines(keepends=True) == [line]
        assert line[:-1].isprintable()
    assert escaped(value).isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text())
def test_a_value_never_passes_for_another_key(value: str, other: str) -> None:
    line = text_line(AT, "x", 0, {"k": value, "size": 7})
    assert re.fullmatch(rf'{AT} x k=(?:[^" ]+|"(?:[^"\\]|\\.)*") size=7\n', line)


def test_stamp_follows_the_clock_and_caches_the_millisecond() -> None:
    now = [1_767_268_800.1234]
    stamp = Stamp(lambda: now[0])
    first = stamp()
    assert first == "2026-01-01T12:00:00.123Z"
    now[0] += 0.0001
    assert stamp() is first
    now[0] += 1
    assert stamp() == "2026-01-01T12:00:01.123Z"
    now[0] -= 3600
    assert stamp() == "2026-01-01T11:00:01.123Z"
