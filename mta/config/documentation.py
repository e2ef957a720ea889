"""docs/configuration.md and the JSON schema, made from the model: one truth about every key.

`python -m mta.config.documentation docs/configuration.md` writes the page (`make docs`); a test holds it to the model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mta.config.model import Configuration
from mta.config.problem import CODES
from mta.config.settings import FIXED, FIXED_OF_LISTENER
from mta.config.units import Octets, Seconds, SecondsOrNone, Words, show_duration, show_size
from mta.config.words import expected, model_of

_FOR_TESTS = "test_only"
_SIZES = {each for each in get_args(Octets) if isinstance(each, Words)}
_DURATIONS = {each for kind in (Seconds, SecondsOrNone) for each in get_args(kind) if isinstance(each, Words)}

_HEAD = """\
# Configuration

<!-- Made from mta/config/model.py by `make docs`; changes here are lost. -->

txmta reads one TOML file: the one that `--config` names, else the one in the environment's `MTA_CONFIG`, else
`/etc/mta/mta.toml`. `conf/mta.toml` is a commented one to begin with.

- `mta config check` tells everything that is wrong at once, with line and key, and what is unsafe or without effect. The daemon
  makes the same check when it starts, and leaves with exit code 78 where there is an error; a reload with an error changes nothing.
- An unknown key is an error, and so is a value of the wrong type: `"50"` is no number.
- A relative path is taken from the directory that holds the file, wherever the daemon was started. So is the path in
  `maildir:`, `table:` and `unix:`.
- A **size** is a number of octets, or a text such as `"128K"`, `"25M"`, `"2G"` (powers of 1024). A **duration** is a number of seconds,
  or a text such as `"90s"`, `"5m"`, `"1h30m"`, `"5d"`.
- An **endpoint** is `tcp:PORT`, `tcp6:PORT` (IPv6 only, so that both can have one port), each with `:interface=ADDRESS` where not
  every address is meant; `unix:PATH`; or `systemd:domain=INET6:name=NAME` for a socket that systemd opened. Colons of an IPv6 address
  are escaped, most easily in single quotes: `'tcp6:25:interface=2001\\:db8\\:\\:1'`.
- `mta reload` puts a changed file into force: a session takes the settings of its listener when it begins, limits and routes with
  each message. Keys marked with * name what exists already (sockets, files) and wait for a restart; `mta reload` says so.
"""


def page() -> str:
    """docs/configuration.md."""
    parts = [_HEAD, *_sections(), "## What `mta config check` says\n", _codes()]
    return "\n".join(parts).rstrip() + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors: `mta config schema`. Switches for tests are left out."""
    made = Configuration.model_json_schema()
    del made["properties"][_FOR_TESTS]
    del made["$defs"]["TestOnly"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "txmta configuration", **made}


def example() -> str:
    """A file with every key, as the examples of all sections make it together."""
    return "\n".join(_example(header, model) for header, model in _tables())


def _tables() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every table in the order of the model, with its header as it is written; "" for the top."""
    yield "", Configuration
    yield from _tables_below(Configuration, "")


def _tables_below(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        table = model_of(field.annotation)
        if table is None or name == _FOR_TESTS:
            continue
        path = f"{prefix}.{name}" if prefix else name
        yield (f"[[{path}]]" if get_origin(field.annotation) is list else f"[{path}]"), table
        yield from _tables_below(table, path)


def _sections() -> Iterator[str]:
    for header, model in _tables():
        first = (model.__doc__ or "").strip().partition("\n")[0]
        meaning = first.partition(": ")[2].rstrip(".") if header else "before the first table"
        yield f"## {f'`{header}`' if header else 'The top of the file'}: {meaning}\n"
        yield "| key | type | default | meaning |\n| --- | --- | --- | --- |"
        for name, field in _keys(model):
            mark = "\\*" if _waits_for_restart(header, name) else ""
            kind = expected(field)
            if kind in _SIZES | _DURATIONS:
                kind = kind.partition(":")[0]  # the head of the page tells how they are written
            cells = (f"`{name}`{mark}", kind, _default(field), field.description or "")
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield f"\n```toml\n{_example(header, model).rstrip()}\n```\n"


def _keys(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, field) for name, field in model.model_fields.items() if model_of(field.annotation) is None)


def _waits_for_restart(header: str, name: str) -> bool:
    table = header.strip("[]")
    return (table, name) in FIXED or (table == "listener" and name in FIXED_OF_LISTENER)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    return "" if field.default is None else f"`{_toml(_as_written(field, field.default))}`"


def _example(header: str, model: type[BaseModel]) -> str:
    lines = [header] if header else []
    for name, field in _keys(model):
        value = field.examples[0] if field.examples else _as_written(field, field.default)
        if value is None:
            continue  # an alternative to another key
        lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _as_written(field: FieldInfo, value: object) -> object:
    """A default as a person writes it."""
    words = expected(field)
    if words in _SIZES and isinstance(value, int):
        return show_size(value)
    if words in _DURATIONS and isinstance(value, float):
        return show_duration(value)
    return value


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False)


def _codes() -> str:
    rows: Iterable[str] = (f"| {code} | {meaning.replace('|', chr(92) + '|')} |" for code, meaning in CODES.items())
    head = "E: the configuration is refused. W: it is taken, with a warning. A code keeps its meaning for ever.\n"
    return "\n".join((head, "| code | meaning |", "| --- | --- |", *rows))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
