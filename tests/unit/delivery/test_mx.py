"""The hosts of a domain: order, what answers mean, and no way back to ourselves."""

import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred as TwistedDeferred

from mta.delivery.mx import Host, Ourselves, exchangers_of_domain, hosts_of_domain, hosts_of_name, site_key
from mta.dns.resolver import MailExchanger, NoData, NoSuchName, Temporary
from mta.mail.outcome import Deferred, Failed
from mta.testing.fake_resolver import FakeResolver

OURSELVES = Ourselves("mail.us.example", frozenset({"192.0.2.99", "2001:db8::99"}))


def now(coroutine: Any) -> Any:
    found: list[Any] = []
    TwistedDeferred.fromCoroutine(coroutine).addCallback(found.append)
    return found[0]


def hosts(
    domain: str,
    mx: Any = None,
    addresses: Any = None,
    ourselves: Ourselves = OURSELVES,
    seed: int = 1,
    family: Any = "ipv4-first",
) -> Any:
    resolver = FakeResolver({domain: mx} if mx is not None else None, addresses)
    return now(hosts_of_domain(domain, resolver, random.Random(seed), ourselves, family))


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


def exchangers(domain: str, mx: Any, ourselves: Ourselves = OURSELVES) -> Any:
    return now(exchangers_of_domain(domain, FakeResolver({domain: mx}), random.Random(1), ourselves))


def test_exchangers_come_before_their_addresses_are_asked_for() -> None:
    resolver = FakeResolver({"d.example": [(20, "b.example"), (10, "a.example")]})
    found = now(exchangers_of_domain("d.example", resolver, random.Random(1), OURSELVES))
    assert found == (MailExchanger(10, "a.example"), MailExchanger(20, "b.example"))
    assert resolver.asked == [("MX", "d.example")]
    assert exchangers("d.example", NoSuchName()).status == "5.1.2"
    assert exchangers("[192.0.2.1]", None) == (MailExchanger(0, "[192.0.2.1]"),)


def test_domains_with_the_same_best_exchangers_are_one_site() -> None:
    one = exchangers("d.example", [(10, "mx2.host.example"), (10, "mx1.host.example"), (20, "backup.d.example")])
    other = exchangers("e.example", [(5, "mx1.host.example"), (5, "mx2.host.example")])
    assert site_key(one) == site_key(tuple(reversed(other))) == "mx1.host.example,mx2.host.example"
    assert site_key(exchangers("f.example", [(5, "mx1.host.example")])) == "mx1.host.example"
    assert site_key(exchangers("[192.0.2.1]", None)) == "[192.0.2.1]"
    assert site_key(()) == ""


def test_nobody_writes_the_name_of_another_site() -> None:
    assert (
        site_key([MailExchanger(5, "mx1.host.example,mx2.host.example"), MailExchanger(10, "a.example")]) == "a.example"
    )
    assert site_key([MailExchanger(5, "a\x1b[m.example"), MailExchanger(5, "")]) == ""


def test_the_name_of_a_site_stays_short_and_stable() -> None:
    many = [MailExchanger(10, f"mx{number}.host.example") for number in range(40)]
    assert site_key(many) == site_key(many[::-1])
    assert len(site_key(many)) <= 255
    assert site_key(many) != site_key(many[1:])


def test_a_domain_in_u_labels_is_asked_for_in_a_labels() -> None:
    resolver = FakeResolver({"xn--bcher-kva.example": [(10, "a.example")]}, {"a.example": ["192.0.2.1"]})
    found = now(hosts_of_domain("bücher.example", resolver, random.Random(1), OURSELVES))
    assert found == (Host("a.example", "192.0.2.1"),)
    assert resolver.asked[0] == ("MX", "xn--bcher-kva.example")
    assert now(hosts_of_domain("b\u2028.example", resolver, random.Random(1), OURSELVES)).status == "5.1.2"


def test_answers_at_hand_need_no_deferred() -> None:
    class AtHand(FakeResolver):
        def mx(self, domain: str) -> Any:
            return super().mx(domain).result

        def addresses(self, host: str) -> Any:
            return super().addresses(host).result

    resolver = AtHand({"d.example": [(10, "a.example")]}, {"a.example": ["192.0.2.1"]})
    with pytest.raises(StopIteration) as ended:
        hosts_of_domain("d.example", resolver, random.Random(1), OURSELVES).send(None)
    assert ended.value.value == (Host("a.example", "192.0.2.1"),)


FAMILIES = {
    "a.example": ["192.0.2.1", "2001:db8::1"],
    "b.example": ["192.0.2.2", "2001:db8::2"],
    "c.example": ["192.0.2.3", "2001:db8::3"],
}


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("ipv4-first", "44664"),
        ("ipv6-first", "66446"),
        ("alternate", "64646"),
        ("ipv4", "444"),
        ("ipv6", "666"),
    ],
)
def test_families_come_by_policy_among_equals_and_preference_comes_before_policy(family: Any, kinds: str) -> None:
    mx = [(10, "a.example"), (10, "b.example"), (20, "c.example")]
    found = hosts("d.example", mx, FAMILIES, family=family)
    assert "".join("6" if ":" in host.address else "4" for host in found) == kinds
    assert {host.name for host in found[:2]} == {"a.example", "b.example"} or family == "alternate"
    assert [host.name for host in found[4:]] == ["c.example"][: len(found[4:])]


@pytest.mark.parametrize(("family", "last"), [("ipv4-first", "2001:db8::1"), ("ipv6-first", "192.0.2.1")])
def test_among_five_addresses_is_one_of_the_other_family(family: Any, last: str) -> None:
    many = [f"192.0.2.{number}" for number in range(1, 9)], [f"2001:db8::{number}" for number in range(1, 9)]
    addresses = {"a.example": [*many[0], "2001:db8::1"] if last != "192.0.2.1" else ["192.0.2.1", *many[1]]}
    assert hosts("d.example", [(10, "a.example")], addresses, family=family)[4].address == last
    assert now(hosts_of_name("a.example", FakeResolver(hosts=addresses), family))[4].address == last


def test_a_family_that_policy_excludes_fails_nobody() -> None:
    addresses = {"a.example": ["2001:db8::1"]}
    found = hosts("d.example", [(10, "a.example")], addresses, family="ipv4")
    assert (type(found), found.status) == (Deferred, "4.4.4")
    assert now(hosts_of_name("a.example", FakeResolver(hosts=addresses), "ipv4")).status == "4.4.4"


def test_a_host_with_one_of_our_addresses_is_ourselves_and_so_are_its_equals_discarded() -> None:
    addresses = {
        "a.example": ["192.0.2.1"],
        "alias.us.example": ["192.0.2.99"],
        "b.example": ["192.0.2.2"],
        "c.example": ["192.0.2.3"],
    }
    mx = [(10, "a.example"), (20, "alias.us.example"), (20, "b.example"), (30, "c.example")]
    assert hosts("d.example", mx, addresses) == (Host("a.example", "192.0.2.1"),)
    assert hosts("d.example", mx[1:], addresses).status == "5.4.6"
    addresses["alias.us.example"] = ["::ffff:192.0.2.99"]
    assert hosts("d.example", mx[1:], addresses).status == "5.4.6"


def test_a_better_host_that_nobody_knows_about_keeps_hope_although_we_are_the_next() -> None:
    mx = [(10, "a.example"), (20, "alias.us.example")]
    found = hosts("d.example", mx, {"a.example": Temporary("late"), "alias.us.example": ["192.0.2.99"]})
    assert (type(found), found.status) == (Deferred, "4.4.3")
    found = hosts("d.example", mx[::-1], {"a.example": ["192.0.2.99"], "alias.us.example": Temporary("late")})
    assert (type(found), found.status) == (Failed, "5.4.6")


def test_a_hundred_exchangers_cost_ten_questions_and_fail_nobody_for_the_rest() -> None:
    resolver = FakeResolver({"d.example": [(number, f"mx{number}.example") for number in range(100)]})
    found = now(hosts_of_domain("d.example", resolver, random.Random(1), OURSELVES))
    assert (type(found), found.status) == (Deferred, "4.4.4")
    assert len(resolver.asked) == 11


def test_the_load_is_shared_among_the_addresses_of_a_host() -> None:
    addresses = {"a.example": ["192.0.2.1", "192.0.2.2"]}
    firsts = {hosts("d.example", [(10, "a.example")], addresses, seed=seed)[0].address for seed in range(20)}
    assert firsts == {"192.0.2.1", "192.0.2.2"}
    resolver = FakeResolver(hosts={"smart.example": ["192.0.2.1", "192.0.2.2", "2001:db8::1"]})
    found = [now(hosts_of_name("smart.example", resolver, "ipv4-first", random.Random(seed))) for seed in range(20)]
    assert {each[0].address for each in found} == {"192.0.2.1", "192.0.2.2"}
    assert {each[2].address for each in found} == {"2001:db8::1"}


def test_an_explicit_route_may_lead_to_loopback_and_to_ourselves() -> None:
    resolver = FakeResolver(hosts={"filter.example": ["127.0.0.1"], "us.example": ["192.0.2.99"]})
    assert now(hosts_of_name("filter.example", resolver)) == (Host("filter.example", "127.0.0.1"),)
    assert now(hosts_of_name("us.example", resolver)) == (Host("us.example", "192.0.2.99"),)
