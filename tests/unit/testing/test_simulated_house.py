"""The simulated house itself: the same seed gives the same day, days are short, and what is asked is answered as `mta` does."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mta.testing.peer import at_most
from mta.testing.remote_host import Turns
from mta.testing.simulated_house import SimulatedHouse


def day(seed: int) -> list[Any]:
    """A day with much chance in it: what the log says, and when each message came."""
    with SimulatedHouse(seed, slicing=True, jitter=0.5, loss=0.2) as house:
        hub = house.txmta("hub.test")
        for number in range(5):
            peer = house.peer(
                f"mx{number}.example.net", {"connect": at_most(1), "MAIL": Turns("451 4.3.0 later", "250 Ok")}
            )
            house.dns.mx("example.net", 10, peer.name)
        for number in range(10):
            hub.hand_in("user@hub.test", [f"user{number}@example.net"], login=("user@hub.test", "password"))
            house.advance(minutes=number)
        house.advance(hours=20)
        arrived = [(peer.name, message.content) for peer in house.peers.values() for message in peer.messages]
        assert len(arrived) == 10
        return [hub.log.events, arrived, house.dns.asked]


def test_the_same_seed_gives_the_same_day() -> None:
    assert day(5) == day(5)
    assert day(5) != day(6)


def test_five_days_of_nothing_are_over_at_once() -> None:
    with SimulatedHouse() as house:
        house.txmta("hub.test")
        began = time.process_time()
        house.advance(days=5)
        assert time.process_time() - began < 3, "a look every minute, and no more"


def test_what_is_asked_is_answered_as_the_command_does() -> None:
    with SimulatedHouse() as house:
        hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
        house.dns.mx("example.net", 10, "mx.example.net")
        peer.down()
        identifier = hub.submit("user@hub.test", ["alice@example.net", "user@hub.test"])
        house.advance(minutes=1)
        (row,) = hub.queue()
        assert (row["id"], row["recipient"], row["attempts"]) == (identifier, "alice@example.net", 1)
        hub.ask("queue.alter", change="delete", ids=[identifier])
        house.advance(minutes=1)
        assert hub.states(identifier) == {"alice@example.net": "removed", "user@hub.test": "delivered"}
        house.advance(hours=2)
        assert hub.states(identifier)["user@hub.test"] == "delivered", "from the history too"
        assert hub.why("user@hub.test")["message"]["id"] == identifier
        assert hub.ask("status")["hostname"] == "hub.test"


def test_an_operator_releases_what_was_held() -> None:
    with SimulatedHouse() as house:
        hub, peer = house.txmta("hub.test", queue={"hold": True}), house.peer("mx.example.net")
        house.dns.mx("example.net", 10, "mx.example.net")
        identifier = hub.submit("user@hub.test", ["alice@example.net"])
        house.advance(hours=5)
        assert peer.messages == []
        hub.ask("queue.alter", change="release", ids=[identifier])
        house.until("the mail", lambda: peer.messages, seconds=5)


def test_who_is_refused_is_told_to_the_test() -> None:
    with SimulatedHouse() as house:
        hub = house.txmta("hub.test")
        with pytest.raises(AssertionError, match=r"5\.7\.1"):
            hub.receive("stranger@example.org", ["alice@example.net"])
        assert hub.receipts[0].refused


def test_what_does_not_come_is_named() -> None:
    with SimulatedHouse() as house, pytest.raises(AssertionError, match="the spring did not come within 60 s"):
        house.until("the spring", lambda: False, minutes=1)
