"""Houses for stories. Each is checked against the laws when its story is over.

`house` is a simulated one, then a real one: stories that take seconds are told in both. `simulated_house` is for those that take days, or
need what only a fake network can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from mta.testing.real_house import RealHouse
from mta.testing.simulated_house import SimulatedHouse

House = SimulatedHouse | RealHouse
Kind = TypeVar("Kind", SimulatedHouse, RealHouse)


@pytest.fixture
def simulated_house() -> Iterator[SimulatedHouse]:
    yield from _told(SimulatedHouse(seed=7))


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.real)])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    yield from _told(SimulatedHouse(seed=7) if request.param == "simulated" else RealHouse(tmp_path))


def _told(house: Kind) -> Iterator[Kind]:
    try:
        yield house
        house.check()
    finally:
        house.close()
