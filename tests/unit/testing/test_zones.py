"""The name servers of a test's world."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.names import dns

from mta.testing.zones import Zones


@pytest.fixture
def zones() -> Zones:
    zones = Zones()
    zones.mx("example.net", 10, "mx.example.net")
    zones.address("mx.example.net", "192.0.2.1", "2001:db8::1")
    zones.alias("alias.example.net", "mx.example.net")
    zones.null_mx("null.example")
    return zones


def ask(zones: Zones, name: str, kind: int, *, udp: bool = True) -> Any:
    question = dns.Message(id=7, recDes=1)
    question.addQuery(name.encode(), kind)
    found = zones.respond(question.toStr(), udp=udp)
    if found is None:
        return None
    answer = dns.Message()
    answer.fromStr(found[0])
    assert (answer.id, answer.answer) == (7, 1)
    return answer


def test_what_is_there_is_told(zones: Zones) -> None:
    (record,) = ask(zones, "Example.NET", dns.MX).answers
    assert (record.payload.preference, str(record.payload.name), record.ttl) == (10, "mx.example.net", 300)
    (record,) = ask(zones, "mx.example.net", dns.AAAA).answers
    assert record.type == dns.AAAA
    (record,) = ask(zones, "null.example", dns.MX).answers
    assert (record.payload.preference, str(record.payload.name)) == (0, "")


def test_aliases_are_followed(zones: Zones) -> None:
    assert [each.type for each in ask(zones, "alias.example.net", dns.A).answers] == [dns.CNAME, dns.A]


def test_no_such_name_and_no_data_are_two(zones: Zones) -> None:
    nothing = ask(zones, "nobody.example", dns.MX)
    assert nothing.rCode == dns.ENAME
    assert nothing.authority[0].payload.minimum == 60
    assert ask(zones, "mx.example.net", dns.MX).rCode == dns.OK
    assert ask(zones, "net", dns.MX).rCode == dns.OK, "something is below it"
    zones.forget("example.net")
    assert ask(zones, "mx.example.net", dns.A).answers


def test_trouble_covers_all_below_a_name_until_it_is_healed(zones: Zones) -> None:
    zones.servfail("example.net")
    assert ask(zones, "mx.example.net", dns.A).rCode == dns.ESERVER
    zones.heal("example.net")
    zones.silent("mx.example.net")
    assert ask(zones, "mx.example.net", dns.A) is None
    assert ask(zones, "example.net", dns.MX).answers
    assert zones.asked[-1] == ("MX", "example.net")


def test_what_does_not_fit_into_a_datagram_is_for_tcp(zones: Zones) -> None:
    for number in range(60):
        zones.mx("big.example", number, f"mx{number}.big.example")
    assert ask(zones, "big.example", dns.MX).trunc
    assert len(ask(zones, "big.example", dns.MX, udp=False).answers) == 60


def test_noise_is_not_answered(zones: Zones) -> None:
    assert zones.respond(b"noise", udp=True) is None
    assert zones.respond(b"", udp=True) is None
