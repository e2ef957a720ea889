"""A week in which everything goes wrong at random, and a week in which it is well again: the laws hold, and nothing is left over.

Simulated only. A seed that breaks a law is worth keeping: add it to the list with the mending.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mta.testing.remote_host import ABORT, CLOSE, STALL, Answer
from mta.testing.reports import reports_in
from mta.testing.simulated_house import SimulatedHouse

DOMAINS = [f"d{number}.example" for number in range(8)]
LOGIN = ("user@hub.test", "password")
MOODS: list[dict[str, Answer]] = [
    {},
    {"connect": "421 4.3.2 not now"},
    {"connect": STALL},
    {"EHLO": CLOSE},
    {"MAIL": "451 4.3.0 later"},
    {"RCPT TO:<a": "550 5.1.1 nobody", "RCPT TO:<b": "452 4.2.2 full"},
    {"DATA": ABORT},
    {".": "451 4.3.0 later"},
    {".": CLOSE},
    {".": "554 5.6.0 I don't like it"},
]


class Week:
    """What may happen, each drawn by the house's own chance."""

    def __init__(self, house: SimulatedHouse) -> None:
        self.house = house
        self.chance = house.network.random
        self.hub = house.txmta("hub.test")
        for domain in DOMAINS:
            peer = house.peer(f"mx.{domain}", tls=self.chance.random() < 0.5)
            house.dns.mx(domain, 10, peer.name)

    def events(self) -> list[Callable[[], None]]:
        return [self.submit, self.submit, self.submit, self.neighbour, self.mood, self.names, self.link, self.crash]

    def submit(self) -> None:
        if self.hub.running:
            people = [
                f"{name}@{domain}" for domain in self.chance.sample(DOMAINS, 3) for name in ("alice", "bob", "carol")
            ]
            octets = self.chance.choice([500, 5000, 200_000])
            self.hub.hand_in(LOGIN[0], people, self.house.letter(LOGIN[0], people, octets), login=LOGIN)

    def neighbour(self) -> None:
        peer = self.house.peers[f"mx.{self.chance.choice(DOMAINS)}"]
        self.chance.choice([peer.up, peer.down, peer.vanish])()

    def mood(self) -> None:
        self.house.peers[f"mx.{self.chance.choice(DOMAINS)}"].script = self.chance.choice(MOODS)

    def names(self) -> None:
        dns = self.house.dns
        self.chance.choice([dns.heal, dns.heal, dns.servfail, dns.silent])(self.chance.choice(DOMAINS))

    def link(self) -> None:
        lost, silent = self.chance.choice([(None, None), (None, None), (3000, None), (None, 3000), (100_000, None)])
        self.house.network.link(
            "hub.test",
            f"mx.{self.chance.choice(DOMAINS)}",
            both_ways=False,
            lost_after=lost,
            silent_after=silent,
            latency=self.chance.choice([0.001, 0.05, 2.0]),
        )

    def crash(self) -> None:
        if self.hub.running:
            self.hub.crash(told=self.chance.random() < 0.5)
            self.house.at(self.hub.start, minutes=self.chance.random() * 10)

    def heal(self) -> None:
        for domain in DOMAINS:
            peer = self.house.peers[f"mx.{domain}"]
            self.house.dns.heal(domain)
            self.house.network.link("hub.test", peer.name, lost_after=None, silent_after=None, latency=0.02)
            peer.script = {}
            peer.up()


@pytest.mark.parametrize("seed", [1, 3])
def test_after_a_bad_week_the_laws_hold_and_nothing_is_left_over(seed: int) -> None:
    with SimulatedHouse(seed, slicing=True, jitter=0.1, loss=0.05) as house:
        week = Week(house)
        for _ in range(100):
            week.chance.choice(week.events())()
            house.advance(minutes=week.chance.random() * 30)
        house.advance(minutes=15)
        house.check()
        week.heal()
        house.advance(days=6)
        hub = week.hub
        assert hub.queue() == []
        told = [address for report in reports_in(hub.mailbox(LOGIN[0])) for address in report.fates]
        failed = [
            str(each.address) for story in hub.stories() for each in story.recipients if each.state.name == "FAILED"
        ]
        assert set(failed) <= set(told)
        assert any(receipt.taken for receipt in hub.receipts)
