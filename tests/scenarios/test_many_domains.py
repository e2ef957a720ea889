"""One message, a hundred recipients in thirty domains, and every fate there is. Simulated only: a neighbour is down for days."""

from __future__ import annotations

from collections import Counter

from mta.testing.peer import addressees, greylist, sender_of
from mta.testing.remote_host import CLOSE, Turns
from mta.testing.reports import reports_in
from mta.testing.simulated_house import SimulatedHouse

FATES = ("well", "grey", "refuses-some", "down", "unknown", "loses-us", "tls-broken", "null", "full", "second")


def furnish(house: SimulatedHouse, number: int, fate: str) -> list[str]:
    """A domain with its fate; its recipients."""
    domain = f"{fate}-{number}.example"
    people = [f"{name}@{domain}" for name in ("alice", "bob", "carol")]
    if fate == "unknown":
        return people
    if fate == "null":
        house.dns.null_mx(domain)
        return people
    script = {
        "grey": {"RCPT": greylist(house.clock, 600)},
        "refuses-some": {
            "RCPT TO:<bob": "550 5.1.1 no bob here",
            "RCPT TO:<carol": Turns("451 4.2.1 later", "250 2.1.5 Ok"),
        },
        "loses-us": {"DATA": Turns(CLOSE, CLOSE, "354 go on")},
        "full": {"RCPT TO:<alice": "452 4.2.2 mailbox full", ".": Turns("452 4.3.1 disk full", "250 2.0.0 taken")},
    }.get(fate, {})
    peer = house.peer(f"mx.{domain}", script, tls=fate == "well")
    house.dns.mx(domain, 10, peer.name)
    if fate == "down":
        peer.down()
    if fate == "second":
        house.dns.mx(domain, 5, f"mx0.{domain}")
        house.peer(f"mx0.{domain}", {"connect": "554 5.7.1 not you"})
    return people


def test_each_recipient_has_its_own_fate_and_is_told_of_once(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub = house.txmta("hub.test")
    recipients = [each for number in range(3) for fate in FATES for each in furnish(house, number, fate)]
    recipients += [f"user{number}@hub.test" for number in range(10)]
    assert (len(recipients), len({each.partition("@")[2] for each in recipients})) == (100, 31)
    identifier = hub.submit("user@hub.test", recipients)

    house.advance(minutes=10)
    now = Counter(hub.states(identifier).values())
    assert now["delivered"] == 10
    assert now["failed"] == 3 * (3 + 3 + 1), "unknown, null, bob"
    house.advance(days=6)
    states = hub.states(identifier)

    def fate_of(address: str) -> str:
        return address.partition("@")[2].rpartition("-")[0]

    for address, state in states.items():
        fate, person = fate_of(address), address.partition("@")[0]
        failed = fate in {"down", "unknown", "null"} or (fate, person) in {("refuses-some", "bob"), ("full", "alice")}
        wanted = "failed" if failed else "delivered" if address.endswith("@hub.test") else "relayed"
        assert (address, state) == (address, wanted)

    told: Counter[tuple[str, str]] = Counter()
    for report in reports_in(hub.mailbox("user@hub.test")):
        told.update((address, action) for address, (action, _) in report.fates.items())
    assert set(told.values()) == {1}
    assert {address for address, action in told if action == "failed"} == {
        a for a, s in states.items() if s == "failed"
    }
    assert {fate_of(address) for address, action in told if action == "delayed"} == {"down", "full"}

    for peer in house.peers.values():
        copies = Counter(address for message in peer.messages for address in addressees(message))
        assert set(copies.values()) <= {1}, "nobody gets it twice"
        assert all(sender_of(message) == "user@hub.test" for message in peer.messages)


def test_recipients_of_one_domain_share_a_transaction(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub = house.txmta("hub.test")
    peer = house.peer("mx.example.net", {"MAIL": Turns("451 4.3.0 later", "250 2.1.0 Ok")})
    house.dns.mx("example.net", 10, "mx.example.net")
    hub.submit("user@hub.test", [f"user{number}@example.net" for number in range(250)])
    house.advance(hours=1)
    assert sorted(len(message.recipients) for message in peer.messages) == [50, 100, 100]
