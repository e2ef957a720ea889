"""Turns: round robin, urgent ones first, none forgotten."""

from __future__ import annotations

from typing import Any

from mta.scheduler.destinations import Destination
from mta.scheduler.ring import LANE_TURNS, Ring
from mta.scheduler.work import Work


def destination(make: Any, name: str, priority: int = 0) -> Destination:
    made = Destination(f"mx:{name}.example", 20)
    made.waiting.append(Work(make.message(), (make.recipient(priority=priority),), made.key))
    return made


def turns(ring: Ring, number: int) -> list[str]:
    """The next ones; each goes behind the others again."""
    taken = []
    for _ in range(number):
        one = ring.pop()
        assert one is not None
        taken.append(one.key[3:].partition(".")[0])
        ring.add(one)
    return taken


def test_each_has_its_turn(make: Any) -> None:
    ring = Ring()
    for name in "abc":
        ring.add(destination(make, name))
    assert turns(ring, 6) == ["a", "b", "c", "a", "b", "c"]


def test_what_is_urgent_goes_first_and_starves_nobody(make: Any) -> None:
    ring = Ring()
    for name, priority in (("slow", -4), ("usual", 0), ("urgent", 3)):
        ring.add(destination(make, name, priority))
    taken = turns(ring, 200)
    assert taken[:LANE_TURNS] == ["urgent"] * LANE_TURNS
    assert taken[LANE_TURNS] == "usual"
    assert taken.count("urgent") > 8 * taken.count("usual") / 1.2 > 0
    assert taken.count("usual") > taken.count("slow") > 0


def test_without_others_a_slow_one_has_all_turns(make: Any) -> None:
    ring = Ring()
    ring.add(destination(make, "slow", -1))
    assert turns(ring, 3) == ["slow"] * 3


def test_a_destination_is_promoted_by_more_urgent_work(make: Any) -> None:
    ring = Ring()
    first, second = destination(make, "a"), destination(make, "b")
    ring.add(first)
    ring.add(second)
    second.waiting.appendleft(Work(make.message(), (make.recipient(priority=5),), second.key))
    ring.promote(second)
    assert (ring.pop(), ring.pop(), ring.pop()) == (second, first, None)


def test_whoever_leaves_is_gone(make: Any) -> None:
    ring = Ring()
    one = destination(make, "a")
    ring.add(one)
    ring.discard(one)
    assert (one.ring, bool(ring), ring.pop()) == (None, False, None)
