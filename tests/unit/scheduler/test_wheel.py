"""One time for each destination, one timer for all."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from mta.scheduler.wheel import Wheel


class Turned:
    def __init__(self) -> None:
        self.clock = Clock()
        self.came: list[tuple[float, list[str]]] = []
        self.wheel = Wheel(self.clock, lambda keys: self.came.append((self.clock.seconds(), keys)))

    def seconds(self, number: float) -> None:
        for _ in range(int(number * 4)):
            self.clock.advance(0.25)


def test_it_comes_up_at_most_a_second_late_and_never_early() -> None:
    turned = Turned()
    for number, seconds in enumerate((0.0, 0.3, 5.0, 7.9)):
        turned.wheel.expect(f"mx:{number}", seconds)
    turned.seconds(10)
    assert turned.came == [(1.0, ["mx:0", "mx:1"]), (6.0, ["mx:2"]), (8.0, ["mx:3"])]
    assert len(turned.wheel) == 0


def test_the_earliest_time_counts_once() -> None:
    turned = Turned()
    for seconds in (50.0, 5.0, 20.0):
        turned.wheel.expect("mx:a", seconds)
    turned.seconds(60)
    assert turned.came == [(6.0, ["mx:a"])]


def test_a_thousand_times_are_one_timer() -> None:
    turned = Turned()
    for number in range(1000):
        turned.wheel.expect(f"mx:{number}", 1000.0 - number)
    assert len(turned.clock.getDelayedCalls()) == 1


def test_it_holds_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.scheduler.wheel.KEYS_MAX", 3)
    turned = Turned()
    for number in range(5):
        turned.wheel.expect(f"mx:{number}", 1.0)
    turned.wheel.expect("mx:1", 0.0)  # one that it knows may still come earlier
    turned.seconds(4)
    assert turned.came == [(1.0, ["mx:1"]), (2.0, ["mx:0", "mx:2"])]


def test_stopped_it_has_no_timer() -> None:
    turned = Turned()
    turned.wheel.expect("mx:a", 3.0)
    turned.wheel.stop()
    turned.wheel.expect("mx:b", 1.0)
    assert not turned.clock.getDelayedCalls()
