"""The index of key positions: the same keys as tomllib finds, each where it is written."""

from __future__ import annotations

import datetime
import json
import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mta.config.positions import KeyPath, Position, index_positions

EVERY_FORM = """\
# a comment with = and [brackets]
title = "a # no comment"   # a comment
"quoted key" = 'lit # eral'
'lit.key' = 1979-05-27 07:32:00
"\\u00fc\\t" = 1
"" = "the empty key"
dotted.a . "b.c" = { x = 1, y.z = [1, { deep = '}' }, ] } # ] }
fruit.apple.color = 1_000
fruit.apple.taste.sweet = true
multi = \"\"\"
[no.table]
key = "no key" \\
\"\"quotes\"\"\"\"\"
raw = '''
# no comment ' '' '''''
empty = ""
empty_array = [ # comment
]
empty_table = {}
array = [
  1, # one ]
  [ "a,]", 'b' ],

  { k = [ ] } # "
  , inf, 0x1F, 07:32:00.5
]
[a.b.c]
d = 1
[a]
e = [[[]]]
[[list]]
name = "one"
[list.sub]
x = 1
[[list.inner]]
y = 1
[[list.inner]]
y = 2
[[list]]
[[ list . "inner" ]]
z = 1
[list.inner.table] # comment
q = "x"
"""


def key_paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key path of a parsed document, elements of arrays included."""
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, below in items:
        yield (*path, key)
        yield from key_paths(below, (*path, key))


def test_every_form_of_toml_has_the_keys_that_tomllib_finds() -> None:
    assert set(key_paths(tomllib.loads(EVERY_FORM))) == set(index_positions(EVERY_FORM).places)


def test_windows_line_ends_move_no_key() -> None:
    assert index_positions(EVERY_FORM).places == index_positions(EVERY_FORM.replace("\n", "\r\n")).places


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("title",), 2, 1),
        (("dotted", "a", "b.c", "y", "z", 1, "deep"), 7, 41),
        (("fruit",), 8, 1),
        (("raw",), 14, 1),
        (("array",), 20, 1),
        (("array", 0), 21, 3),
        (("array", 1, 1), 22, 12),
        (("array", 3), 25, 5),
        (("a",), 29, 1),  # its own header, not [a.b.c] that implied it
        (("a", "b"), 27, 1),
        (("list",), 31, 1),
        (("list", 0), 31, 1),
        (("list", 0, "inner", 1, "y"), 38, 1),
        (("list", 1), 39, 1),
        (("list", 1, "inner", 0), 40, 1),
        (("list", 1, "inner", 0, "table", "q"), 43, 1),
    ],
)
def test_a_key_is_found_where_it_is_written(path: KeyPath, line: int, column: int) -> None:
    assert Position(line, column) == index_positions(EVERY_FORM).places[path]


def test_what_is_not_written_is_placed_at_the_table_around_it() -> None:
    positions = index_positions("x = 1\n[[route]]\nvia = 'mx'\n", "mta.toml")
    assert positions.line("route", 0, "domains") == 2
    assert positions.line("spool", "path") == 0
    assert positions.place_of("route.0.via") == "mta.toml:3"
    assert positions.place_of("spool.path") == ""


def test_a_hundred_thousand_quotes_and_deep_arrays_are_read() -> None:
    text = 'a = """' + '"" x' * 100_000 + '"""\nb = ' + "[" * 200 + "]" * 200 + "\n"
    assert set(key_paths(tomllib.loads(text))) == set(index_positions(text).places)


# --- any document: a value is written in a random lawful form, then both readers must agree on its keys -----------------------------

BLANKS = st.sampled_from(["", " ", "\t", "  "])
BREAKS = st.sampled_from(["", " ", "\n", ' # ] } = """ \'\n', "\n\n\t"])
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x7f", min_codepoint=32)
TEXTS = st.text(CHARACTERS, max_size=8) | st.sampled_from(
    ["#", "'''", '"""', "]", "}", "a.b", "=", "\\", "x\ny", "\\\n", '""x']
)


def basic(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def forms(text: str) -> list[str]:
    """All ways to write a string."""
    found = [basic(text), '"""' + basic(text)[1:-1] + '"""', '"""\n' + basic(text)[1:-1].replace('\\"', '"', 1) + '"""']
    if "'" not in text and "\n" not in text:
        found.append(f"'{text}'")
    if "'''" not in text and not text.startswith("\n"):
        found += [f"'''{text}'''", f"'''\n{text}'''"]
    return found


@st.composite
def keys(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(["a", "b", "c", "a-1", "1", "a.b", "", "ü", "#", "]"]))
    written = [basic(name), f"'{name}'"] + (
        [name] if name and name.isascii() and name.replace("-", "").isalnum() else []
    )
    return draw(st.sampled_from(written))


@st.composite
def dotted_keys(draw: st.DrawFn) -> str:
    parts = draw(st.lists(keys(), min_size=1, max_size=3))
    return (draw(BLANKS) + "." + draw(BLANKS)).join(parts)


@st.composite
def values(draw: st.DrawFn, depth: int = 0) -> str:
    kind = draw(st.integers(0, 4 if depth < 3 else 2))
    if kind <= 1:
        return draw(st.sampled_from(forms(draw(TEXTS))))
    if kind == 2:
        scalars = [
            "1",
            "-0",
            "1.5e3",
            "true",
            "nan",
            "1979-05-27T07:32:00Z",
            "1979-05-27 07:32:00.5-07:00",
            "07:32:00",
        ]
        return draw(st.sampled_from(scalars))
    if kind == 3:
        items = draw(st.lists(values(depth + 1), max_size=3))
        inner = (draw(BREAKS) + "," + draw(BREAKS)).join(items) + (
            draw(st.sampled_from(["", ",", "\n,\n"])) if items else ""
        )
        return "[" + draw(BREAKS) + inner + draw(BREAKS) + "]"
    pairs = [
        draw(dotted_keys()) + draw(BLANKS) + "=" + draw(BLANKS) + draw(values(depth + 1))
        for _ in range(draw(st.integers(0, 2)))
    ]
    return "{" + draw(BLANKS) + (draw(BLANKS) + "," + draw(BLANKS)).join(pairs) + draw(BLANKS) + "}"


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Mostly lawful: the keys of a body are numbered, the headers are few, so that arrays of tables nest."""
    headers = st.sampled_from(
        ["[[a]]", "[[a]]", "[[a.b]]", "[a.c]", '[[ a . "b".d ]]', "[e]", "[e.f]", "[a.b.'g']", "[[e.h]]"]
    )
    lines = []
    for number in range(draw(st.integers(1, 10))):
        lead = draw(BLANKS)
        match draw(st.integers(0, 5)):
            case 0 | 1 | 2:
                lines.append(lead + draw(headers))
            case 3:
                lines.append(f"{lead}{draw(dotted_keys())}{draw(BLANKS)}={draw(BLANKS)}{draw(values())}")
            case _:
                lines.append(f"{lead}key{number}{draw(BLANKS)}={draw(BLANKS)}{draw(values())}")
        lines[-1] += draw(st.sampled_from(["", " ", "\t# x = [", "#"]))
    return draw(st.sampled_from(["\n", "\r\n", "\n\n#\n"])).join(lines) + draw(st.sampled_from(["", "\n"]))


@settings(max_examples=200, deadline=None)
@example("[[a]]\n[[a.b]]\n[[a]]\n[[a.b]]\nx = 1")
@example('x = ["""a"""", """""b""\\""""", 1]\ny = [\'\'\'\'a\'\'\'\'\', {b = 1}]')
@given(documents())
def test_any_document_that_tomllib_takes_has_the_same_keys_each_at_its_place(text: str) -> None:
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    places = index_positions(text).places
    assert set(key_paths(parsed)) == set(places)
    lines = text.replace("\r\n", "\n").split("\n")
    for path, place in places.items():
        written = lines[place.line - 1][place.column - 1 :]
        assert written[:1].strip(), path
        if str(path[-1]).startswith("key"):
            assert written.startswith(str(path[-1]))


def test_dates_are_values_here_too() -> None:
    assert datetime.date(1979, 5, 27) == tomllib.loads("d = 1979-05-27")["d"]
    assert set(index_positions("d = 1979-05-27 # x\ne = 1").places) == {("d",), ("e",)}
