"""The router: first route that fits, who exists, postmaster, what is public."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta.config.model import Configuration
from mta.mail.address import Address, parse_address
from mta.mail.reply import NO_ROUTE, NO_SUCH_USER, OUR_FAULT
from mta.routing.router import Place, Router, RoutingError, build_router

MAILDIR = "maildir:/var/mail/{domain}/{local}"
USERS = {"demo@example.org", "admin@example.org", "odd+name@example.org"}


def knows(address: Address) -> bool:
    return str(address) in USERS


def configuration(*routes: dict[str, Any], postmaster: str = "admin@example.org") -> Configuration:
    return Configuration.model_validate(
        {
            "hostname": "mail.example.org",
            "postmaster": postmaster,
            "listener": [{"name": "mx", "endpoints": ["tcp:25"], "kind": "mx"}],
            "route": list(routes),
        }
    )


def router(
    *routes: dict[str, Any], postmaster: str = "admin@example.org", users: Callable[[Address], bool] = knows
) -> Router:
    made = configuration(*routes, postmaster=postmaster)
    return build_router(made, generation=7, users=users, accounts=lambda: ["root", "Alice"])


HOUSE = (
    {"domains": ["example.org"], "recipients": "users", "via": MAILDIR},
    {"domains": ["*"], "via": "mx"},
)


def address(text: str) -> Address:
    return parse_address(text, utf8=True)


# --- which route ------------------------------------------------------------------------------------------------------


def test_a_user_of_ours_is_local_and_everybody_may_write_to_them() -> None:
    found = router(*HOUSE).resolve(address("demo@example.org"))
    assert (found.place, found.destination, found.public) == (Place.LOCAL, MAILDIR, True)
    assert found.address == address("demo@example.org")
    assert (found.rule, found.reply) == ("route 1", None)


def test_the_rest_goes_by_mx_and_only_for_those_who_may_relay() -> None:
    found = router(*HOUSE).resolve(address("someone@elsewhere.example"))
    assert (found.place, found.destination, found.public) == (Place.REMOTE, "mx:elsewhere.example", False)


def test_a_literal_domain_is_no_domain_of_ours() -> None:
    found = router(*HOUSE).resolve(address("demo@[127.0.0.1]"))
    assert (found.place, found.destination, found.public) == (Place.REMOTE, "mx:[127.0.0.1]", False)


def test_a_dotted_pattern_takes_all_below_it_and_not_the_domain_itself() -> None:
    by_suffix = router(
        {"domains": [".example.org"], "via": "smtp:[inside.example]:2525"}, {"domains": ["*"], "via": "mx"}
    )
    assert by_suffix.resolve(address("x@a.example.org")).destination == "smtp:[inside.example]:2525"
    assert by_suffix.resolve(address("x@a.b.example.org")).destination == "smtp:[inside.example]:2525"
    assert by_suffix.resolve(address("x@example.org")).destination == "mx:example.org"
    assert by_suffix.resolve(address("x@notexample.org")).destination == "mx:notexample.org"


@pytest.mark.parametrize(
    ("patterns", "first"),
    [
        (["a.example.org", ".example.org", "*"], 1),
        ([".example.org", "a.example.org", "*"], 1),
        (["*", "a.example.org", ".example.org"], 1),
        ([".org", ".example.org", "a.example.org"], 1),
        (["other.example", ".example.org", "a.example.org"], 2),
        (["other.example", "a.example.org", ".org"], 2),
        ([".other.example", "b.example.org", "*", ".org"], 3),
    ],
)
def test_the_first_route_of_the_list_that_fits_decides(patterns: list[str], first: int) -> None:
    made = router(*({"domains": [pattern], "via": "mx"} for pattern in patterns))
    assert made.resolve(address("x@a.example.org")).rule == f"route {first}"


def test_a_domain_without_a_route_is_refused_with_5_1_2() -> None:
    found = router(HOUSE[0]).resolve(address("x@elsewhere.example"))
    assert (found.place, found.reply) == (Place.REFUSED, NO_ROUTE)
    assert found.reply is not None
    assert found.reply.status == "5.1.2"


def test_rules_name_the_line_of_the_file() -> None:
    class Lines:
        def place_of(self, key: str) -> str:
            return {"route.0": "mta.toml:34"}.get(key, "")

    made = build_router(configuration(*HOUSE), generation=1, users=knows, positions=Lines())
    assert made.resolve(address("demo@example.org")).rule == "route 1 (mta.toml:34)"
    assert made.resolve(address("x@elsewhere.example")).rule == "route 2"


def test_the_generation_is_kept() -> None:
    assert router(*HOUSE).generation == 7


# --- who exists -------------------------------------------------------------------------------------------------------


def test_an_unknown_recipient_of_ours_is_refused_with_5_1_1() -> None:
    found = router(*HOUSE).resolve(address("nobody@example.org"))
    assert (found.place, found.reply, found.public) == (Place.REFUSED, NO_SUCH_USER, True)


def test_case_and_subaddress_lead_to_the_mailbox() -> None:
    made = router(*HOUSE)
    for text in ("Demo@example.org", "demo+news@example.org", "DEMO+News+more@Example.ORG"):
        assert made.resolve(address(text)).address == address("demo@example.org"), text


def test_a_user_whose_name_has_a_plus_is_found_first() -> None:
    assert router(*HOUSE).resolve(address("odd+name@example.org")).address == address("odd+name@example.org")


def test_a_tag_without_a_user_is_nobody() -> None:
    assert router(*HOUSE).resolve(address("+news@example.org")).place is Place.REFUSED


def test_a_next_hop_gets_the_address_as_it_was_given() -> None:
    made = router({"domains": ["example.org"], "recipients": "users", "accept": "all", "via": "smtp:[10.0.0.1]:25"})
    found = made.resolve(address("Demo+News@example.org"))
    assert (found.place, found.address, found.public) == (Place.REMOTE, address("Demo+News@example.org"), True)
    assert made.resolve(address("nobody@example.org")).reply == NO_SUCH_USER


@pytest.mark.parametrize(
    ("via", "tls", "key"),
    [
        ("mx", None, "mx:example.net"),
        ("mx", "may", "mx:example.net"),
        ("mx", "verify", "mx:example.net;tls=verify"),
        ("smtp:[10.0.0.1]", "none", "smtp:[10.0.0.1]:25;tls=none"),
        ("smtps:[Smart.example.org]", None, "smtps:[smart.example.org]:465"),
        ("smtps:[smart.example.org]", "encrypt", "smtps:[smart.example.org]:465"),
        ("smtps:[smart.example.org]", "verify", "smtps:[smart.example.org]:465;tls=verify"),
    ],
)
def test_how_private_the_way_must_be_is_a_part_of_the_destination(via: str, tls: str | None, key: str) -> None:
    route = {"domains": ["*"], "via": via} | ({"tls": tls} if tls else {})
    assert router(route).resolve(address("a@example.net")).destination == key


def test_any_takes_every_local_part_and_folds_it() -> None:
    made = router({"domains": ["example.org"], "via": MAILDIR})
    assert made.resolve(address("Whoever+tag@example.org")).address == address("whoever@example.org")
    assert made.resolve(address("GRÜN@example.org")).address == address("grün@example.org")


def test_passwd_asks_the_accounts_of_this_host() -> None:
    made = router({"domains": ["example.org"], "recipients": "passwd", "via": MAILDIR})
    assert made.resolve(address("alice+x@example.org")).address == address("alice@example.org")
    assert made.resolve(address("bob@example.org")).place is Place.REFUSED


def test_a_table_names_addresses_and_local_parts(tmp_path: Path) -> None:
    table = tmp_path / "people"
    table.write_text("# people\ninfo\nSales@example.org  # only there\n\n", encoding="utf-8")
    made = router({"domains": ["example.org", "example.net"], "recipients": f"table:{table}", "via": MAILDIR})
    assert made.resolve(address("info@example.net")).place is Place.LOCAL
    assert made.resolve(address("sales@example.org")).place is Place.LOCAL
    assert made.resolve(address("sales@example.net")).place is Place.REFUSED


def test_a_changed_table_counts_from_the_next_router_on(tmp_path: Path) -> None:
    table = tmp_path / "people"
    table.write_text("info\n")
    route = {"domains": ["example.org"], "recipients": f"table:{table}", "via": MAILDIR}
    old = router(route)
    table.write_text("sales\n")
    new = router(route)
    assert old.resolve(address("sales@example.org")).place is Place.REFUSED
    assert new.resolve(address("sales@example.org")).place is Place.LOCAL


def test_a_failing_store_of_users_is_a_temporary_matter() -> None:
    def broken(_: Address) -> bool:
        raise OSError("the disk is gone")

    found = router(*HOUSE, users=broken).resolve(address("demo@example.org"))
    assert (found.place, found.reply, found.destination) == (Place.UNAVAILABLE, OUR_FAULT, MAILDIR)
    assert found.rule == "route 1: OSError: the disk is gone"


# --- who may write ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "public"),
    [
        ({"domains": ["example.org"], "via": MAILDIR}, True),
        ({"domains": ["example.org"], "via": "discard"}, True),
        ({"domains": ["example.org"], "via": "smtp:[h.example]:25"}, False),
        ({"domains": ["example.org"], "via": "mx"}, False),
        ({"domains": ["*"], "via": MAILDIR}, False),
        ({"domains": ["other.example", "*"], "via": MAILDIR}, False),
        ({"domains": ["example.org"], "via": "mx", "accept": "all"}, True),
        ({"domains": ["*"], "via": "mx", "accept": "all"}, True),
        ({"domains": ["example.org"], "via": MAILDIR, "accept": "authorized"}, False),
    ],
)
def test_who_may_send_through_a_route(route: dict[str, Any], public: bool) -> None:
    assert router(route).resolve(address("x@example.org")).public is public


def test_a_discarding_route_names_itself_in_the_destination() -> None:
    found = router(HOUSE[0], {"domains": ["noreply.example"], "via": "discard"}).resolve(address("x@noreply.example"))
    assert (found.place, found.destination) == (Place.LOCAL, "discard:route-2")


def test_an_error_route_refuses_in_its_own_words() -> None:
    made = router(
        {"domains": ["old.example"], "via": "error:5.1.6 We moved to new.example"},
        {"domains": ["busy.example"], "via": "error:4.3.2 Come back later"},
    )
    gone, busy = made.resolve(address("x@old.example")), made.resolve(address("x@busy.example"))
    assert (gone.place, str(gone.reply)) == (Place.REFUSED, "550 5.1.6 We moved to new.example")
    assert (busy.place, str(busy.reply)) == (Place.UNAVAILABLE, "450 4.3.2 Come back later")


# --- postmaster -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "postmaster",
        "PostMaster",
        "postmaster@example.org",
        "POSTMASTER@example.org",
        "postmaster@mail.example.org",
        "mailer-daemon@mail.example.org",
    ],
)
def test_postmaster_is_always_taken(text: str) -> None:
    found = router(*HOUSE).resolve(address(text))
    assert (found.place, found.address, found.public) == (Place.LOCAL, address("admin@example.org"), True)
    assert (found.destination, found.rule) == (MAILDIR, "postmaster, route 1")


def test_a_postmaster_who_is_a_user_gets_their_own_mail() -> None:
    made = router(*HOUSE, users=lambda each: each.local in {"postmaster", "admin"})
    assert made.resolve(address("Postmaster@example.org")).address == address("postmaster@example.org")


def test_postmaster_of_elsewhere_is_not_ours() -> None:
    found = router(*HOUSE).resolve(address("postmaster@elsewhere.example"))
    assert (found.destination, found.public) == ("mx:elsewhere.example", False)


def test_postmaster_of_a_refused_domain_is_refused() -> None:
    made = router({"domains": ["old.example"], "via": "error:5.1.6 gone"}, *HOUSE)
    assert made.resolve(address("postmaster@old.example")).place is Place.REFUSED


def test_the_postmaster_may_live_elsewhere() -> None:
    found = router(*HOUSE, postmaster="help@elsewhere.example").resolve(address("postmaster"))
    assert (found.place, found.destination, found.public) == (Place.REMOTE, "mx:elsewhere.example", True)


@pytest.mark.parametrize(
    "configured", ["postmaster@example.org", "nobody@example.org", "x@old.example", "y@busy.example"]
)
def test_a_postmaster_who_is_nobody_leads_to_the_last_resort(configured: str) -> None:
    made = router(
        HOUSE[0],
        {"domains": ["old.example"], "via": "error:5.1.6 gone"},
        {"domains": ["busy.example"], "via": "error:4.1.6 later"},
        postmaster=configured,
    )
    for text in ("postmaster", "postmaster@example.org"):
        found = made.resolve(address(text))
        assert (found.place, found.destination) == (Place.LOCAL, "maildir:/var/spool/mta/postmaster")
        assert (found.rule, found.public) == ("postmaster, last resort", True)


# --- what can't be built ----------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RoutingError) as caught:
        router(
            {"domains": ["a.example"], "via": "carrier-pigeon:home"},
            {"domains": ["b.example"], "recipients": f"table:{tmp_path}/absent", "via": MAILDIR},
        )
    assert [(each.route, each.key) for each in caught.value.problems] == [(0, "via"), (1, "recipients")]
    assert "carrier-pigeon" in str(caught.value)
    assert "No such file" in str(caught.value)


def test_resolving_is_fast_with_many_domains() -> None:
    routes = {"domains": [f"d{number}.example" for number in range(20_000)], "via": MAILDIR}
    made = router(routes, {"domains": ["*"], "via": "mx"})
    assert made.resolve(address("x@d19999.example")).place is Place.LOCAL
    assert made.resolve(address("x@unknown.example")).place is Place.REMOTE
