from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.testing.spools import HOUSES, House, MemoryHouse, SqliteHouse


@pytest.fixture(params=HOUSES, ids=lambda one: one.__name__.removesuffix("House"))
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """Each backend."""
    kind: type[MemoryHouse] | type[SqliteHouse] = request.param
    made = kind(tmp_path)
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteHouse]:
    made = SqliteHouse(tmp_path)
    yield made
    made.close()
