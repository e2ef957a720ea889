"""Sites: all domains at one provider together get no more than the site may have."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import defer

from mta.delivery.agent import OWN_SITE, SiteAnswer
from mta.mail.envelope import State
from mta.mail.outcome import Deferred
from mta.scheduler.pools import LOADED_PER_SLOT
from mta.testing.scheduling import DEAD, TAKEN, ScheduledHouse

BIG = SiteAnswer("mx.big.example", 3600.0)


def at_big(house: ScheduledHouse) -> None:
    house.agent.site = lambda destination: BIG  # type: ignore[method-assign]


def everywhere(house: ScheduledHouse) -> int:
    return sum(house.agent.at_once.values())


def test_a_thousand_domains_at_one_provider_get_no_more_jobs_at_once_than_the_site_may() -> None:
    house = ScheduledHouse()
    at_big(house)
    most = 0

    def behave(job: Any) -> None:
        nonlocal most
        most = max(most, everywhere(house))

    house.agent.behave = behave
    messages = [house.accept(f"a@d{number}.example") for number in range(1000)]
    rounds = 0
    while house.agent.waiting:
        house.agent.finish()
        house.pass_time(1.1)
        rounds += 1
    house.pass_time(120)
    assert most == 20
    assert len(house.agent.jobs) == 1000
    assert all(house.states(message) == [State.RELAYED] for message in messages)


def test_domains_of_a_site_take_turns() -> None:
    house = ScheduledHouse(site_concurrency=1)
    at_big(house)
    house.agent.behave = lambda job: None
    for name in ("one", "two", "three"):
        for _ in range(3):
            house.accept(f"a@{name}.example")
    for _ in range(9):
        house.pass_time(0.1)
        assert len(house.agent.waiting) == 1
        house.agent.finish()
    order = [job.destination for _, job in house.agent.jobs]
    assert len(set(order[1:4])) == len(set(order[4:7])) == 3  # the first began when nobody else was there


def test_a_site_that_is_full_keeps_nobody_else_waiting() -> None:
    house = ScheduledHouse()
    house.agent.site = lambda destination: OWN_SITE if "alive" in destination else BIG  # type: ignore[method-assign]
    house.agent.behave = lambda job: TAKEN if "alive" in job.destination else None
    for number in range(100):
        house.accept(f"a@d{number}.example")
    living = [house.accept(f"a@alive{number}.example") for number in range(20)]
    house.pass_time(1)
    assert everywhere(house) == 5
    assert all(house.states(message) == [State.RELAYED] for message in living)


def test_rows_of_a_site_in_memory_are_bounded_and_all_of_them_go() -> None:
    house = ScheduledHouse()
    at_big(house)
    house.agent.behave = lambda job: None
    for number in range(500):
        house.accept(f"a@d{number}.example", offer=False)
    house.crash()
    house.pass_time(10)
    assert house.scheduler.status()["waiting"] <= LOADED_PER_SLOT * 5  # type: ignore[operator]
    while house.agent.waiting:
        house.agent.finish()
        house.pass_time(3)
    assert len(house.agent.jobs) == 500


def test_before_the_first_job_the_site_is_asked_for_and_the_destination_waits() -> None:
    house = ScheduledHouse()
    answer: defer.Deferred[SiteAnswer] = defer.Deferred()
    asked = []

    def site(destination: str) -> Any:
        asked.append(destination)
        return answer

    house.agent.site = site  # type: ignore[method-assign]
    for _ in range(3):
        house.accept("a@one.example")
    house.accept("demo@example.org")  # local: it has none
    house.pass_time(30)
    assert asked == ["mx:one.example"]
    assert [job.destination for _, job in house.agent.jobs] == ["maildir:/var/mail/{local}"]
    answer.callback(BIG)
    house.pass_time(0.1)
    assert len(house.agent.jobs) == 4
    assert house.destination("mx:one.example")["site"] == "mx.big.example"


@pytest.mark.parametrize("raises", [True, False], ids=["the call raises", "the Deferred fails"])
def test_a_destination_of_which_nobody_can_tell_is_its_own_site(raises: bool) -> None:
    house = ScheduledHouse()

    def site(destination: str) -> Any:
        if raises:
            raise ZeroDivisionError
        return defer.fail(ZeroDivisionError())

    house.agent.site = site  # type: ignore[method-assign]
    message = house.accept("a@one.example")
    house.pass_time(1)
    assert house.states(message) == [State.RELAYED]
    assert house.destination("mx:one.example")["site"] == ""


def test_an_answer_is_asked_for_again_when_it_is_old_and_a_move_is_followed() -> None:
    house = ScheduledHouse()
    answers = [SiteAnswer("mx.old.example", 100.0), SiteAnswer("mx.new.example", 3600.0)]
    asked = []

    def site(destination: str) -> SiteAnswer:
        asked.append(house.clock.seconds())
        return answers[len(asked) > 1]

    house.agent.site = site  # type: ignore[method-assign]
    house.agent.behave = lambda job: None
    for _ in range(30):
        house.accept("a@one.example")
    house.pass_time(90)
    assert len(asked) == 1
    house.pass_time(100)
    assert len(asked) == 2
    assert house.destination("mx:one.example")["site"] == "mx.new.example"
    house.agent.behave = lambda job: TAKEN
    house.agent.finish()
    house.pass_time(5)
    assert len(house.agent.jobs) == 30
    assert house.destination("mx:one.example")["site_in_flight"] == 0


def test_rows_that_come_while_their_destination_seems_idle_are_not_left_lying() -> None:
    """Its answer is found to be old while a claim of its rows is on its way."""
    house = ScheduledHouse()
    asked = []

    def site(destination: str) -> SiteAnswer:
        asked.append(destination)
        return SiteAnswer("mx.big.example", 60.0)

    house.agent.site = site  # type: ignore[method-assign]
    house.accept("a@one.example")
    house.pass_time(90)
    message = house.accept("b@one.example", offer=False)
    destination = house.scheduler._heads.destinations["mx:one.example"]
    house.scheduler._lookout.load_now(destination)
    assert destination.loading
    destination.placed_until = house.clock.seconds()
    house.scheduler.looked()
    house.pass_time(5)
    assert house.states(message) == [State.RELAYED]


def test_what_a_site_bears_is_learned_from_all_its_domains() -> None:
    house = ScheduledHouse()
    at_big(house)
    for number in range(10):
        house.accept(f"a@d{number}.example")
    house.pass_time(1)
    assert house.destination("mx:d9.example")["site_limit"] == 15
    house.agent.behave = lambda job: DEAD
    for number in range(4):
        house.accept(f"a@d{number}.example")
    house.pass_time(1)
    assert house.destination("mx:d9.example")["site_limit"] == 11


def test_a_421_lowers_the_limits_and_suspends_nobody() -> None:
    house = ScheduledHouse()
    at_big(house)
    house.agent.behave = lambda job: Deferred(421, "4.7.0", "too many connections")
    for number in range(8):
        house.accept("a@one.example" if number % 2 else f"a@d{number}.example")
    house.pass_time(1)
    row = house.destination("mx:one.example")
    assert (row["limit"], row["site_limit"], row["suspended_until"]) == (1, 1, 0.0)
    assert row["last_reply"] == "421 4.7.0 too many connections"


def test_idle_sites_are_forgotten() -> None:
    house = ScheduledHouse()
    house.agent.site = lambda destination: SiteAnswer(destination, 3600.0)  # type: ignore[method-assign]
    for number in range(50):
        house.accept(f"a@d{number}.example")
    house.pass_time(1)
    assert len(house.scheduler._sites) == 50
    house.pass_time(1200)
    assert len(house.scheduler._sites) == 0
    assert not house.scheduler._heads.destinations
