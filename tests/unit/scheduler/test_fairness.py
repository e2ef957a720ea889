"""Nobody slows anybody: dead hosts, crowds, priorities; on the spool in memory and on a real one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from mta.delivery.agent import Job
from mta.mail.envelope import State
from mta.spool.birth import born
from mta.spool.contract import Acceptance
from mta.spool.rows import CONTENT_COLUMNS, MESSAGE_COLUMNS, RECIPIENT_COLUMNS, recipient_row, stored_message_row
from mta.spool.transaction import insert_rows
from mta.testing.scheduling import DEAD, TAKEN, ScheduledHouse, SqliteScheduledHouse
from mta.testing.spools import letter, recipient

DEAD_ROWS = 100_000


@pytest.fixture
def sqlite_house(tmp_path: Path) -> Iterator[SqliteScheduledHouse]:
    house = SqliteScheduledHouse(tmp_path)
    yield house
    house.close()


def crowd(house: SqliteScheduledHouse, number: int) -> None:
    """So many messages for a dead host, put into the database of a stopped shard in one transaction."""
    house.done(house.scheduler.stop())
    house.close()
    connection = apsw.Connection(str(house._root / "0" / "spool.db"))
    new_id = house.spool.real.new_id
    with connection:
        cursor = connection.cursor()
        for _ in range(0, number, 5000):
            made: list[Acceptance] = [
                letter(new_id(), recipient("u@dead.example"), now=house.now() - 60) for _ in range(5000)
            ]
            rows = [recipient_row(one) for each in made for one in born(each, new_id)]
            stored = [stored_message_row(each.message, each.content) for each in made]
            insert_rows(cursor, "message", (*MESSAGE_COLUMNS, *CONTENT_COLUMNS), stored)
            insert_rows(cursor, "recipient", RECIPIENT_COLUMNS, rows)
    connection.close()
    house.owner += 1
    house.spool = house._make_spool()
    house.boot()


def test_a_dead_destination_with_a_hundred_thousand_messages_slows_nobody(sqlite_house: SqliteScheduledHouse) -> None:
    house = sqlite_house
    house.clock.advance(200_000)
    house.agent.behave = lambda job: 30.0 if job.destination == "mx:dead.example" else TAKEN
    crowd(house, DEAD_ROWS)
    house.pass_time(5)
    assert 1 <= house.agent.at_once["mx:dead.example"] <= 5

    def living(number: int) -> float:
        began = time.perf_counter()
        messages = [house.accept(f"a{each}@alive{each % 10}.example") for each in range(number)]
        house.pass_time(1)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        return time.perf_counter() - began

    living(50)
    house.pass_time(90)  # it is found dead
    assert house.destination("mx:dead.example")["suspended_until"] > house.now()
    dead = [job for _, job in house.agent.jobs if job.destination == "mx:dead.example"]
    assert len(dead) <= 8
    assert living(50) < 5  # it takes 0.3 s on an idle machine; were the crowd walked through each time, 30
    status = house.scheduler.status()
    assert status["waiting"] == 0

    def milliseconds(ask: Any) -> float:
        best = 1e9
        for _ in range(5):
            began = time.perf_counter()
            house._reactor.wait(ask())
            best = min(best, time.perf_counter() - began)
        return best * 1000

    spool = house.spool.real
    assert milliseconds(lambda: spool.destinations_due(house.now(), 1000)) < 20
    assert milliseconds(lambda: spool.claim("mx:alive0.example", 20, house.owner, house.now(), house.now() + 1e9)) < 50
    before = spool._writer._connection.total_changes()
    house.pass_time(200)
    assert spool._writer._connection.total_changes() - before < 10  # rows: nothing is written for what waits


def delivered_at(*, dead: bool) -> list[float]:
    """When the mail of 100 living destinations went out, five messages each, beside as many dead ones or alone.

    Each attempt at a dead one takes 30 s to fail; 500 of them want to be under way at once.
    """
    house = ScheduledHouse()
    done: list[float] = []

    def behave(job: Job) -> Any:
        if "dead" in job.destination:
            return 30.0
        done.append(house.clock.seconds())
        return TAKEN

    house.agent.behave = behave
    for number in range(1000):
        if number % 2:
            house.accept(f"a@alive{number % 200}.example")
        elif dead:
            house.accept(f"a@dead{number % 200}.example")
        else:
            house.done(house.spool.due_of(()))  # the same time passes
    house.pass_time(200)
    assert len(done) == 500
    return done


def test_where_half_of_the_destinations_are_dead_the_living_get_nine_tenths_of_the_undisturbed_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mta.scheduler.jobs.IN_FLIGHT_MAX", 200)
    monkeypatch.setattr("mta.scheduler.pools.DOUBTFUL_JOBS_MAX", 150)
    undisturbed = delivered_at(dead=False)[449]
    assert delivered_at(dead=True)[449] <= undisturbed / 0.9
    monkeypatch.setattr("mta.scheduler.pools.DOUBTFUL_JOBS_MAX", 10_000)
    monkeypatch.setattr("mta.scheduler.heads.DOUBTFUL_CROWD", 10_000)
    assert delivered_at(dead=True)[449] > undisturbed / 0.9  # the control: what else holds it up


def test_dead_destinations_found_at_a_start_keep_no_living_one_waiting() -> None:
    """Their time-outs hold no more than the doubtful may, whatever comes first."""
    house = ScheduledHouse()
    house.agent.behave = lambda job: 30.0 if "dead" in job.destination else TAKEN
    for number in range(1500):
        house.accept(f"a@dead{number}.example", offer=False)
    house.accept("a@proven.example")
    house.pass_time(60)
    messages = [house.accept("a@proven.example") for _ in range(20)]
    house.pass_time(2)
    assert sum(number for key, number in house.agent.at_once.items() if "dead" in key) == 750
    assert all(house.states(message) == [State.RELAYED] for message in messages)
    house.agent.behave = lambda job: TAKEN
    house.pass_time(400)
    assert len({job.message.id for _, job in house.agent.jobs}) == 1521


# --- priority ---------------------------------------------------------------------------------------------------------


def test_urgent_mail_goes_first_within_a_destination_in_memory_and_from_disk() -> None:
    house = ScheduledHouse(destination_concurrency=1)
    house.agent.behave = lambda job: None
    house.accept("first@one.example")
    for number, priority in enumerate((0, -3, 4, 0, 4)):
        house.accept(f"m{number}@one.example", priority=priority, offer=number % 2 == 0)
    house.scheduler.wake()
    house.pass_time(1)
    while house.agent.waiting:
        house.agent.finish()
        house.pass_time(3)
    order = [job.recipients[0].priority for _, job in house.agent.jobs]
    assert sorted(order, reverse=True)[:2] == [4, 4]
    assert order.index(4) == 1
    assert order.index(-3) == len(order) - 1


def test_urgent_mail_for_one_does_not_starve_another() -> None:
    house = ScheduledHouse(destination_concurrency=100, site_concurrency=1)
    big = house.agent.site
    house.agent.site = lambda destination: type(big(destination))("mx.big.example", 3600.0)  # type: ignore[method-assign]
    house.agent.behave = lambda job: None
    for number in range(60):
        house.accept(f"a@urgent{number % 3}.example", priority=5)
    for _ in range(5):
        house.accept("a@usual.example")
    for _ in range(62):
        house.pass_time(0.1)
        house.agent.finish()
    order = ["usual" in job.destination for _, job in house.agent.jobs]
    assert sum(order) >= 4
    assert order.index(True) > 5


def test_mail_of_different_priority_is_not_one_job(make: Any) -> None:
    house = ScheduledHouse()
    house.agent.behave = lambda job: DEAD
    house.accept("a@one.example", priority=3)
    house.accept("a@one.example", "b@one.example")
    house.pass_time(1)
    assert [len(job.recipients) for _, job in house.agent.jobs] == [1, 2]
