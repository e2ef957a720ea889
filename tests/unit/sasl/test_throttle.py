"""Guessing gets slow, and nobody is locked out of a usual place."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from mta.sasl.throttle import Throttle, network_of

ATTACKER, HOME = "192.0.2.66", "198.51.100.7"


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock.seconds)


def attempts(throttle: Throttle, clock: Clock, number: int, peer: str = ATTACKER, account: str = "demo") -> list[float]:
    """Failed attempts one after another, each waiting as it is told: the waits."""
    waits = []
    for _ in range(number):
        wait = throttle.admit(peer, account)
        assert wait is not None
        clock.advance(wait)
        throttle.failed(peer, account)
        waits.append(wait)
    return waits


def test_three_failures_are_free_then_the_delay_doubles_up_to_half_a_minute(throttle, clock):
    assert attempts(throttle, clock, 10) == [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]


def test_a_peer_is_slowed_whatever_accounts_it_tries(throttle, clock):
    for number in range(4):
        attempts(throttle, clock, 1, account=f"user{number}")
    assert throttle.admit(ATTACKER, "yet another") > 0
    assert throttle.admit(HOME, "yet another") == 0


def test_an_account_is_slowed_whatever_peers_try_it(throttle, clock):
    for number in range(4):
        attempts(throttle, clock, 1, peer=f"192.0.2.{number}")
    assert throttle.admit("203.0.113.1", "demo") > 0
    assert throttle.admit("203.0.113.1", "other") == 0


def test_parallel_attempts_queue_behind_one_another_and_are_turned_away_after_a_minute(throttle, clock):
    attempts(throttle, clock, 9)
    waits = [throttle.admit(ATTACKER, "demo") for _ in range(5)]
    assert waits == [30, 60, None, None, None]


def test_the_usual_place_of_an_account_is_not_slowed_by_others(throttle, clock):
    throttle.succeeded(HOME, "demo")
    attempts(throttle, clock, 10)
    assert throttle.admit(HOME, "demo") == 0
    assert throttle.admit("203.0.113.1", "demo") > 0


def test_an_account_behind_a_shared_address_is_not_slowed_by_its_neighbours(throttle, clock):
    throttle.succeeded(HOME, "demo")
    attempts(throttle, clock, 6, peer=HOME, account="neighbour")
    assert throttle.admit(HOME, "demo") == 0
    assert throttle.admit(HOME, "third") > 0


def test_guessing_from_the_usual_place_is_slowed_too(throttle, clock):
    throttle.succeeded(HOME, "demo")
    assert attempts(throttle, clock, 5, peer=HOME) == [0, 0, 0, 1, 2]


def test_a_success_does_not_wash_the_peer_clean(throttle, clock):
    attempts(throttle, clock, 6)
    throttle.succeeded(ATTACKER, "an account of the attacker")
    assert throttle.admit(ATTACKER, "victim") > 0


def test_quiet_is_forgotten(throttle, clock):
    attempts(throttle, clock, 8)
    clock.advance(901)
    assert attempts(throttle, clock, 4) == [0, 0, 0, 1]


def test_an_ipv6_network_is_one_peer(throttle, clock):
    assert network_of("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::"
    assert network_of("192.0.2.1") == "192.0.2.1"
    for number in range(4):
        attempts(throttle, clock, 1, peer=f"2001:db8:1:2::{number}", account=f"user{number}")
    assert throttle.admit("2001:db8:1:2:ffff::1", "other") > 0
    assert throttle.admit("2001:db8:1:3::1", "other") == 0


def test_the_tables_are_bounded(clock):
    throttle = Throttle(clock.seconds, table_limit=100)
    for number in range(1000):
        throttle.failed(f"10.0.{number // 250}.{number % 250}", f"user{number}")
        throttle.succeeded(f"10.0.{number // 250}.{number % 250}", f"user{number}")
    assert len(throttle._failures) <= 100
    assert len(throttle._known_good) <= 100
