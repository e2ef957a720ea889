"""The key of a next hop says where, and how private."""

from __future__ import annotations

import pytest

from mta.config.via import parse_via
from mta.delivery.target import Target, TlsLevel, parse_target


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("mx:example.org", Target("example.org", "", 0, TlsLevel.MAY)),
        ("mx:[192.0.2.1]", Target("[192.0.2.1]", "", 0, TlsLevel.MAY)),
        ("mx:example.org;tls=verify", Target("example.org", "", 0, TlsLevel.VERIFY)),
        ("smtp:[smart.example.org]:587", Target("", "smart.example.org", 587, TlsLevel.MAY)),
        ("smtp:[2001:db8::1]:25;tls=none", Target("", "2001:db8::1", 25, TlsLevel.NONE)),
        ("smtp:[IPv6:2001:db8::1]:25", Target("", "2001:db8::1", 25, TlsLevel.MAY)),
        ("smtps:[smart.example.org]:465", Target("", "smart.example.org", 465, TlsLevel.ENCRYPT, True)),
        ("smtps:[smart.example.org]:465;tls=verify", Target("", "smart.example.org", 465, TlsLevel.VERIFY, True)),
    ],
)
def test_a_key_is_understood(key: str, target: Target) -> None:
    assert parse_target(key) == target


@pytest.mark.parametrize(
    "key", ["smtp:", "smtp:nohost", "mx:", "smtp:[]:25", "smtp:[h]:port", "mx:a;tls=much", "x:[h]:1"]
)
def test_what_names_no_next_hop_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_target(key)


@pytest.mark.parametrize("level", ["none", "may", "encrypt", "verify"])
def test_what_the_configuration_writes_is_what_the_agent_reads(level: str) -> None:
    written = parse_via("smtp:[smart.example.org]:587", level).target
    assert parse_target(written) == Target("", "smart.example.org", 587, TlsLevel[level.upper()])


def test_an_address_is_told_from_a_name() -> None:
    assert parse_target("smtp:[192.0.2.1]:25").address == "192.0.2.1"
    assert parse_target("smtp:[smart.example.org]:25").address == ""
