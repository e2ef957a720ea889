"""Waits between attempts, and the wall clock's word."""

from __future__ import annotations

import pytest

from mta.scheduler.backoff import recovery_delay, retry_delay
from mta.scheduler.doubt import DOUBT_SECONDS, ClockDoubt


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 300), (1, 300), (2, 600), (3, 1200), (4, 2400), (5, 4000), (6, 4000), (10**9, 4000)]
)
def test_waits_double_up_to_the_cap(attempts: int, seconds: float) -> None:
    assert retry_delay(attempts, 300.0, 4000.0, lambda: 0.5) == pytest.approx(seconds)


def test_the_jitter_is_ten_percent_either_way() -> None:
    assert retry_delay(1, 300.0, 4000.0, lambda: 0.0) == pytest.approx(270)
    assert retry_delay(1, 300.0, 4000.0, lambda: 0.999999) == pytest.approx(330, abs=0.01)


def test_after_a_crash_the_innocent_go_soon_and_the_poisonous_ever_later() -> None:
    assert [recovery_delay(attempts, 4000.0, lambda: 1.0) for attempts in (0, 1, 2, 3, 9)] == [2, 2, 8, 32, 4000]
    assert recovery_delay(1, 4000.0, lambda: 0.0) == 1


class Clocks:
    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = 1e9

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 86400.0 * 3650])
def test_a_jump_puts_the_clock_in_doubt_for_an_hour(jump: float) -> None:
    clocks = Clocks()
    doubt = ClockDoubt(lambda: clocks.monotonic, lambda: clocks.wall)
    clocks.advance(50)
    assert not doubt.look()
    clocks.wall += jump
    assert doubt.look()
    clocks.advance(DOUBT_SECONDS - 1)
    assert doubt.look()
    clocks.advance(2)
    assert not doubt.look()


def test_slow_corrections_are_no_jump() -> None:
    clocks = Clocks()
    doubt = ClockDoubt(lambda: clocks.monotonic, lambda: clocks.wall)
    for _ in range(100):
        clocks.advance(60)
        clocks.wall += 5
        assert not doubt.look()
