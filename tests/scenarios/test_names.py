"""What the DNS says, and what becomes of the mail: a name that does not exist fails it, silence never does."""

from __future__ import annotations

import pytest

from mta.testing.real_house import RealHouse
from mta.testing.reports import reports_in
from mta.testing.simulated_house import SimulatedHouse

House = SimulatedHouse | RealHouse


def test_a_domain_that_does_not_exist_fails_at_once(house: House) -> None:
    hub = house.txmta("hub.test")
    identifier = hub.submit("user@hub.test", ["alice@nowhere.example"])
    house.until("the report", lambda: hub.mailbox("user@hub.test"), seconds=30)
    assert hub.states(identifier) == {"alice@nowhere.example": "failed"}
    assert len(hub.attempts(identifier)) == 1
    (report,) = reports_in(hub.mailbox("user@hub.test"))
    assert report.fates == {"alice@nowhere.example": ("failed", "5.1.2")}


def test_a_domain_that_takes_no_mail_fails_at_once(house: House) -> None:
    hub = house.txmta("hub.test")
    house.dns.null_mx("silent.example")
    house.dns.address("silent.example", house.peer("web.silent.example").address)
    hub.submit("user@hub.test", ["alice@silent.example"])
    house.until("the report", lambda: hub.mailbox("user@hub.test"), seconds=30)
    (report,) = reports_in(hub.mailbox("user@hub.test"))
    assert report.fates == {"alice@silent.example": ("failed", "5.1.10")}
    assert house.peers["web.silent.example"].sessions == []


def test_a_domain_without_mx_is_its_own_host(house: House) -> None:
    hub, peer = house.txmta("hub.test"), house.peer("plain.example")
    hub.submit("user@hub.test", ["alice@plain.example"])
    house.until("the mail", lambda: peer.taken_for("alice@plain.example"), seconds=30)
    house.until("an empty queue", lambda: not hub.queue())


def test_a_servfail_that_passes_is_a_wait_and_nothing_more(house: House) -> None:
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    house.dns.servfail("example.net")
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.until("an attempt", lambda: hub.attempts(identifier), minutes=1)
    assert hub.states(identifier) == {"alice@example.net": "queued"}
    house.dns.heal("example.net")
    house.until("the mail", lambda: peer.messages, hours=1)
    house.until("an empty queue", lambda: not hub.queue())
    assert hub.mailbox("user@hub.test") == []


@pytest.mark.parametrize("trouble", ["servfail", "silent"])
def test_name_servers_in_trouble_for_a_day_fail_nobody(simulated_house: SimulatedHouse, trouble: str) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    getattr(house.dns, trouble)("example.net")
    house.at(lambda: house.dns.heal("example.net"), days=1)
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(hours=23.9)
    assert hub.states(identifier) == {"alice@example.net": "queued"}
    house.advance(hours=1.5)
    assert hub.states(identifier) == {"alice@example.net": "relayed"}
    assert len(peer.taken_for("alice@example.net")) == 1
    told = [report.fates["alice@example.net"] for report in reports_in(hub.mailbox("user@hub.test"))]
    assert [action for action, _ in told] == ["delayed"]


def test_an_mx_without_an_address_fails_nobody_while_its_name_server_is_in_trouble(
    simulated_house: SimulatedHouse,
) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.other.example")
    house.dns.mx("example.net", 10, "mx.other.example")
    house.dns.servfail("other.example")
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(hours=2)
    assert hub.states(identifier) == {"alice@example.net": "queued"}
    house.dns.heal("other.example")
    house.advance(hours=1.5)
    assert len(peer.messages) == 1


def test_slow_name_servers_only_take_their_time(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    house.dns.slow("example.net", 3.0)
    hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(seconds=30)
    assert len(peer.messages) == 1
    assert len(hub.attempts(hub.receipts[0].id)) == 1


def test_mail_follows_a_domain_to_its_new_host_when_the_old_record_has_died(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub, old, new = house.txmta("hub.test"), house.peer("old.example.net"), house.peer("new.example.net")
    house.dns.mx("example.net", 10, "old.example.net", ttl=3600)
    hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(seconds=10)
    house.dns.forget("example.net")
    house.dns.mx("example.net", 10, "new.example.net", ttl=3600)
    hub.submit("user@hub.test", ["bob@example.net"])
    house.advance(minutes=50)
    hub.submit("user@hub.test", ["carol@example.net"])
    house.advance(minutes=20)
    hub.submit("user@hub.test", ["dora@example.net"])
    house.advance(minutes=1)
    assert [len(old.taken_for(f"{each}@example.net")) for each in ("alice", "bob", "carol")] == [1, 1, 1]
    assert len(new.taken_for("dora@example.net")) == 1


def test_with_datagrams_lost_names_are_found_all_the_same() -> None:
    with SimulatedHouse(seed=11, loss=0.3) as house:
        hub = house.txmta("hub.test")
        domains = [f"d{number}.example" for number in range(40)]
        for domain in domains:
            peer = house.peer(f"mx.{domain}")
            house.dns.mx(domain, 10, peer.name)
        hub.submit("user@hub.test", [f"alice@{domain}" for domain in domains])
        house.advance(hours=3)
        assert hub.mailbox("user@hub.test") == []
        assert all(len(peer.messages) == 1 for peer in house.peers.values())
