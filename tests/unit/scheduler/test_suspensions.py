"""A dead host: one row a suspension, one probe after it, everything at once when it lives again; all of it over a restart."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from twisted.internet import defer

from mta.mail.envelope import State
from mta.spool.contract import Change, DestinationRecord, SpoolFailed
from mta.testing.scheduling import DEAD, TAKEN, ScheduledHouse

KEY = "mx:dead.example"


def records(house: ScheduledHouse) -> list[DestinationRecord]:
    found: list[DestinationRecord] = house.done(house.spool.destinations())
    return found


def down(messages: int = 50, **queue: Any) -> tuple[ScheduledHouse, list[int]]:
    """A house with mail for a host that has just been suspended."""
    house = ScheduledHouse(**queue)
    house.agent.behave = lambda job: DEAD
    made = [house.accept("a@dead.example") for _ in range(messages)]
    house.pass_time(2)
    return house, made


def test_a_suspension_is_one_row_whatever_waits() -> None:
    house, _ = down(200)
    (record,) = records(house)
    assert (record.key, record.suspensions, record.status, record.reason) == (KEY, 1, "4.4.1", "connection refused")
    assert 268 <= record.suspended_until - house.now() <= 330
    written: list[Any] = []
    real = house.spool.remember
    house.spool.remember = lambda some: written.append(some) or real(some)
    house.pass_time(350)
    assert [len(some) for some in written] == [1]  # the probe failed
    assert records(house)[0].suspensions == 2


def test_suspensions_grow_and_each_ends_with_one_probe() -> None:
    house, _ = down(50)
    before = len(house.agent.jobs)
    house.pass_time(4 * 3600)
    probes = [at for at, _ in house.agent.jobs[before:]]
    waits = [later - earlier for earlier, later in pairwise([0.0, *probes])]
    for wait, nominal in zip(waits, [300, 600, 1200, 2400, 4000], strict=False):
        assert 0.9 * nominal <= wait <= 1.1 * nominal + 3
    assert house.agent.most_at_once[KEY] <= 5


def test_a_success_lets_all_go_in_their_order_and_within_the_limits() -> None:
    house, messages = down(60)
    tried = {job.message.id for _, job in house.agent.jobs}
    house.agent.jobs.clear()
    house.agent.most_at_once.clear()
    house.agent.behave = lambda job: None
    house.pass_time(340)
    assert len(house.agent.waiting) == 1  # the probe
    house.agent.finish(TAKEN)
    while True:
        house.pass_time(2)
        if not house.agent.waiting:
            break
        house.agent.finish(TAKEN)
    order = [job.message.id for _, job in house.agent.jobs if job.message.id not in tried]
    assert order == sorted(order)
    assert house.agent.most_at_once[KEY] <= 20
    assert all(house.states(message) == [State.RELAYED] for message in set(messages) - tried)
    assert records(house) == []
    assert ("destination-resumed", 0, {"destination": KEY}) in house.events


def test_a_restart_forgets_no_suspension() -> None:
    house, _ = down()
    (before,) = records(house)
    house.agent.jobs.clear()
    house.crash()
    row = house.destination(KEY)
    assert abs(row["suspended_until"] - before.suspended_until) < 0.1
    assert row["last_reply"] == "4.4.1 connection refused"
    house.pass_time(250)
    assert not house.agent.jobs
    house.pass_time(100)
    assert len(house.agent.jobs) == 1
    assert records(house)[0].suspensions == 2


def test_a_wall_clock_that_went_back_prolongs_no_suspension() -> None:
    house, _ = down()
    house.wall_step = -30 * 86400.0
    house.agent.jobs.clear()
    house.crash()
    message = house.accept("a@dead.example")
    house.pass_time(4000 * 1.1 + 2)
    assert [job.message.id for _, job in house.agent.jobs] == [message]


def test_new_mail_for_a_suspended_host_waits_in_the_spool() -> None:
    house, _ = down()
    house.agent.jobs.clear()
    house.accept("a@dead.example")
    house.pass_time(10)
    assert not house.agent.jobs
    assert house.scheduler.status()["waiting"] == 0


def test_a_row_that_cannot_be_written_suspends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    house = ScheduledHouse()
    monkeypatch.setattr(house.spool, "remember", lambda _: defer.fail(SpoolFailed("I/O error")))
    house.agent.behave = lambda job: DEAD
    for _ in range(20):
        house.accept("a@dead.example")
    house.pass_time(100)
    assert house.destination(KEY)["suspended_until"] > house.now()
    assert len(house.agent.jobs) <= 8


def test_a_record_of_what_nobody_wants_any_more_goes() -> None:
    house, messages = down(3)
    house.alter(Change.REMOVE, *messages)
    house.pass_time(6 * 3600)
    assert records(house) == []


def test_a_flush_sends_a_probe_at_once_and_success_the_rest() -> None:
    house, messages = down()
    house.agent.behave = lambda job: TAKEN
    assert house.scheduler.flush(["mx:other.example"]) == 0
    assert house.scheduler.flush([KEY]) == 1
    house.alter(Change.RETRY, due_after=house.now())
    house.pass_time(20)
    assert all(house.states(message) == [State.RELAYED] for message in messages)


def test_learned_limits_outlive_a_stop() -> None:
    house = ScheduledHouse()
    for _ in range(10):
        house.accept("a@one.example")
    house.pass_time(1)
    assert house.destination("mx:one.example")["limit"] == 15
    house.done(house.scheduler.stop())
    house.owner += 1
    house.boot()
    assert house.destination("mx:one.example")["limit"] == 15
    house.pass_time(1)
    assert records(house) == []  # a crash later must not bring back what is old by then


def test_reload_tries_all_anew() -> None:
    house, messages = down()
    house.agent.behave = lambda job: TAKEN
    house.scheduler.wake()
    house.pass_time(400)
    assert all(house.states(message) == [State.RELAYED] for message in messages)


def test_a_suspension_that_found_no_place_in_the_wheel_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.scheduler.wheel.KEYS_MAX", 0)
    house, messages = down(20)
    house.agent.behave = lambda job: TAKEN
    house.pass_time(1000)
    assert {state for message in messages for state in house.states(message)} == {State.RELAYED}
