"""The wall clock is set while mail waits. Simulated only: nobody sets the clock of the machine that tests."""

from __future__ import annotations

import pytest

from mta.testing.reports import reports_in
from mta.testing.simulated_house import DAY_SECONDS, SimulatedHouse


@pytest.mark.parametrize("days", [-30, -1, 1, 30])
def test_a_clock_that_jumps_bounces_nobody_and_delays_nothing_for_long(
    simulated_house: SimulatedHouse, days: int
) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    peer.down()
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(hours=1)
    house.clock.step(days * DAY_SECONDS)
    house.advance(minutes=40)
    assert hub.states(identifier) == {"alice@example.net": "queued"}
    assert not any(r.fates["alice@example.net"][0] == "failed" for r in reports_in(hub.mailbox("user@hub.test")))
    if days > 0:
        peer.up()
        house.advance(hours=1.3)
        assert hub.states(identifier) == {"alice@example.net": "relayed"}


def test_mail_taken_after_the_clock_went_back_is_delivered_at_once(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(seconds=10)
    house.clock.step(-3600)
    hub.submit("user@hub.test", ["bob@example.net"])
    house.advance(seconds=10)
    assert len(peer.messages) == 2
