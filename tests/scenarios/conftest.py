"""Houses for stories. Each is checked against the laws when its story is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mta.testing.simulated_house import SimulatedHouse


@pytest.fixture
def simulated_house() -> Iterator[SimulatedHouse]:
    """For what takes days, or what only a fake network can do."""
    house = SimulatedHouse(seed=7)
    try:
        yield house
        house.check()
    finally:
        house.close()
