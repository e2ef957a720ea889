"""A crowd of neighbours that nobody knows: each may show that it lives, however many of them are dead."""

from __future__ import annotations

from typing import Any

from mta.scheduler.destinations import Destination
from mta.scheduler.heads import Heads
from mta.scheduler.pools import DOUBTFUL_CROWD, DOUBTFUL_JOBS_MAX
from mta.scheduler.work import Work

EACH = 4  # messages for each destination


def heads_with(make: Any, destinations: int) -> Heads:
    heads, identifier = Heads(20), 0
    for number in range(destinations):
        destination = heads.destination(f"mx:d{number}.example")
        heads.place(destination, None)
        for _ in range(EACH):
            identifier += 1
            row = make.recipient(identifier, destination=destination.key)
            heads.append(destination, Work(make.message(id=identifier), (row,), destination.key))
    return heads


def begun(heads: Heads) -> list[tuple[Destination, Work]]:
    """All that may begin now."""
    jobs = []
    while (job := heads.next()) is not None:
        jobs.append(job)
    return jobs


def test_a_few_that_nobody_knows_get_all_their_slots(make: Any) -> None:
    heads = heads_with(make, 10)
    assert len(begun(heads)) == 10 * EACH


def test_in_a_crowd_each_gets_one_slot_so_that_the_dead_cannot_keep_the_living_from_theirs(make: Any) -> None:
    destinations = DOUBTFUL_JOBS_MAX - 50
    heads = heads_with(make, destinations)
    jobs = begun(heads)
    assert {destination.key for destination, _ in jobs} == set(heads.destinations)
    assert len(jobs) <= destinations + DOUBTFUL_CROWD


def test_who_takes_mail_leaves_the_crowd_and_gets_the_rest_of_its_slots(make: Any) -> None:
    heads = heads_with(make, DOUBTFUL_CROWD * 2)
    destination, work = begun(heads)[-1]
    assert destination.in_flight == 1
    heads.prove(destination, True)
    heads.ended(destination, work)
    again = begun(heads)
    assert [each.key for each, _ in again] == [destination.key] * (EACH - 1)


def test_who_failed_gets_its_next_turn_when_its_one_job_is_over(make: Any) -> None:
    heads = heads_with(make, DOUBTFUL_CROWD * 2)
    destination, work = begun(heads)[-1]
    heads.ended(destination, work)
    assert [each.key for each, _ in begun(heads)] == [destination.key]
