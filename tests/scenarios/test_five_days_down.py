"""A neighbour is down for days. Simulated only: it takes days."""

from __future__ import annotations

import pytest

from mta.testing.peer import sender_of
from mta.testing.reports import reports_in
from mta.testing.simulated_house import SimulatedHouse

HOUR = 3600.0


@pytest.mark.parametrize("how", ["down", "vanish"])
def test_the_sender_is_told_once_that_it_waits_and_once_that_it_failed(
    simulated_house: SimulatedHouse, how: str
) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    getattr(peer, how)()
    identifier = hub.submit("user@hub.test", ["alice@example.net", "bob@example.net"])
    at = house.now()

    house.advance(hours=3.9)
    assert hub.mailbox("user@hub.test") == []
    house.advance(hours=2)
    (delayed,) = reports_in(hub.mailbox("user@hub.test"))
    assert delayed.fates == {"alice@example.net": ("delayed", "4.4.1"), "bob@example.net": ("delayed", "4.4.1")}

    house.advance(days=4.7)
    assert len(hub.mailbox("user@hub.test")) == 1
    assert set(hub.states(identifier).values()) == {"queued"}
    house.advance(hours=4)
    _, failed = reports_in(hub.mailbox("user@hub.test"))
    assert {address: action for address, (action, _) in failed.fates.items()} == {
        "alice@example.net": "failed",
        "bob@example.net": "failed",
    }
    assert set(hub.states(identifier).values()) == {"failed"}

    entries = hub.why(identifier)["entries"]
    ends = [each["at"] - at for each in entries if each["kind"] == "failed"]
    assert all(5 * 24 * HOUR <= each <= 5 * 24 * HOUR + 2 * HOUR for each in ends)
    tries = hub.attempts(identifier)
    assert 2 * 90 < len(tries) < 2 * 160, "every 4000 seconds at most"

    house.advance(days=3)
    assert len(hub.mailbox("user@hub.test")) == 2, "and then there is silence"
    assert house.quiet()


def test_it_arrives_when_the_neighbour_is_back_and_nobody_is_told_of_a_failure(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    peer.down()
    house.at(peer.up, days=4)
    hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(days=4, hours=1.3)
    assert len(peer.taken_for("alice@example.net")) == 1
    assert [each.fates["alice@example.net"][0] for each in reports_in(hub.mailbox("user@hub.test"))] == ["delayed"]


def test_of_relayed_mail_only_the_failure_is_told(simulated_house: SimulatedHouse) -> None:
    """A stranger's mail that we pass on: to tell of a delay is the business of the host where it was submitted."""
    house = simulated_house
    inner_route = {"domains": ["inner.test"], "via": "smtp:[inner.test]:25", "accept": "all"}
    hub = house.txmta("hub.test", routes=[inner_route, {"domains": ["*"], "via": "mx"}])
    inner, home = house.peer("inner.test"), house.peer("mx.example.org")
    house.dns.mx("example.org", 10, "mx.example.org")
    inner.down()
    hub.receive("friend@example.org", ["alice@inner.test"])
    house.advance(days=4.9)
    assert home.messages == []
    house.advance(days=3)
    (report,) = reports_in(message.content for message in home.messages)
    assert report.fates["alice@inner.test"][0] == "failed"
    assert sender_of(home.messages[0]) == ""
