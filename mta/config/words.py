"""The model's types in plain words, for errors and for the documentation."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mta.config.positions import KeyPath
from mta.config.units import Words

_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The table that a field holds, alone or as [[array]]; None for a plain value."""
    if get_origin(annotation) is list:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def field_at(root: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    """The field that a key path means; an index means what it counts."""
    table: type[BaseModel] | None = root
    found = None
    for part in path:
        if isinstance(part, int):
            continue
        if table is None or part not in table.model_fields:
            return None
        found = table.model_fields[part]
        table = model_of(found.annotation)
    return found


def table_at(root: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The table that a path leads to."""
    if not any(isinstance(part, str) for part in path):
        return root
    field = field_at(root, path)
    return model_of(field.annotation) if field is not None else None


def expected(field: FieldInfo, *, item: bool = False) -> str:
    """What a field holds, such as "a whole number from 1 to 256"; with `item`, what its elements are."""
    annotation = field.annotation
    if item and get_origin(annotation) is list:
        return _words(get_args(annotation)[0], ())
    return _words(annotation, field.metadata)


def _words(annotation: Any, metadata: Iterable[object]) -> str:
    metadata = list(metadata)
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        for each in inner:
            metadata += each.metadata if isinstance(each, FieldInfo) else [each]
    named = next((str(each) for each in metadata if isinstance(each, Words)), "")
    if named:
        return named
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        return " or ".join(_words(each, ()) for each in get_args(annotation) if each is not type(None))
    if origin is Literal:
        return " or ".join(f'"{each}"' for each in get_args(annotation))
    if origin is list:
        if model_of(annotation) is not None:
            return "a list of tables, each under its [[name]]"
        return f"a list, each item {_words(get_args(annotation)[0], ())}"
    if model_of(annotation) is not None:
        return "a table"
    return _SCALARS.get(annotation, "a value") + _bounds(metadata)


def _bounds(metadata: Iterable[object]) -> str:
    low = high = ""
    for each in metadata:
        match each:
            case Ge(ge=bound):
                low = f" from {bound}"
            case Gt(gt=bound):
                low = f" above {bound}"
            case Le(le=bound) if bound != 1 << 31:
                high = f" to {bound}"
            case Lt(lt=bound):
                high = f" to below {bound}"
    return low + high


def actual(value: object) -> str:
    """A value of the file as it may be named in an error; the value itself only where it is short."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'the text "{value}"' if len(value) <= 40 else "a text"
        case int() | float():
            return "a huge number" if abs(value) > 1e18 else f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a table"
    return "a date or time"
