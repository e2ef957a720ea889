"""Sizes and durations as people write them: 25 MiB, 128K, 5d, 1h30m. Plain numbers are octets and seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

SIZE_LIMIT_OCTETS = 1 << 50  # a petabyte: far from any 64-bit counter's end
DURATION_LIMIT_SECONDS = 100 * 365 * 86400.0  # added to a wall time it is still a date

_SIZE = re.compile(r"(\d+)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", re.IGNORECASE)
_SIZE_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_size(value: object) -> object:
    """Octets from `25MiB`, `128K`, `1 GB` (all binary: a postmaster's MB is a MiB). Numbers pass. Raises ValueError."""
    if not isinstance(value, str):
        return value
    hit = _SIZE.fullmatch(value.strip())
    if hit is None:
        raise ValueError(f"{value!r} is no size; write a number of octets, or one with K, M or G: 25M")
    return int(hit[1]) * _SIZE_FACTOR[hit[2].lower()]


def parse_duration(value: object) -> object:
    """Seconds from `300`, `5m`, `1h30m`, `5d`. Numbers pass. Raises ValueError."""
    if not isinstance(value, str):
        return value
    text = value.strip().replace(" ", "")
    if text.isdigit():
        return float(text)
    total, end = 0.0, 0
    for hit in _DURATION.finditer(text):
        if hit.start() != end:
            break
        total, end = total + float(hit[1]) * _SECONDS[hit[2].lower()], hit.end()
    if not text or end != len(text):
        raise ValueError(f"{value!r} is no duration; write seconds, or 90s, 5m, 1h30m, 5d")
    return total


def show_size(octets: int) -> str:
    """As a person writes it, in the largest unit that leaves a whole number: `25M`."""
    for unit in "TGMK":
        factor = _SIZE_FACTOR[unit.lower()]
        if octets and octets % factor == 0:
            return f"{octets // factor}{unit}"
    return str(octets)


def show_duration(seconds: float) -> str:
    """As a person writes it, in the largest unit that leaves a whole number: `5d`, `90m`."""
    for unit in "dhm":
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.15g}s" if seconds else "0"


class Words(str):
    """What a value of this type is, in plain words: for errors and for the documentation. pydantic passes it by."""

    __slots__ = ()


_SIZE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _SIZE.pattern}]}
_DURATION_SCHEMA = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}

Octets = Annotated[
    int,
    Field(gt=0, le=SIZE_LIMIT_OCTETS),
    BeforeValidator(parse_size),
    WithJsonSchema(_SIZE_SCHEMA),
    Words('a size: octets, or "128K", "25M", "2G"'),
]
Seconds = Annotated[
    float,
    Field(gt=0, le=DURATION_LIMIT_SECONDS, allow_inf_nan=False),
    BeforeValidator(parse_duration),
    WithJsonSchema(_DURATION_SCHEMA),
    Words('a duration: seconds, or "90s", "5m", "1h30m", "5d"'),
]
SecondsOrNone = Annotated[
    float,
    Field(ge=0, le=DURATION_LIMIT_SECONDS, allow_inf_nan=False),
    BeforeValidator(parse_duration),
    WithJsonSchema(_DURATION_SCHEMA),
    Words('a duration: seconds, or "90s", "5m", "1h30m", "5d"; 0 for none'),
]
