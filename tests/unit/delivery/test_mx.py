"""The hosts of a domain: order, what answers mean, and no way back to ourselves."""

import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred as TwistedDeferred

from mta.delivery.mx import Host, Ourselves, hosts_of_domain, hosts_of_name
from mta.dns.resolver import NoData, NoSuchName, Temporary
from mta.mail.outcome import Deferred, Failed
from mta.testing.fake_resolver import FakeResolver

OURSELVES = Ourselves("mail.us.example", frozenset({"192.0.2.99", "2001:db8::99"}))


def now(coroutine: Any) -> Any:
    found: list[Any] = []
    TwistedDeferred.fromCoroutine(coroutine).addCallback(found.append)
    return found[0]


def hosts(domain: str, mx: Any = None, addresses: Any = None, ourselves: Ourselves = OURSELVES, seed: int = 1) -> Any:
    resolver = FakeResolver({domain: mx} if mx is not None else None, addresses)
    return now(hosts_of_domain(domain, resolver, random.Random(seed), ourselves))


def test_hosts_come_by_preference_and_equals_in_random_order() -> None:
    addresses = {"a.example": ["192.0.2.1"], "b.example": ["192.0.2.2"], "c.example": ["192.0.2.3"]}
    mx = [(20, "c.example"), (10, "a.example"), (10, "b.example")]
    orders = {tuple(host.name for host in hosts("d.example", mx, addresses, seed=seed)) for seed in range(20)}
    assert orders == {("a.example", "b.example", "c.example"), ("b.example", "a.example", "c.example")}


def test_five_addresses_are_enough() -> None:
    many = {"a.example": [f"192.0.2.{number}" for number in range(1, 9)]}
    assert len(hosts("d.example", [(10, "a.example")], many)) == 5


def test_without_mx_the_domain_is_its_own_host() -> None:
    assert hosts("d.example", None, {"d.example": ["192.0.2.1"]}) == (Host("d.example", "192.0.2.1"),)


@pytest.mark.parametrize(
    ("mx", "addresses", "outcome", "status"),
    [
        (NoSuchName(), {}, Failed, "5.1.2"),
        (Temporary("SERVFAIL"), {}, Deferred, "4.4.3"),
        ([(0, "")], {}, Failed, "5.1.10"),
        (NoData(), {"d.example": NoData()}, Failed, "5.4.4"),
        ([(10, "a.example")], {}, Failed, "5.4.4"),
        ([(10, "a.example"), (20, "b.example")], {"b.example": Temporary("late")}, Deferred, "4.4.3"),
        ([(10, "a.example")], {"a.example": ["127.0.0.1"]}, Failed, "5.4.6"),
        ([(10, "a.example")], {"a.example": ["0.0.0.0"]}, Failed, "5.4.6"),
        ([(10, "a.example")], {"a.example": ["::"]}, Failed, "5.4.6"),
        ([(10, "a.example")], {"a.example": ["::1"]}, Failed, "5.4.6"),
        ([(10, "a.example")], {"a.example": ["::ffff:127.0.0.1"]}, Failed, "5.4.6"),
        ([(10, "a.example")], {"a.example": ["192.0.2.99"]}, Failed, "5.4.6"),
        ([(10, "a.example")], {"a.example": ["2001:db8::99"]}, Failed, "5.4.6"),
        ([(10, "mail.us.example"), (20, "b.example")], {"b.example": ["192.0.2.1"]}, Failed, "5.4.6"),
        ([(10, "../etc"), (10, "a b")], {}, Failed, "5.4.4"),
    ],
)
def test_what_an_answer_means(mx: Any, addresses: Any, outcome: type, status: str) -> None:
    found = hosts("d.example", mx, addresses)
    assert (type(found), found.status) == (outcome, status)


def test_a_host_of_loopback_is_passed_over_for_an_honest_one() -> None:
    addresses = {"a.example": ["127.0.0.1"], "b.example": ["192.0.2.1"]}
    assert hosts("d.example", [(10, "a.example"), (20, "b.example")], addresses) == (Host("b.example", "192.0.2.1"),)


def test_only_better_hosts_than_ourselves_are_tried() -> None:
    mx = [(10, "a.example"), (20, "mail.us.example"), (20, "b.example"), (30, "c.example")]
    addresses = {name: ["192.0.2.1"] for name in ("a.example", "b.example", "c.example")}
    assert [host.name for host in hosts("d.example", mx, addresses)] == ["a.example"]


def test_tests_may_allow_loopback() -> None:
    allowed = Ourselves("mail.us.example", (), allow_loopback=True)
    assert hosts("d.example", [(10, "a.example")], {"a.example": ["127.0.0.1"]}, allowed)[0].address == "127.0.0.1"


@pytest.mark.parametrize(("domain", "address"), [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1")])
def test_a_literal_needs_no_dns(domain: str, address: str) -> None:
    assert hosts(domain) == (Host(domain, address),)
    assert hosts("[127.0.0.1]").status == "5.4.6"


def test_a_host_of_the_configuration_never_fails_mail() -> None:
    resolver = FakeResolver(hosts={"smart.example": ["192.0.2.1"], "slow.example": Temporary("late")})
    assert now(hosts_of_name("smart.example", resolver)) == (Host("smart.example", "192.0.2.1"),)
    assert now(hosts_of_name("127.0.0.1", resolver)) == (Host("127.0.0.1", "127.0.0.1"),)
    assert now(hosts_of_name("gone.example", resolver)).status == "4.4.4"
    assert now(hosts_of_name("slow.example", resolver)).status == "4.4.3"
