from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import defer

from mta.testing.next_hops import NextHops
from mta.testing.open_house import OpenHouse, open_house


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenHouse]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture
def hops(tmp_path: Path) -> Iterator[NextHops]:
    hops = NextHops()
    hops.bodies = tmp_path
    yield hops
    pytest_twisted.blockon(defer.ensureDeferred(hops.end()))
