"""Where each key of a TOML file stands: tomllib gives values without positions, an error needs the line.

The index is made beside tomllib, never instead of it: it expects a text that tomllib takes, decides nothing about values,
and finds a place for every key path of the parsed document, array elements included. A path is a tuple of keys and of
indexes from 0: ("listener", 0, "endpoints", 1). Lines and columns count from 1. Source: TOML 1.0.0.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

KeyPath = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(
    r"(?:[ \t\n]|#[^\n]*)*"
)  # white space, newlines and comments: what may stand between elements
_REST_OF_LINE = re.compile(r"[^\n]*\n?")
_SCALAR = re.compile(r"[^,\]}#\n]*")  # number, boolean, date: a date may hold a blank
_STRINGS = (  # the long forms first; up to two quotes may stand right before the closing three
    # Loops unrolled by hand: possessive repeats of a group are broken in Python 3.11 before 3.11.4.
    re.compile(r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"{3,5}', re.DOTALL),
    re.compile(r"'''[^']*(?:'(?!'')[^']*)*'{3,5}", re.DOTALL),
    re.compile(r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'),
    re.compile(r"'[^'\n]*'"),
)


@dataclass(frozen=True, slots=True)
class Position:
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Positions:
    """The places of a file's keys. `file` is its path as it was given."""

    file: str = ""
    places: Mapping[KeyPath, Position] = field(default_factory=dict)

    def find(self, path: KeyPath) -> Position | None:
        """The place of `path`, else of the nearest table or array around it; None where the file has nothing of it."""
        for length in range(len(path), 0, -1):
            place = self.places.get(path[:length])
            if place is not None:
                return place
        return None

    def line(self, *path: str | int) -> int:
        """The line of `path` or of what surrounds it; 0 when that is the file as a whole."""
        place = self.find(path)
        return place.line if place is not None else 0

    def place_of(self, key: str) -> str:
        """`mta.toml:34` for a key such as `route.0.via`; "" where neither it nor what surrounds it is written."""
        line = self.line(*(int(part) if part.isdecimal() else part for part in key.split(".")))
        return f"{PurePath(self.file).name}:{line}" if line else ""


def index_positions(text: str, file: str = "") -> Positions:
    """The places of all keys of `text`, which must be TOML that tomllib takes."""
    return Positions(file, dict(_Scanner(text.replace("\r\n", "\n")).scan()))


class _Scanner:
    """One pass over the text. Each method takes an offset and returns the offset behind what it read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offsets: dict[KeyPath, int] = {}
        self._implied: set[KeyPath] = set()  # tables that so far exist only as part of a longer key
        self._elements: dict[KeyPath, int] = {}  # [[arrays of tables]] -> number of tables so far

    def scan(self) -> Iterator[tuple[KeyPath, Position]]:
        text, at, table = self._text, 0, KeyPath()
        while (at := _after(_BLANK_LINES, text, at)) < len(text):
            if text.startswith("[[", at):
                table, at = self._header(at, 2)
            elif text[at] == "[":
                table, at = self._header(at, 1)
            else:
                at = self._pair(at, table)
            at = _after(_REST_OF_LINE, text, at)
        return self._places()

    def _places(self) -> Iterator[tuple[KeyPath, Position]]:
        line, start = 1, 0
        for path, offset in sorted(self._offsets.items(), key=lambda item: item[1]):
            line += self._text.count("\n", start, offset)
            start = offset
            yield path, Position(line, offset - self._text.rfind("\n", 0, offset))

    def _header(self, at: int, brackets: int) -> tuple[KeyPath, int]:
        """[table] or [[array]]: the path of the table that it opens."""
        keys, end = self._keys(at + brackets)
        path = KeyPath()
        for key in keys[:-1]:
            path += (key,)
            self._imply(path, at)
            if path in self._elements:  # a name below an array of tables means its last table
                path += (self._elements[path] - 1,)
        path += (keys[-1],)
        if brackets == 1:
            self._found(path, at)
        else:
            self._offsets.setdefault(path, at)
            number = self._elements.get(path, 0)
            self._elements[path] = number + 1
            path += (number,)
            self._found(path, at)
        return path, end + brackets

    def _pair(self, at: int, table: KeyPath) -> int:
        """`dotted.key = value`."""
        keys, end = self._keys(at)
        path = table
        for key in keys[:-1]:
            path += (key,)
            self._imply(path, at)
        path += (keys[-1],)
        self._found(path, at)
        return self._value(_after(_BLANK, self._text, end + 1), path)  # behind the "="

    def _keys(self, at: int) -> tuple[list[str], int]:
        """The parts of a dotted key; the offset of the character that ends it ("=" or "]")."""
        parts = []
        while True:
            at = _after(_BLANK, self._text, at)
            hit = _BARE_KEY.match(self._text, at)
            if hit is not None:
                parts.append(hit[0])
                at = hit.end()
            else:
                end = self._string(at)
                parts.append(tomllib.loads("key = " + self._text[at:end])["key"])  # its escapes are tomllib's business
                at = end
            at = _after(_BLANK, self._text, at)
            if self._text[at : at + 1] != ".":
                return parts, at
            at += 1

    def _value(self, at: int, path: KeyPath) -> int:
        match self._text[at : at + 1]:
            case '"' | "'":
                return self._string(at)
            case "[":
                return self._array(at + 1, path)
            case "{":
                return self._inline_table(at + 1, path)
        return _after(_SCALAR, self._text, at)

    def _array(self, at: int, path: KeyPath) -> int:
        number = 0
        while True:
            at = _after(_BLANK_LINES, self._text, at)
            if self._text[at] == "]":
                return at + 1
            self._found((*path, number), at)
            at = _after(_BLANK_LINES, self._text, self._value(at, (*path, number)))
            at += self._text[at] == ","
            number += 1

    def _inline_table(self, at: int, path: KeyPath) -> int:
        while True:
            at = _after(_BLANK_LINES, self._text, at)  # TOML 1.1 takes newlines here; tomllib of 3.11 doesn't
            if self._text[at] == "}":
                return at + 1
            at = _after(_BLANK_LINES, self._text, self._pair(at, path))
            at += self._text[at] == ","

    def _string(self, at: int) -> int:
        for form in _STRINGS:
            hit = form.match(self._text, at)
            if hit is not None:
                return hit.end()
        raise ValueError(f"no TOML at offset {at}")

    def _found(self, path: KeyPath, at: int) -> None:
        """`path` is written at `at`. A table's own header outranks the longer key that implied it earlier."""
        if path in self._implied:
            self._implied.discard(path)
            self._offsets[path] = at
        else:
            self._offsets.setdefault(path, at)

    def _imply(self, path: KeyPath, at: int) -> None:
        if path not in self._offsets:
            self._offsets[path] = at
            self._implied.add(path)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    hit = pattern.match(text, at)
    return hit.end() if hit is not None else at
