"""Who may send where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mta.mail import reply
from mta.mail.address import parse_address
from mta.mail.reply import Reply
from mta.policy.decision import ClientFacts
from mta.policy.relay import decide_recipient, decide_sender
from mta.routing.router import Place, Resolution, build_router
from mta.testing.house import USERS, house_configuration

STRANGER = ClientFacts("192.0.2.1", "mx", False, False, False, "", False)
SUBMITTER = replace(STRANGER, listener="submission", submission=True)
LOGGED_IN = replace(SUBMITTER, authcid="demo@dev.test", may_relay=True, over_tls=True)
TRUSTED = replace(STRANGER, trusted_network=True, may_relay=True)


def test_submission_is_for_those_who_logged_in() -> None:
    assert decide_sender(STRANGER).allowed
    assert decide_sender(SUBMITTER).reply is reply.AUTH_REQUIRED
    assert decide_sender(LOGGED_IN).allowed
    assert decide_sender(replace(TRUSTED, submission=True)).allowed


ROUTER = build_router(
    house_configuration(
        {
            "route": [
                {"domains": ["dev.test"], "recipients": "users", "via": "maildir:/nonexistent/{local}"},
                {
                    "domains": ["inner.test"],
                    "recipients": "users",
                    "accept": "authorized",
                    "via": "maildir:/nonexistent/{local}",
                },
                {"domains": ["open.test"], "recipients": "any", "accept": "all", "via": "smtp:[192.0.2.9]:25"},
                {"domains": ["gone.test"], "via": "error:5.1.6 moved away"},
                {"domains": ["*"], "via": "mx"},
            ]
        }
    ),
    generation=1,
    users=lambda address: str(address) in {*USERS, "demo@inner.test"},
)


@pytest.mark.parametrize(
    ("recipient", "stranger", "relayer"),
    [
        ("demo@dev.test", None, None),
        ("nobody@dev.test", reply.NO_SUCH_USER, reply.NO_SUCH_USER),
        ("postmaster", None, None),
        ("postmaster@dev.test", None, None),
        ("user@elsewhere.example", reply.RELAY_DENIED, None),
        ("user@[192.0.2.5]", reply.RELAY_DENIED, None),
        ("anybody@open.test", None, None),
        ("user%elsewhere.example@dev.test", reply.NO_SUCH_USER, reply.NO_SUCH_USER),
        # who exists behind a closed route is nobody's business
        ("demo@inner.test", reply.RELAY_DENIED, None),
        ("nobody@inner.test", reply.RELAY_DENIED, reply.NO_SUCH_USER),
    ],
)
def test_strangers_reach_our_users_and_relayers_everybody(
    recipient: str, stranger: Reply | None, relayer: Reply | None
) -> None:
    resolution = ROUTER.resolve(parse_address(recipient))
    assert decide_recipient(STRANGER, resolution).reply == stranger
    for facts in (LOGGED_IN, TRUSTED):
        assert decide_recipient(facts, resolution).reply == relayer


def test_a_domain_that_is_gone_says_so_to_all() -> None:
    resolution = ROUTER.resolve(parse_address("a@gone.test"))
    for facts in (STRANGER, LOGGED_IN):
        refusal = decide_recipient(facts, resolution).reply
        assert refusal is not None
        assert (refusal.code, refusal.status, refusal.text) == (550, "5.1.6", "moved away")


def test_a_decision_names_its_rule() -> None:
    elsewhere = ROUTER.resolve(parse_address("user@elsewhere.example"))
    assert "route 1" in decide_recipient(STRANGER, ROUTER.resolve(parse_address("demo@dev.test"))).rule
    assert decide_recipient(STRANGER, elsewhere).rule == "relaying denied"
    assert "authenticated" in decide_recipient(LOGGED_IN, elsewhere).rule
    assert "relay_networks" in decide_recipient(TRUSTED, elsewhere).rule


def test_what_nobody_can_tell_now_is_temporary() -> None:
    unknown = Resolution(Place.UNAVAILABLE, parse_address("a@dev.test"), "", "route 1: locked", reply.OUR_FAULT, True)
    assert decide_recipient(STRANGER, unknown).reply is reply.OUR_FAULT
    assert decide_recipient(STRANGER, replace(unknown, public=False)).reply is reply.RELAY_DENIED
