"""Arguments of a request, checked: they come from a socket. Raises VerbError with words for whoever typed them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mta.admin.errors import VerbError
from mta.config.units import parse_duration
from mta.mail.address import AddressError, parse_address, parse_domain
from mta.mail.envelope import State
from mta.mail.identifiers import parse_id
from mta.spool.contract import Selection

Arguments = Mapping[str, object]
_SELECTING = ("ids", "sender", "recipient", "destination", "older_than", "held")
IDS_MAX = 10_000  # each is a bound value of a query; SQLite takes 32,766
KNOWN = frozenset({*_SELECTING, "all", "cursor", "limit", "change"})


def text_of(arguments: Arguments, key: str) -> str:
    value = arguments.get(key, "")
    if not isinstance(value, str):
        raise VerbError(f"{key}: a text is wanted")
    return value


def number_of(arguments: Arguments, key: str, default: int, most: int) -> int:
    value = arguments.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise VerbError(f"{key}: a number is wanted")
    return min(value, most)


def texts_of(arguments: Arguments, key: str) -> list[str]:
    value = arguments.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise VerbError(f"{key}: a list of texts is wanted")
    return value


def identifier_of(text: str) -> int:
    try:
        return parse_id(text)
    except ValueError as error:
        raise VerbError(str(error)) from error


def address_pattern(text: str, key: str) -> str:
    """An exact address, `@domain`, or `<>`, spelled as the spool has it."""
    if text in {"", "<>"}:
        return text
    try:
        if text.startswith("@"):
            return "@" + parse_domain(text[1:], utf8=True)
        return str(parse_address(text.removeprefix("<").removesuffix(">"), utf8=True))
    except AddressError as error:
        raise VerbError(f"{key}: {text!r} is no address and no @domain: {error}") from error


def identifiers_of(texts: list[str]) -> tuple[int, ...]:
    if len(texts) > IDS_MAX:
        raise VerbError(f"ids: more than {IDS_MAX} at once")
    return tuple(identifier_of(text) for text in texts)


def selection_of(arguments: Arguments, now: float) -> Selection:
    """Which queued recipients are meant. Unknown keys are errors: a mistyped condition must not widen a deletion."""
    unknown = set(arguments) - KNOWN
    if unknown:
        raise VerbError(f"unknown argument {', '.join(sorted(unknown))}")
    older_than = text_of(arguments, "older_than")
    try:
        age = parse_duration(older_than or "0")
    except ValueError as error:
        raise VerbError(f"older_than: {error}") from error
    held = arguments.get("held")
    if held is not None and not isinstance(held, bool):
        raise VerbError("held: true or false is wanted")
    return Selection(
        messages=identifiers_of(texts_of(arguments, "ids")),
        states=(State.QUEUED,),
        held=held,
        sender=address_pattern(text_of(arguments, "sender"), "sender"),
        recipient=address_pattern(text_of(arguments, "recipient"), "recipient"),
        destination=text_of(arguments, "destination"),
        older_than=now - float(str(age)) if older_than else 0.0,
    )


def narrows(arguments: Arguments) -> bool:
    """Does the request say which rows it means? A change without any condition must say `all`."""
    return any(arguments.get(key) not in (None, "", []) for key in _SELECTING)


def stamp(at: float) -> str:
    """For texts of the daemon: UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
