"""`mta status`: how the house is, on one page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mta.admin.arguments import Arguments
from mta.admin.house import Caller, House

LIST_MAX = 50


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
        "schedulers": [_shortened(scheduler.status()) for scheduler in house.schedulers],
        "log_lines_dropped": house.log.dropped_lines,
        "troubles": troubles,
        **{name: part() for name, part in house.parts.items()},
    }


def _shortened(data: dict[str, object]) -> dict[str, object]:
    """Lists of objects cut to their first LIST_MAX, the busiest ahead: a scheduler may know 20,000 destinations."""
    short = dict(data)
    for key, value in data.items():
        if isinstance(value, list) and len(value) > LIST_MAX:
            short[key] = sorted(value, key=_busy, reverse=True)[:LIST_MAX]
            short[f"{key}_in_all"] = len(value)
    return short


def _busy(entry: object) -> float:
    if not isinstance(entry, dict):
        return 0.0
    return sum(float(entry.get(key) or 0) for key in ("in_memory", "in_flight"))
