"""What the scheduler tells operators: how it is, and how each destination is. JSON-able values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mta.mail.outcome import Outcome
from mta.scheduler.destinations import Destination
from mta.scheduler.heads import Heads


def busy(heads: Heads, keys: Iterable[str]) -> list[tuple[int, str]]:
    """Of these destinations those with work, each with how much it is, and those that are suspended."""
    found = [each for key in keys if (each := heads.destinations.get(key)) is not None]
    return [
        (each.rows + each.in_flight, each.key) for each in found if each.rows or each.in_flight or each.suspended_until
    ]


def destinations(heads: Heads, keys: Iterable[str], now: float, at: float) -> list[dict[str, Any]]:
    """`now`: wall time, in which a suspension's end is told; `at`: the monotonic clock."""
    found = (heads.destinations.get(key) for key in keys)
    return [_destination(each, now, at) for each in found if each is not None]


def _destination(each: Destination, now: float, at: float) -> dict[str, Any]:
    return {
        "destination": each.key,
        "site": each.site.key if each.site is not None else "",
        "site_limit": each.site.limit.allowed if each.site is not None else 0,
        "site_in_flight": each.site.in_flight if each.site is not None else 0,
        "limit": each.limit.allowed,
        "in_flight": each.in_flight,
        "in_memory": each.rows - each.reserved,
        "more_in_spool": each.on_disk,
        "suspended_until": now + max(0.0, each.suspended_until - at) if each.suspended_until else 0.0,
        "suspensions": each.suspensions,
        "last_reply": _reply(each.last_outcome),
    }


def _reply(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return f"{outcome.code or ''} {outcome.status} {outcome.text}".strip()
