"""`mta queue destinations`: what waits for each next hop, how much may go there at once, and why nothing does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from heapq import merge
from itertools import islice
from typing import Any, TypeVar

from mta.admin.arguments import Arguments, number_of, text_of
from mta.admin.errors import TEMPORARY, VerbError
from mta.admin.house import Caller, House, ReadableSpool
from mta.spool.contract import DestinationRecord, SpoolError

DESTINATIONS_MAX = 10_000
SLICE = 500  # destinations in one turn of the reactor: 1 ms

Value = TypeVar("Value")


async def destinations(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """`destinations`, one for each shard that knows it, those with the most mail first; `more` that the limit cut off."""
    limit = max(1, number_of(arguments, "limit", 1_000, DESTINATIONS_MAX))
    wanted = text_of(arguments, "destination")
    rows: list[dict[str, Any]] = []
    try:
        for shard in house.shards:
            found = await _of_shard(house, shard)
            rows += [row for row in found if not wanted or row["destination"] == wanted]
        first = await _first(house, rows, limit)
    except SpoolError as error:
        raise VerbError(str(error), TEMPORARY) from error
    return {"destinations": first, "more": max(0, len(rows) - limit), "now": house.now()}


async def _first(house: House, rows: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Those with the most mail. Sorted in slices that are merged: neither holds the reactor for long."""
    runs = [sorted(part, key=_order) async for part in _slices(house, rows)]
    merged = merge(*runs, key=_order)
    found: list[dict[str, Any]] = []
    async for part in _slices(house, range(min(limit, len(rows)))):
        found += islice(merged, len(part))
    return found


def _order(row: dict[str, Any]) -> tuple[int, int, str, int]:
    return -row["waiting"], -row["in_use"], row["destination"], row["shard"]


async def _slices(house: House, values: Sequence[Value]) -> AsyncIterator[Sequence[Value]]:
    """SLICE of them in each turn of the reactor."""
    for first in range(0, len(values), SLICE):
        if first:
            await house.pause()
        yield values[first : first + SLICE]


async def recorded(house: House, shard: ReadableSpool) -> list[dict[str, Any]]:
    """What the spool alone knows: suspensions, and limits learned before the last stop."""
    records = await shard.destinations()
    return [_recorded(shard, record) async for part in _slices(house, records) for record in part]


def _recorded(shard: ReadableSpool, record: DestinationRecord) -> dict[str, Any]:
    return {
        **_empty(shard.shard, record.key),
        "suspended_until": record.suspended_until,
        "suspensions": record.suspensions,
        "limit": record.learned_limit,
        "last_reply": f"{record.code or ''} {record.status} {record.reason}".strip(),
    }


async def _of_shard(house: House, shard: ReadableSpool) -> list[dict[str, Any]]:
    """What the spool has, and over it what a running scheduler knows better."""
    rows = {row["destination"]: row for row in await recorded(house, shard)}
    async for part in _slices(house, await shard.waiting()):
        for waiting in part:
            row = rows.setdefault(waiting.destination, _empty(shard.shard, waiting.destination))
            row["waiting"], row["next_attempt"] = waiting.recipients, waiting.next_attempt
    scheduler = house.scheduler_of(shard.shard)
    if scheduler is None:
        return list(rows.values())
    async for keys in _slices(house, scheduler.known()):
        for live in scheduler.destinations(keys):
            _overlay(rows.setdefault(live["destination"], _empty(shard.shard, live["destination"])), live)
    return list(rows.values())


def _overlay(row: dict[str, Any], live: dict[str, Any]) -> None:
    row["waiting"] += live["in_memory"]
    row["in_use"] = live["in_flight"]
    row["site_in_use"] = live["site_in_flight"]
    for key in ("in_memory", "limit", "site", "site_limit", "suspended_until", "suspensions"):
        row[key] = live[key]
    row["last_reply"] = live["last_reply"] or row["last_reply"]


def _empty(shard: int, key: str) -> dict[str, Any]:
    """`waiting` recipients that are not being attempted, `in_memory` of them; `in_use` and `limit` jobs (0: not known); times 0: none."""
    return {
        "destination": key, "shard": shard, "site": "", "limit": 0, "in_use": 0, "site_limit": 0, "site_in_use": 0, "waiting": 0,
        "in_memory": 0, "next_attempt": 0.0, "suspended_until": 0.0, "suspensions": 0, "last_reply": "",
    }  # fmt: skip
