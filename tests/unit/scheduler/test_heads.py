"""What is in memory is counted once, and forgotten in bounded steps."""

from __future__ import annotations

from typing import Any

import pytest

from mta.scheduler.destinations import LIMIT_REMEMBERED_SECONDS
from mta.scheduler.heads import Heads
from mta.scheduler.work import Work


def test_idle_destinations_are_forgotten_a_bounded_number_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.scheduler.heads.EXAMINED_MAX", 4)
    heads = Heads(20)
    for number in range(10):
        heads.destination(f"mx:d{number}.example")
    later = LIMIT_REMEMBERED_SECONDS + 1
    assert [len(heads.forget_idle(later)) for _ in range(4)] == [4, 4, 2, 0]
    assert not heads.destinations


def test_rows_on_their_way_into_memory_count_and_are_not_drained(make: Any) -> None:
    heads = Heads(20)
    destination = heads.destination("mx:one.example")
    heads.place(destination, None)
    heads.reserve(destination, 15)
    assert heads.room(destination) == 5
    heads.append(destination, Work(make.message(), (make.recipient(),), destination.key))
    assert len(heads.drain(destination)) == 1
    assert (destination.rows, heads.rows, heads.doubtful.rows) == (15, 15, 15)
    heads.reserve(destination, -15)
    assert (destination.rows, heads.rows, heads.doubtful.rows) == (0, 0, 0)


def test_a_withdrawn_recipient_leaves_the_others_of_its_job(make: Any) -> None:
    heads = Heads(20)
    destination = heads.destination("mx:one.example")
    heads.place(destination, None)
    rows = tuple(make.recipient(number) for number in (1, 2, 3))
    heads.append(destination, Work(make.message(), rows, destination.key))
    (piece,) = heads.withdraw(destination, frozenset({2, 9}))
    assert [each.id for each in piece.recipients] == [2]
    assert sorted(heads.held) == [1, 3]
    found = heads.next()
    assert found is not None
    assert [each.id for each in found[1].recipients] == [1, 3]
    assert heads.rows == 0
