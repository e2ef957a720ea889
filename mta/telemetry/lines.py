"""An event as one line of text or JSON: pure formatting.

What comes from the wire is data (law 12): no value can end a line, steer a terminal, or pass for another key. A value that is
plain printable ASCII without space, quote or backslash stands bare; every other is quoted, and in it stand

    \\"  \\\\        a quote, a backslash
    \\x0d         a control character of ASCII, or an octet that was no UTF-8 (surrogateescape)
    \\u2028       what a reader can't see or what reorders text: C1 controls, line separators, bidi controls, unassigned ...

Printable letters beyond ASCII stay readable in text and are \\uXXXX in JSON. Keys come from our own code alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii as _json_string  # in C: all but printable ASCII is escaped
from math import isfinite

from mta.mail.identifiers import format_id

Value = str | int | float | bool | bytes | None
VALUE_LIMIT_CHARACTERS = 2048  # a longer one is cut: a hostile peer fills no disk by one line

_bare = re.compile(r"[!#-\[\]-~]+").fullmatch
_SUSPECT = re.compile(r"[^ !#-\[\]-~]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Leads(dict[str, str]):
    """Key → ` key=`, made once: a trailing underscore lets a Python keyword be a field (`from_`)."""

    def __missing__(self, key: str) -> str:
        lead = self[key] = f" {key.rstrip('_')}="
        return lead


class _JsonLeads(dict[str, str]):
    def __missing__(self, key: str) -> str:
        lead = self[key] = f",{_json_string(key.rstrip('_'))}:"
        return lead


class _Words(dict[str, str]):
    """Text → as it stands in a line, for the names and addresses that stand in line after line. Bounded in number and length."""

    def __missing__(self, text: str) -> str:
        if len(text) > _WORD_CHARACTERS:
            return quoted(_cut(text) if len(text) > VALUE_LIMIT_CHARACTERS else text)
        if len(self) >= _WORDS_KEPT:
            self.clear()
        word = self[text] = quoted(text)
        return word


class _Shapes(dict[tuple[str, ...], str]):
    """(event, key, key ...) → the line with places for its values. As many as there are kinds of events in the code."""

    def __missing__(self, shape: tuple[str, ...]) -> str:
        name, *keys = shape
        fields = "".join([_leads[key].replace("%", "%%") + "%s" for key in keys])
        made = self[shape] = f"%s {name.replace('%', '%%')}%s{fields}\n"
        return made


_WORDS_KEPT, _WORD_CHARACTERS = 5000, 64
_words = _Words()
_shapes = _Shapes()
_leads = _Leads()
_json_leads = _JsonLeads()


def _escape(hit: re.Match[str]) -> str:
    character = hit[0]
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    point = ord(character)
    if point < 0x80:
        return f"\\x{point:02x}"
    if 0xDC80 <= point <= 0xDCFF:  # an octet that was no UTF-8 (PEP 383)
        return f"\\x{point - 0xDC00:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def quoted(text: str) -> str:
    """`text` as it stands in a line: bare where that is safe, else quoted and escaped. For tables on a terminal too."""
    return text if _bare(text) else '"' + _SUSPECT.sub(_escape, text) + '"'


def escaped(text: str) -> str:
    """`text` without anything that could steer a terminal or break a line; not quoted, spaces stay."""
    return _SUSPECT.sub(lambda hit: hit[0] if hit[0] == '"' else _escape(hit), text)


def _text(value: object) -> str:
    """A value that is neither str, int nor float, as a str."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def _cut(text: str) -> str:
    return f"{text[:VALUE_LIMIT_CHARACTERS]}...({len(text)} characters)"


class Stamp:
    """Wall time as `2026-01-01T12:00:00.123Z`, made anew only when the millisecond has changed."""

    __slots__ = ("_clock", "_millisecond", "_second", "_seconds_text", "_text")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._millisecond = self._second = -1
        self._seconds_text = self._text = ""

    def __call__(self) -> str:
        now = self._clock()
        second = int(now)
        millisecond = int((now - second) * 1000)
        if second != self._second:
            self._second = second
            self._seconds_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        elif millisecond == self._millisecond:
            return self._text
        self._millisecond = millisecond
        self._text = self._seconds_text + _MILLISECONDS[millisecond]
        return self._text


_MILLISECONDS = [f".{number:03d}Z" for number in range(1000)]


def text_line(stamp: str, name: str, message: int, fields: Mapping[str, Value]) -> str:
    """`2026-01-01T12:00:00.123Z accepted id=06A... from=<a@b> size=1234`, with its newline. None is left out."""
    words = _words
    values = [words[value] if type(value) is str else _word(value) for value in fields.values()]
    if None in values:
        fields = {key: value for key, value in fields.items() if value is not None}
        values = [value for value in values if value is not None]
    return _shapes[(name, *fields)] % (stamp, f" id={format_id(message)}" if message else "", *values)


def _word(value: Value) -> str | None:
    """What is no plain str, as it stands in a line; None is left out."""
    if type(value) is int:
        return int.__repr__(value)
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return None
    text = value if isinstance(value, str) else _text(value)
    return quoted(_cut(text) if len(text) > VALUE_LIMIT_CHARACTERS else text)


def json_line(stamp: str, name: str, message: int, fields: Mapping[str, Value]) -> str:
    """The same event as a JSON object: keys `time`, `event`, `id`, then the fields."""
    line = f'{{"time":"{stamp}","event":{_json_string(name)}'
    if message:
        line += f',"id":"{format_id(message)}"'
    for key, value in fields.items():
        if type(value) is int:
            line += _json_leads[key] + int.__repr__(value)
        elif isinstance(value, float):
            line += f"{_json_leads[key]}{value:.3f}" if isfinite(value) else f"{_json_leads[key]}null"
        elif isinstance(value, bool):
            line += _json_leads[key] + ("true" if value else "false")
        elif value is not None:
            text = value if isinstance(value, str) else _text(value)
            if len(text) > VALUE_LIMIT_CHARACTERS:
                text = _cut(text)
            if not text.isascii():
                text = _SURROGATE.sub(_escape, text)  # many readers choke on a lone surrogate
            line += _json_leads[key] + _json_string(text)
    return line + "}\n"
