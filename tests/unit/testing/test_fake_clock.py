"""Time in jumps."""

from __future__ import annotations

import pytest
from twisted.internet.error import AlreadyCalled, AlreadyCancelled

from mta.testing.fake_clock import IMMORTAL, FakeClock, Life


def test_calls_come_in_the_order_of_their_times_then_of_their_asking() -> None:
    clock, order = FakeClock(), []
    for seconds, name in ((5, "c"), (1, "a"), (5, "d"), (2, "b")):
        clock.later(seconds, order.append, name)
    started = clock.seconds()
    clock.run(10)
    assert order == ["a", "b", "c", "d"]
    assert clock.seconds() - started == 10


def test_a_call_can_be_moved_and_cancelled() -> None:
    clock, told = FakeClock(), []
    early, late, never = (clock.later(5, told.append, name) for name in ("early", "late", "never"))
    early.reset(1)
    late.delay(10)
    never.cancel()
    clock.run(2)
    assert told == ["early"]
    clock.run(20)
    assert told == ["early", "late"]
    with pytest.raises(AlreadyCalled):
        late.cancel()
    with pytest.raises(AlreadyCancelled):
        never.cancel()


def test_time_stops_when_what_was_waited_for_is_there() -> None:
    clock, told = FakeClock(), []
    clock.later(7, told.append, "it")
    clock.later(8, told.append, "more")
    started = clock.seconds()
    assert clock.run(100, lambda: told)
    assert clock.seconds() - started == 7
    assert not clock.run(5, lambda: len(told) > 2)
    assert clock.seconds() - started == 12


def test_the_wall_clock_is_set_alone() -> None:
    clock = FakeClock()
    monotonic, wall = clock.seconds(), clock.now()
    clock.step(-86400)
    assert (clock.seconds(), clock.now()) == (monotonic, wall - 86400)


def test_after_the_end_of_a_life_nothing_of_it_happens() -> None:
    clock, life, told = FakeClock(), Life(), []
    clock.call_later(life, 1, told.append, ("mine",), {})
    clock.later(1, told.append, "other")
    life.over = True
    clock.run(5)
    assert told == ["other"]


def test_a_call_that_fails_is_remembered_and_holds_up_nobody() -> None:
    clock, told = FakeClock(), []
    clock.later(1, lambda: 1 / 0)
    clock.later(2, told.append, "next")
    clock.run(5)
    assert told == ["next"]
    assert isinstance(clock.faults[0], ZeroDivisionError)


def test_calls_that_call_each_other_for_ever_are_found_out() -> None:
    clock = FakeClock()

    def again() -> None:
        clock.call_later(IMMORTAL, 0, again, (), {})

    again()
    with pytest.raises(AssertionError, match="stands still"):
        clock.run(1)
