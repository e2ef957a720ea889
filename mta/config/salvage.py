"""A broken configuration made whole enough to be checked further: so that all errors are told at once, not one layer a run.

What is wrong is taken out, or replaced by a stand-in where the model demands something. The result is never used to run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from mta.config.complaints import written_part
from mta.config.findings import dotted
from mta.config.model import Configuration
from mta.config.positions import KeyPath
from mta.config.problem import Problem
from mta.config.words import field_at

_ROUNDS = 4  # what was hidden behind an error shows in the next round
_DOMAIN = "stand-in.invalid"
_LISTENER = {"name": "stand-in", "endpoints": ["tcp:0"], "kind": "mx", "tls": "none"}
_ROUTE = {"domains": [_DOMAIN], "via": "discard"}
_STAND_INS: dict[tuple[str, ...], Any] = {
    ("hostname",): "mail." + _DOMAIN,
    ("postmaster",): "postmaster@" + _DOMAIN,
    ("listener",): [_LISTENER],
    ("route",): [_ROUTE],
    **{("listener", name): value for name, value in _LISTENER.items() if name != "tls"},
    **{("route", name): value for name, value in _ROUTE.items()},
}
# What these complain of may come from damage anywhere in the named tables, not only at the key that they name.
_DEPENDS = {
    "E102": ("listener",),
    "E103": ("listener", "metrics"),
    "E104": ("tls",),
    "W208": ("hostname",),
    "E401": ("auth",),
    "W402": ("auth",),
    "E403": ("auth", "listener"),
    "E503": ("auth",),
    "E505": ("route",),
    "W506": ("route",),
    "W507": ("route",),
    "W508": ("route",),
    "E509": ("hostname",),
}
_DEPENDS_ON_ITS_TABLE = {"E701"}


def salvage(raw: dict[str, Any], wrong: Iterable[KeyPath], base: str) -> tuple[Configuration | None, set[KeyPath]]:
    """A configuration without what is wrong, if one can be made, and the keys that are not as written."""
    rest = copy.deepcopy(raw)
    damaged = {_mend(rest, path) for path in wrong}
    for _ in range(_ROUNDS):
        try:
            return Configuration.model_validate(rest, context={"base": base}), damaged
        except ValidationError as error:
            for each in error.errors(include_url=False, include_context=False):
                path = written_part(each["loc"], rest)
                if each["type"] in {"missing", "extra_forbidden"}:
                    path = (*path[: len(each["loc"]) - 1], str(each["loc"][-1]))
                damaged.add(_mend(rest, path))
    return None, damaged


def holds(problem: Problem, damaged: Iterable[KeyPath]) -> bool:
    """Would this problem be there too if what is damaged were right?"""
    tables = _DEPENDS.get(problem.code, ())
    if problem.code in _DEPENDS_ON_ITS_TABLE:
        tables = (problem.key.partition(".")[0],)
    return not any(f"{problem.key}.".startswith(f"{dotted(each)}.") or each[0] in tables for each in damaged)


def _mend(raw: dict[str, Any], path: KeyPath) -> KeyPath:
    """Take out what stands at `path`, or the nearest thing around it that can be missed; its path."""
    for length in range(len(path), 0, -1):
        part = path[:length]
        names = tuple(each for each in part if isinstance(each, str))
        if isinstance(part[-1], int):
            continue
        parent = _container(raw, part[:-1])
        if not isinstance(parent, dict):
            continue
        field = field_at(Configuration, part)
        if names in _STAND_INS:
            parent[part[-1]] = copy.deepcopy(_STAND_INS[names])
            if names == ("listener", "name"):
                parent[part[-1]] = f"stand-in{part[1]}"
            return part
        if field is None or not field.is_required():
            parent.pop(part[-1], None)
            return part
    raise LookupError(path)  # every key of the top has a default or a stand-in


def _container(raw: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw
