"""Neighbours with their moods."""

from __future__ import annotations

from mta.testing.peer import at_most, greylist
from mta.testing.real_house import RealHouse
from mta.testing.remote_host import STALL, Turns
from mta.testing.reports import reports_in
from mta.testing.said_tls import NoTls
from mta.testing.simulated_house import SimulatedHouse

House = SimulatedHouse | RealHouse


def test_a_451_at_rcpt_is_a_wait_and_nothing_more(house: House) -> None:
    hub = house.txmta("hub.test")
    peer = house.peer("mx.example.net", {"RCPT": Turns("451 4.3.0 later", "250 2.1.5 Ok")})
    house.dns.mx("example.net", 10, "mx.example.net")
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.until("the mail", lambda: peer.taken_for("alice@example.net"), minutes=10)
    house.until("an empty queue", lambda: not hub.queue())
    assert [entry["kind"] for entry in hub.why(identifier)["entries"]][2:] == ["deferred", "relayed"]
    assert hub.mailbox("user@hub.test") == []


def test_mail_that_is_greylisted_comes_again(house: House) -> None:
    hub = house.txmta("hub.test")
    peer = house.peer("mx.example.net", {"RCPT": greylist(house.clock, 300 if house.simulated else 1)})
    house.dns.mx("example.net", 10, "mx.example.net")
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.until("the mail", lambda: peer.taken_for("alice@example.net"), minutes=20)
    house.until("an empty queue", lambda: not hub.queue())
    *before, last = [entry["kind"] for entry in hub.why(identifier)["entries"]][2:]
    assert set(before) == {"deferred"}
    assert last == "relayed"
    assert hub.mailbox("user@hub.test") == []


def test_a_554_at_the_first_mx_is_no_word_about_the_message(house: House) -> None:
    hub = house.txmta("hub.test")
    first, second = house.peer("mx1.example.net", {"connect": "554 5.7.1 not you"}), house.peer("mx2.example.net")
    house.dns.mx("example.net", 10, first.name)
    house.dns.mx("example.net", 20, second.name)
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.until("the mail", lambda: second.taken_for("alice@example.net"), seconds=30)
    house.until("an empty queue", lambda: not hub.queue())
    assert len(hub.attempts(identifier)) == 1
    assert hub.hosts(identifier) == [first.name, second.name]


def test_a_554_at_the_only_mx_defers(house: House) -> None:
    hub = house.txmta("hub.test")
    peer = house.peer("mx.example.net", {"connect": Turns("554 5.7.1 not you", "220 welcome")})
    house.dns.mx("example.net", 10, "mx.example.net")
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.until("the mail", lambda: peer.messages, minutes=20)
    house.until("an empty queue", lambda: not hub.queue())
    assert len(hub.attempts(identifier)) == 2
    assert hub.mailbox("user@hub.test") == []


def test_a_neighbour_who_comes_back_gets_what_waited(house: House) -> None:
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
    house.dns.mx("example.net", 10, "mx.example.net")
    peer.down()
    identifiers = [hub.submit("user@hub.test", [f"user{number}@example.net"]) for number in range(5)]
    house.until("an attempt", lambda: hub.attempts(identifiers[0]), minutes=1)
    peer.up()
    house.until("all mail", lambda: len(peer.messages) == 5, hours=2)
    house.until("an empty queue", lambda: not hub.queue())


def test_a_broken_handshake_is_followed_by_clear_text(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net", tls=NoTls())
    house.dns.mx("example.net", 10, "mx.example.net")
    hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(minutes=1)
    assert [each.tls for each in peer.messages] == [False]
    assert "STARTTLS" in peer.commands


def test_a_full_mailbox_is_tried_again_and_then_reported(simulated_house: SimulatedHouse) -> None:
    """552 at RCPT is what RFC 5321 section 4.5.3.1.10 tells senders to take for 452."""
    house = simulated_house
    hub = house.txmta("hub.test", queue={"lifetime": "1d"})
    peer = house.peer(
        "mx.example.net", {"RCPT TO:<full@": "452 4.2.2 mailbox full", ".": Turns("452 4.3.1 disk full", "250 Ok")}
    )
    house.dns.mx("example.net", 10, "mx.example.net")
    identifier = hub.submit("user@hub.test", ["full@example.net", "alice@example.net"])
    house.advance(hours=1)
    assert hub.states(identifier) == {"full@example.net": "queued", "alice@example.net": "relayed"}
    house.advance(days=2)
    assert hub.states(identifier)["full@example.net"] == "failed"
    assert len(peer.taken_for("alice@example.net")) == 1
    fates = [(a, f) for r in reports_in(hub.mailbox("user@hub.test")) for a, (f, _) in r.fates.items()]
    assert fates == [("full@example.net", "delayed"), ("full@example.net", "failed")]


def test_of_three_one_is_taken_one_refused_and_one_waits(house: House) -> None:
    hub = house.txmta("hub.test")
    script = {"RCPT TO:<bad@": "550 5.1.1 nobody", "RCPT TO:<full@": Turns("452 4.2.2 mailbox full", "250 2.1.5 Ok")}
    peer = house.peer("mx.example.net", script)
    house.dns.mx("example.net", 10, "mx.example.net")
    identifier = hub.submit("user@hub.test", ["alice@example.net", "bad@example.net", "full@example.net"])
    house.until("the mail that waited", lambda: peer.taken_for("full@example.net"), minutes=20)
    house.until("an empty queue", lambda: not hub.queue())
    assert len(peer.taken_for("alice@example.net")) == 1
    assert set(hub.states(identifier).items()) == {
        ("alice@example.net", "relayed"),
        ("bad@example.net", "failed"),
        ("full@example.net", "relayed"),
    }
    (report,) = reports_in(hub.mailbox("user@hub.test"))
    assert report.fates == {"bad@example.net": ("failed", "5.1.1")}


def test_a_neighbour_with_few_chairs_is_served_in_turn(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net", {"connect": at_most(2)})
    house.dns.mx("example.net", 10, "mx.example.net")
    for number in range(40):
        hub.hand_in("user@hub.test", [f"user{number}@example.net"], login=("user@hub.test", "password"))
    house.advance(hours=3)
    assert len(peer.messages) == 40
    assert hub.mailbox("user@hub.test") == []


def test_a_neighbour_who_says_nothing_more_after_the_last_dot_may_have_it(simulated_house: SimulatedHouse) -> None:
    """Ten minutes are waited; then it is tried again, and the journal says that there may be two copies."""
    house = simulated_house
    hub, peer = house.txmta("hub.test"), house.peer("mx.example.net", {".": Turns(STALL, "250 2.0.0 Ok")})
    house.dns.mx("example.net", 10, "mx.example.net")
    house.dns.mx("example.net", 20, house.peer("mx2.example.net").name)
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(minutes=9)
    assert hub.states(identifier) == {"alice@example.net": "queued"}
    assert hub.attempts(identifier) == []
    house.advance(minutes=20)
    assert len(peer.messages) == 1
    assert house.peers["mx2.example.net"].messages == []
    deferred = next(each for each in hub.why(identifier)["entries"] if each["kind"] == "deferred")
    assert deferred["data"]["uncertain"]
