"""What the scheduler tells operators: how it is, and how each destination is. JSON-able values."""

from __future__ import annotations

from typing import Any

from mta.mail.outcome import Outcome
from mta.scheduler.destinations import Destination
from mta.scheduler.heads import Heads


def destinations(heads: Heads, now: float, at: float) -> list[dict[str, Any]]:
    """Of each destination in memory. `now`: wall time, in which a suspension's end is told; `at`: the monotonic clock."""
    return [_destination(each, now, at) for each in heads.destinations.values()]


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
