"""Which destinations share their hosts."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mta.delivery.agent import OWN_SITE, SiteAnswer
from mta.delivery.site import site_of
from mta.testing.fake_resolver import FakeResolver


def site(destination: str, resolver: FakeResolver) -> SiteAnswer:
    soon = site_of(destination, resolver)
    if not isinstance(soon, Deferred):
        return soon
    found: list[SiteAnswer] = []
    soon.addCallback(found.append)
    return found[0]


def test_a_level_of_tls_has_no_part_in_the_site() -> None:
    resolver = FakeResolver(mx={"example.org": [(10, "mx.example.net")]})
    assert {site(f"mx:example.org{level}", resolver).key for level in ("", ";tls=verify", ";tls=none")} == {
        "mx.example.net"
    }
    assert set(resolver.asked) == {("MX", "example.org")}


def test_who_is_not_found_by_mx_has_a_site_of_its_own() -> None:
    resolver = FakeResolver()
    for destination in ("mx:[192.0.2.1]", "mx:[192.0.2.1];tls=verify", "smtp:[smart.example.org]:25;tls=verify"):
        assert site(destination, resolver) == OWN_SITE
    assert resolver.asked == []
