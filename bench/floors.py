"""Are the promised ratios kept? A run on a busy machine may fall a little short; 20 % is a fault of ours."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

FLOORS = Path(__file__).with_name("floors.toml")
SLACK = 0.8
AGAINST = "postfix"
Ratios = Mapping[str, Mapping[str, Mapping[str, float]]]  # workload → peer → speed and cpu


def promised(file: Path = FLOORS) -> dict[str, dict[str, float]]:
    """Raises SystemExit for a key that means nothing."""
    table: dict[str, dict[str, float]] = tomllib.loads(file.read_text())
    for workload, floors in table.items():
        if unknown := set(floors) - {"speed", "cpu"}:
            raise SystemExit(f"{file.name}: [{workload}] knows speed and cpu, not {', '.join(sorted(unknown))}")
    return table


def shortfalls(measured: Ratios, floors: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What falls more than the slack short, in words."""
    found = []
    for workload, floor in floors.items():
        ratio = measured.get(workload, {}).get(AGAINST)
        if ratio is None:
            continue
        if "speed" in floor and ratio["speed"] < floor["speed"] * SLACK:
            found.append(f"{workload}: {ratio['speed']:.2f} times {AGAINST}'s speed; promised are {floor['speed']}")
        if "cpu" in floor and ratio["cpu"] > floor["cpu"] / SLACK:
            found.append(f"{workload}: {ratio['cpu']:.2f} of {AGAINST}'s CPU; promised are {floor['cpu']}")
    return found
