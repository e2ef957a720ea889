"""No turn of the reactor does much, however many destinations there are (law 13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from mta.delivery.agent import SiteAnswer
from mta.mail.envelope import State
from mta.scheduler.lookout import LOADS_TURN
from mta.scheduler.sites import ASKED_TURN
from mta.testing.scheduling import DEAD, ScheduledHouse

DESTINATIONS = 200


class Turns:
    """Counts what is done in each turn: each timer that fires is one."""

    def __init__(self, house: ScheduledHouse) -> None:
        self.turn = 0
        self._later = house.clock.callLater
        house.clock.callLater = self._call_later  # type: ignore[method-assign,assignment]

    def _call_later(self, delay: float, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        def fired() -> None:
            self.turn += 1
            function(*arguments, **named)

        return self._later(delay, fired)

    def counted(self, function: Callable[..., Any]) -> tuple[Callable[..., Any], Counter[int]]:
        counts: Counter[int] = Counter()

        def counting(*arguments: Any, **named: Any) -> Any:
            counts[self.turn] += 1
            return function(*arguments, **named)

        return counting, counts


def test_destinations_that_are_due_at_the_same_time_are_loaded_in_many_turns() -> None:
    house = ScheduledHouse()
    turns = Turns(house)
    due = house.now() + 100
    messages = [house.accept(f"a@d{each}.example", offer=False, next_attempt=due) for each in range(DESTINATIONS)]
    house.spool.claim, claims = turns.counted(house.spool.claim)
    house.pass_time(120)
    assert {state for message in messages for state in house.states(message)} == {State.RELAYED}
    assert claims.total() >= DESTINATIONS
    assert max(claims.values()) <= LOADS_TURN


def test_when_all_suspensions_end_at_once_it_takes_many_turns() -> None:
    house = ScheduledHouse()
    house.agent.behave = lambda job: DEAD
    for number in range(DESTINATIONS * 4):
        house.accept(f"a@d{number % DESTINATIONS}.example")
    house.pass_time(700)
    house.agent.behave = lambda job: None
    turns = Turns(house)
    house.spool.claim, claims = turns.counted(house.spool.claim)
    assert house.scheduler.flush() > DESTINATIONS // 2
    house.pass_time(1)
    assert claims.total() > DESTINATIONS // 2
    assert max(claims.values()) <= LOADS_TURN


def test_sites_of_many_destinations_are_asked_for_again_in_many_turns() -> None:
    house = ScheduledHouse()
    house.agent.site = lambda destination: SiteAnswer(destination, 60.0)  # type: ignore[method-assign]
    house.agent.behave = lambda job: None
    for number in range(DESTINATIONS):
        house.accept(f"a@d{number}.example")
    turns = Turns(house)
    house.agent.site, asked = turns.counted(house.agent.site)  # type: ignore[method-assign]
    house.pass_time(200)
    assert asked.total() >= DESTINATIONS
    assert max(asked.values()) <= ASKED_TURN
