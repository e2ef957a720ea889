"""Two txmta: mail and its reports travel through both. Everything that is said between them is said by engine to engine."""

from __future__ import annotations

from mta.testing.real_house import RealHouse
from mta.testing.reports import reports_in
from mta.testing.simulated_house import SimulatedHouse

House = SimulatedHouse | RealHouse


def test_mail_goes_from_one_to_the_other_as_it_was_written(house: House) -> None:
    here, there = house.txmta("here.test"), house.txmta("there.test")
    content = house.letter("user@here.test", ["alice@there.test"], 300_000)
    here.submit("user@here.test", ["alice@there.test"], content)
    house.until("the mail", lambda: there.mailbox("alice@there.test"), seconds=30)
    (arrived,) = there.mailbox("alice@there.test")
    assert arrived.endswith(content)
    assert arrived.count(b"\r\nReceived: ") == 2
    assert b"ESMTPS id" in arrived
    assert b"ESMTPSA id" in arrived


def test_a_report_travels_back_through_both(house: House) -> None:
    """here → gate → a neighbour who refuses; the gate's report goes back to here, whose user reads it."""
    far = house.peer("mx.far.example", {"RCPT TO:<bad@": "550 5.1.1 nobody of that name"})
    inner = {"domains": ["far.example"], "via": f"smtp:[{far.name}]:25", "accept": "all"}
    gate = house.txmta("gate.test", routes=[inner, {"domains": ["*"], "via": "mx"}])
    here = house.txmta("here.test", routes=[{"domains": ["*"], "via": "smtp:[gate.test]:25"}])
    identifier = here.submit(
        "user@here.test",
        ["bad@far.example", "alice@far.example"],
        mail="ENVID=e+2D1",
        rcpt="NOTIFY=FAILURE ORCPT=rfc822;first@far.example",
    )
    house.until("the report", lambda: here.mailbox("user@here.test"), minutes=5)
    house.until("empty queues", lambda: gate.queue() == here.queue() == [])
    assert set(here.states(identifier).values()) == {"relayed"}
    (report,) = reports_in(here.mailbox("user@here.test"))
    assert report.fates == {"bad@far.example": ("failed", "5.1.1")}
    assert report.reporting == "gate.test"
    assert report.envelope_id == "e-1"
    assert report.recipients[0].original == "first@far.example"
    assert len(far.taken_for("alice@far.example")) == 1


def test_a_report_that_nobody_takes_causes_none(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    inner = {"domains": ["far.example"], "via": "smtp:[mx.far.example]:25", "accept": "all"}
    gate = house.txmta("gate.test", routes=[inner, {"domains": ["*"], "via": "mx"}])
    other = house.txmta(
        "other.test", routes=[{"domains": ["gone.other.test"], "via": "error:5.1.1 gone", "accept": "all"}]
    )
    house.peer("mx.far.example", {"RCPT": "550 5.1.1 nobody of that name"})
    house.dns.mx("gone.other.test", 10, "other.test")
    gate.receive("lost@gone.other.test", ["bad@far.example"])
    house.advance(days=7)
    kinds = [story.message.kind.value for story in gate.stories()]
    assert kinds == ["relay", "report"]
    assert other.stories() == []
    assert gate.queue() == []


def test_a_loop_between_two_ends(house: House) -> None:
    """Each thinks that the other is the way: after so many hops it is refused, and its sender told once."""
    limits = {"hops": 20}
    to_there = {"domains": ["loop.example"], "via": "smtp:[there.test]:25", "accept": "all"}
    to_here = {"domains": ["loop.example"], "via": "smtp:[here.test]:25", "accept": "all"}
    mx = {"domains": ["*"], "via": "mx"}
    here = house.txmta("here.test", routes=[to_there, mx], limits=limits)
    there = house.txmta("there.test", routes=[to_here, mx], limits=limits)
    here.submit("user@here.test", ["alice@loop.example"])
    house.until("the report", lambda: here.mailbox("user@here.test"), hours=1)
    house.until("empty queues", lambda: here.queue() == there.queue() == [])
    (report,) = reports_in(here.mailbox("user@here.test"))
    assert report.fates == {"alice@loop.example": ("failed", "5.4.6")}
    house.check()
    assert 18 <= len(here.stories()) + len(there.stories()) <= 24, "and no storm"


def test_many_letters_both_ways_on_few_connections(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    here, there = house.txmta("here.test"), house.txmta("there.test")
    for number in range(40):
        here.hand_in("user@here.test", [f"p{number}@there.test"], login=("user@here.test", "password"))
        there.hand_in("user@there.test", [f"p{number}@here.test"], login=("user@there.test", "password"))
    house.advance(minutes=1)
    assert all(len(there.mailbox(f"p{number}@there.test")) == 1 for number in range(40))
    assert all(len(here.mailbox(f"p{number}@here.test")) == 1 for number in range(40))
    connected = [fields for fields in there.log.named("disconnected") if fields["listener"] == "mx"]
    assert len(connected) < 25
