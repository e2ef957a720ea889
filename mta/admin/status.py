"""`mta status`: how the house is, on one page."""

from __future__ import annotations

from dataclasses import asdict
from heapq import nlargest
from typing import Any

from mta.admin.arguments import Arguments
from mta.admin.house import Caller, House, SchedulerFace

LIST_MAX = 50
SLICE = 2_000  # destinations looked at in one turn of the reactor: 1 ms


async def status(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """`spools` one a shard; `schedulers` as they tell it; `parts` what else the house is made of."""
    settings = house.settings()
    spools = [asdict(await shard.status()) for shard in house.shards]
    troubles = [f"spool shard {each['shard']}: {each['failing']}" for each in spools if each["failing"]]
    if house.log.fault:
        troubles.append(f"event log: {house.log.fault}")
    return {
        "running": house.running,
        "pid": house.pid if house.running else 0,
        "hostname": settings.configuration.hostname,
        "configuration": str(settings.path),
        "generation": settings.generation,
        "started_at": house.started_at,
        "boot": house.boot,
        "now": house.now(),
        "sessions": sum(house.reception.counts.by_client.values()) if house.reception is not None else 0,
        "spools": spools,
        "schedulers": [await _scheduler(house, scheduler) for scheduler in house.schedulers],
        "log_lines_dropped": house.log.dropped_lines,
        "troubles": troubles,
        **{name: part() for name, part in house.parts.items()},
    }


async def _scheduler(house: House, scheduler: SchedulerFace) -> dict[str, object]:
    """With its LIST_MAX busiest destinations; it may know 20,000."""
    busiest: list[tuple[int, str]] = []
    known = scheduler.known()
    for first in range(0, len(known), SLICE):
        if first:
            await house.pause()
        busiest = nlargest(LIST_MAX, busiest + scheduler.busy(known[first : first + SLICE]))
    return {**scheduler.status(), "destinations": scheduler.destinations([key for _, key in busiest])}
