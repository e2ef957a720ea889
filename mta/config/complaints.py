"""pydantic's errors as an administrator reads them: the key, what it must be, what was meant perhaps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from mta.config.findings import Findings
from mta.config.model import Configuration
from mta.config.positions import KeyPath
from mta.config.words import actual, expected, field_at, model_of, table_at

_OF_TYPE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}


def complain(error: ValidationError, raw: dict[str, Any], findings: Findings) -> list[KeyPath]:
    """Every error as a problem, one a key; the keys that are wrong."""
    wrong: dict[KeyPath, None] = {}
    for each in error.errors(include_url=False):
        kind = each["type"]
        path = written_part(each["loc"], raw)
        if kind in {"missing", "extra_forbidden"}:
            path = (*path[: len(each["loc"]) - 1], str(each["loc"][-1]))
        if path in wrong:
            continue  # a further alternative of the same value
        wrong[path] = None
        match kind:
            case "extra_forbidden":
                findings.add("E010", path, "is unknown here", meant(path, raw))
            case "missing":
                field = field_at(Configuration, path)
                description = field.description if field is not None else None
                findings.add("E011", path, "is missing", description or "")
            case _:
                findings.add(*_about_value(kind, path, each.get("input"), each.get("ctx", {})))
    return list(wrong)


def written_part(location: Iterable[str | int], raw: Any) -> KeyPath:
    """The part of pydantic's location that the file has: behind it come names of alternatives."""
    path = KeyPath()
    for part in location:
        members = dict(enumerate(raw)) if isinstance(raw, list) else raw
        if not isinstance(members, dict) or part not in members:
            break
        raw = members[part]
        path += (part,)
    return path


def _about_value(kind: str, path: KeyPath, value: object, context: dict[str, Any]) -> tuple[str, KeyPath, str, str]:
    """Code, key, message, hint."""
    if kind == "value_error":
        return "E013", path, str(context["error"]), ""
    if kind == "string_pattern_mismatch":
        return "E013", path, f"{actual(value)} does not fit the pattern {context['pattern']}", ""
    if kind == "too_short":
        return "E013", path, "must not be empty", ""
    field = field_at(Configuration, path)
    what = expected(field, item=isinstance(path[-1], int)) if field is not None else "something else"
    if kind == "literal_error":
        hint = _similar(str(value), what.replace(" or ", " ").replace('"', "").split())
        return "E013", path, f"must be {what}, not {actual(value)}", hint
    return "E013" if kind in _OF_TYPE else "E012", path, f"must be {what}, not {actual(value)}", ""


def meant(path: KeyPath, raw: object = None) -> str:
    """A hint for an unknown key: one of this table that is spelled alike, or the table where such a key is known."""
    name = str(path[-1])
    table = table_at(Configuration, path[:-1])
    own = table.model_fields if table is not None else {}
    hint = _similar(name, own)
    if hint:
        return hint
    elsewhere = [where for where, model in _tables(Configuration, "") if name in model.model_fields]
    if elsewhere:
        return f"{name} belongs into {' or '.join(elsewhere)}"
    return f"known here are {', '.join(own)}" if own else ""


def _similar(name: str, known: Iterable[str]) -> str:
    lowered = name.lower().replace("-", "_")
    close = difflib.get_close_matches(lowered, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def _tables(model: type[BaseModel], prefix: str) -> Iterable[tuple[str, type[BaseModel]]]:
    """Every table of the model by the header that begins it."""
    yield (f"[{prefix}]" if prefix else "the top of the file, before the first table"), model
    for name, field in model.model_fields.items():
        below = model_of(field.annotation)
        if below is not None:
            path = f"{prefix}.{name}" if prefix else name
            for header, table in _tables(below, path):
                is_array = header == f"[{path}]" and str(field.annotation).startswith("list")
                yield (f"[{header}]" if is_array else header), table
