"""Links that are slow, fall silent, or break. Simulated only: a real network has no such handle."""

from __future__ import annotations

import pytest

from mta.testing.remote_host import STALL
from mta.testing.reports import reports_in
from mta.testing.simulated_house import SimulatedHouse

LARGE_OCTETS = 400_000  # a body in a file, streamed to the peer


@pytest.mark.parametrize("octets", [2000, LARGE_OCTETS])
def test_a_link_that_falls_silent_in_the_content_defers_and_the_mail_arrives_once(
    simulated_house: SimulatedHouse, octets: int
) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    house.network.link("hub.test", "mx.example.net", both_ways=False, silent_after=octets // 2)
    content = house.letter("user@hub.test", ["alice@example.net"], octets)
    identifier = hub.submit("user@hub.test", ["alice@example.net"], content)
    house.at(lambda: house.network.link("hub.test", "mx.example.net", silent_after=None), minutes=2)
    house.advance(minutes=2)
    assert hub.attempts(identifier) == []
    house.advance(hours=1)
    (message,) = peer.messages
    assert message.content.endswith(content)
    deferred = next(each for each in hub.why(identifier)["entries"] if each["kind"] == "deferred")
    assert 120 <= deferred["data"]["tries"][-1]["seconds"] <= 700
    assert reports_in(hub.mailbox("user@hub.test")) == []


def test_a_link_that_breaks_in_the_content_is_tried_again(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    house.network.link("hub.test", "mx.example.net", both_ways=False, lost_after=LARGE_OCTETS // 2)
    content = house.letter("user@hub.test", ["alice@example.net"], LARGE_OCTETS)
    identifier = hub.submit("user@hub.test", ["alice@example.net"], content)
    house.advance(minutes=2)
    assert hub.states(identifier) == {"alice@example.net": "queued"}
    house.network.link("hub.test", "mx.example.net", lost_after=None)
    house.advance(minutes=20)
    assert [each.content.endswith(content) for each in peer.messages] == [True]


def test_a_client_whose_link_breaks_before_the_last_reply_hears_nothing_and_nothing_is_half(
    simulated_house: SimulatedHouse,
) -> None:
    house = simulated_house
    hub = house.txmta("hub.test")
    house.network.link("client.test", "hub.test", both_ways=False, lost_after=LARGE_OCTETS // 2)
    content = house.letter("user@hub.test", ["user@hub.test"], LARGE_OCTETS)
    receipt = hub.hand_in("user@hub.test", ["user@hub.test"], content, login=("user@hub.test", "password"))
    house.advance(minutes=10)
    assert receipt.over
    assert not receipt.taken
    assert hub.stories() == []
    assert hub.mailbox("user@hub.test") == []


def test_slicing_and_jitter_change_nothing() -> None:
    with SimulatedHouse(seed=5, slicing=True, jitter=0.2) as house:
        hub, peer = house.txmta("hub.test"), house.peer("mx.example.net", tls=True)
        house.dns.mx("example.net", 10, "mx.example.net")
        contents = [house.letter("user@hub.test", ["alice@example.net"], octets) for octets in (0, 5000, 60_000)]
        for content in contents:
            hub.submit("user@hub.test", ["alice@example.net", "user@hub.test"], content)
        house.advance(minutes=5)
        assert sorted(len(each.content.partition(b"\r\nFrom: ")[2]) for each in peer.messages) == sorted(
            len(content) - len("From: ") for content in contents
        )
        assert len(hub.mailbox("user@hub.test")) == 3


@pytest.mark.parametrize("script", [{"MAIL": STALL}, {"connect": STALL}, {"DATA": STALL}])
def test_a_neighbour_who_falls_silent_holds_up_nobody_else(
    simulated_house: SimulatedHouse, script: dict[str, object]
) -> None:
    house = simulated_house
    hub = house.txmta("hub.test")
    slow, quick = house.peer("mx.slow.example", script), house.peer("mx.quick.example")
    house.dns.mx("slow.example", 10, slow.name)
    house.dns.mx("quick.example", 10, quick.name)
    for number in range(40):
        hub.hand_in("user@hub.test", [f"user{number}@slow.example"], login=("user@hub.test", "password"))
    house.advance(seconds=20)
    started = house.now()
    for number in range(40):
        hub.hand_in("user@hub.test", [f"user{number}@quick.example"], login=("user@hub.test", "password"))
    house.until("all quick mail", lambda: len(quick.messages) == 40, seconds=30)
    assert house.now() - started < 10
    assert slow.messages == []
    assert len(slow.sessions) <= 20
