"""`mta reload`: new settings from the file, or the reasons why the old ones stay."""

from __future__ import annotations

from typing import Any

from mta.admin.arguments import Arguments
from mta.admin.errors import CONFIGURATION, UNAVAILABLE, VerbError
from mta.admin.house import Caller, House


async def reload(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """`generation` now in force, and `restart`: the keys that changed but wait for a restart."""
    if house.reload is None:
        raise VerbError("only a running daemon can reload", UNAVAILABLE)
    result = await house.reload()
    if result.problems:
        house.log.event("reload-failed", by=caller.name, problems=len(result.problems), first=result.problems[0])
        text = f"the configuration has errors; generation {result.generation} stays in force"
        raise VerbError(text, CONFIGURATION, problems=list(result.problems), generation=result.generation)
    house.log.event("reloaded", by=caller.name, generation=result.generation, restart=",".join(result.restart))
    return {"generation": result.generation, "restart": list(result.restart)}
