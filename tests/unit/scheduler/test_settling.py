"""What attempts made reaches a real spool, also at the end of a process and when something can't be stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mta.delivery.agent import Attempt
from mta.mail.envelope import State
from mta.spool.contract import Event
from mta.testing.scheduling import LATER, TAKEN, SqliteScheduledHouse


@pytest.fixture
def house(tmp_path: Path) -> Iterator[SqliteScheduledHouse]:
    made = SqliteScheduledHouse(tmp_path)
    yield made
    made.close()


def test_what_ends_while_the_house_stops_is_settled_before_anything_is_given_back(house: SqliteScheduledHouse) -> None:
    house.agent.behave = lambda job: None
    message = house.accept("a@one.example")
    stopped: list[Any] = []
    house.scheduler.stop().addBoth(stopped.append)
    house.pass_time(1)
    house.agent.finish(TAKEN)
    while not stopped:
        house.pass_time(0.01)
    assert stopped == [None]
    assert house.states(message) == [State.RELAYED]
    house.agent.jobs.clear()
    house.crash()
    house.pass_time(120)
    assert not house.agent.jobs


def test_text_that_can_not_be_stored_is_made_plain_and_stops_nobody(house: SqliteScheduledHouse) -> None:
    house.agent.behave = lambda job: (
        replace(LATER, text="broken \udc80 octet") if job.destination == "mx:one.example" else TAKEN
    )
    broken = house.accept("a@one.example")
    other = house.accept("a@two.example")
    assert house.scheduler.status()["blocked"] is False
    house.pass_time(0.1)
    assert house.states(other) == [State.RELAYED]
    house.pass_time(2)
    assert house.kinds(broken)[-1] is Event.DEFERRED
    assert house.scheduler.status()["unsettled"] == 0


def test_an_outcome_that_nobody_knows_is_a_deferral_and_frees_its_slot(house: SqliteScheduledHouse) -> None:
    message = house.accept("a@one.example", offer=False)
    house.agent._answer = lambda job, result, answer: result.callback(  # type: ignore[method-assign]
        Attempt({each.id: None for each in job.recipients})  # type: ignore[misc]
    )
    house.crash()
    house.pass_time(2)
    assert house.kinds(message)[-1] is Event.DEFERRED
    assert house.scheduler.status()["in_flight"] == 0
