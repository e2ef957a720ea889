"""The promised ratios: a run may fall a little short, 20 % is too much."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FLOORS = {"relay": {"speed": 2.5, "cpu": 0.24}}


@pytest.fixture(scope="module")
def floors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("floors", Path(__file__).parents[3] / "bench" / "floors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(speed: float, cpu: float) -> dict[str, dict[str, dict[str, float]]]:
    return {"relay": {"postfix": {"speed": speed, "cpu": cpu}, "exim": {"speed": 0.1, "cpu": 9.0}}}


@pytest.mark.parametrize(
    ("speed", "cpu", "short"), [(3.0, 0.1, 0), (2.01, 0.29, 0), (1.99, 0.29, 1), (2.01, 0.31, 1), (1.0, 1.0, 2)]
)
def test_a_fifth_below_the_promise_is_too_little(floors: ModuleType, speed: float, cpu: float, short: int) -> None:
    assert len(floors.shortfalls(measured(speed, cpu), FLOORS)) == short


def test_what_was_not_measured_is_not_short(floors: ModuleType) -> None:
    assert floors.shortfalls({}, FLOORS) == []
    assert floors.shortfalls({"relay": {"exim": {"speed": 0.1, "cpu": 9.0}}}, FLOORS) == []


def test_the_shipped_floors_can_be_read_and_a_wrong_key_is_told(floors: ModuleType, tmp_path: Path) -> None:
    assert "accept" in floors.promised()
    (tmp_path / "floors.toml").write_text("[relay]\nsped = 1.0\n")
    with pytest.raises(SystemExit, match="sped"):
        floors.promised(tmp_path / "floors.toml")
