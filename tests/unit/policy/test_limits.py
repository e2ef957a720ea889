"""Connections at once, and stress."""

from __future__ import annotations

from mta.mail import reply
from mta.policy.limits import ConnectionCounts, client_key


def test_one_client_is_an_address_or_a_network_of_64_bits() -> None:
    assert client_key("192.0.2.1") == "192.0.2.1"
    assert client_key("2001:db8::1") == client_key("2001:db8::ffff:1") == "2001:db8::/64"
    assert client_key("2001:db8:0:1::1") != client_key("2001:db8::1")
    assert client_key("") == ""


def decide(counts: ConnectionCounts, client: str = "192.0.2.1", *, submission: bool = False) -> reply.Reply | None:
    return counts.decide(client, submission=submission, most=100, most_per_client=3, reserved_share=0.1).reply


def test_a_client_has_its_share() -> None:
    counts = ConnectionCounts()
    for _ in range(3):
        assert decide(counts) is None
        counts.enter("192.0.2.1", 100)
    assert decide(counts) is reply.TOO_MANY_CONNECTIONS
    assert decide(counts, "192.0.2.2") is None
    counts.leave("192.0.2.1", 100)
    assert decide(counts) is None


def test_ten_percent_are_kept_for_submission() -> None:
    counts = ConnectionCounts()
    for number in range(90):
        counts.enter(f"192.0.2.{number}", 100)
    assert decide(counts, "198.51.100.1") is reply.TOO_MANY_CONNECTIONS
    assert decide(counts, "198.51.100.1", submission=True) is None
    for number in range(10):
        counts.enter(f"198.51.100.{number}", 100)
    assert decide(counts, "203.0.113.1", submission=True) is reply.TOO_MANY_CONNECTIONS


def test_stress_begins_above_85_percent_and_ends_below_70() -> None:
    counts = ConnectionCounts()

    def fill(total: int) -> bool:
        while counts.total < total:
            counts.enter(f"192.0.2.{counts.total}", 100)
        while counts.total > total:
            counts.leave(f"192.0.2.{counts.total - 1}", 100)
        return counts.stress

    assert [fill(each) for each in (85, 86, 80, 70, 69, 80, 85, 86)] == [
        False,
        True,
        True,
        True,
        False,
        False,
        False,
        True,
    ]


def test_nothing_is_left_of_who_has_gone() -> None:
    counts = ConnectionCounts()
    for number in range(1000):
        counts.enter(f"10.0.{number >> 8}.{number & 255}", 2000)
    for number in range(1000):
        counts.leave(f"10.0.{number >> 8}.{number & 255}", 2000)
    assert (counts.total, counts.by_client) == (0, {})
