"""A smart host with a password: its refusals speak of us, and never of the message."""

from __future__ import annotations

from typing import Any

import pytest

from mta.testing.real_house import RealHouse
from mta.testing.remote_host import EXTENSIONS, Answer, Turns
from mta.testing.reports import reports_in
from mta.testing.simulated_house import SimulatedHouse
from mta.testing.simulated_node import SimulatedNode

SMART = "smart.example.net"
OFFERS = (*EXTENSIONS, "AUTH PLAIN LOGIN")
TAKEN = "235 2.7.0 welcome"
CREDENTIAL = {"host": SMART, "user": "us", "password": "secret"}


def furnish(house: SimulatedHouse, script: dict[str, Answer], *, tls: bool = True, **credential: Any) -> SimulatedNode:
    """Everything that is not ours goes to the smart host, with our login."""
    house.peer(SMART, script, tls=tls, extensions=OFFERS, port=587)
    return house.txmta(
        "hub.test",
        routes=[{"domains": ["*"], "via": f"smtp:[{SMART}]:587"}],
        credential=[CREDENTIAL | credential],
    )


def test_mail_goes_by_the_smart_host_with_a_login_over_tls(simulated_house: SimulatedHouse) -> None:
    hub = furnish(simulated_house, {"AUTH": TAKEN})
    hub.submit("user@hub.test", ["alice@example.com"])
    simulated_house.advance(minutes=1)
    (message,) = simulated_house.peers[SMART].messages
    assert message.tls
    assert any(each.startswith("AUTH PLAIN ") for each in simulated_house.peers[SMART].commands)


@pytest.mark.parametrize(
    "refusal", ["535 5.7.8 wrong password", "454 4.7.0 later", "534 5.7.9 too weak", "538 5.7.11 encrypt"]
)
def test_a_smart_host_that_refuses_our_login_fails_nobody(simulated_house: SimulatedHouse, refusal: str) -> None:
    house = simulated_house
    hub = furnish(house, {"AUTH": refusal})
    identifier = hub.submit("user@hub.test", ["alice@example.com", "bob@example.org"])
    house.advance(hours=3)
    assert set(hub.states(identifier).values()) == {"queued"}
    assert hub.mailbox("user@hub.test") == []
    peer = house.peers[SMART]
    assert peer.messages == []
    assert not any(each.startswith("MAIL") for each in peer.commands)
    last = hub.why(identifier)["entries"][-1]["data"]["tries"][-1]
    assert last["phase"] == "AUTH"
    assert last["reply"] == refusal  # with the enhanced status that the host gave it, not that of our deferral

    peer.script = {"AUTH": TAKEN}
    house.advance(hours=1.3)
    assert set(hub.states(identifier).values()) == {"relayed"}


def test_a_refused_login_fails_nobody_in_a_real_house_either(house: SimulatedHouse | RealHouse) -> None:
    """Without TLS, as a real house's neighbours have none: then only a mechanism that tells no password is used."""
    peer = house.peer(SMART, {"AUTH": "535 5.7.8 wrong password"}, extensions=(*EXTENSIONS, "AUTH PLAIN SCRAM-SHA-256"))
    credential = CREDENTIAL | {"require_verified_tls": False, "mechanisms": ["SCRAM-SHA-256", "PLAIN"]}
    routes = [{"domains": ["*"], "via": f"smtp:[{SMART}]:25"}]
    hub = house.txmta("hub.test", routes=routes, credential=[credential])
    identifier = hub.submit("user@hub.test", ["alice@example.com"])
    house.until("two attempts", lambda: len(hub.attempts(identifier)) >= 2, hours=1)
    assert hub.states(identifier) == {"alice@example.com": "queued"}
    assert hub.mailbox("user@hub.test") == []
    assert {each.partition(" ")[0] for each in peer.commands} <= {"EHLO", "AUTH", "QUIT"}
    assert not any("PLAIN" in each for each in peer.commands)


def test_a_login_that_is_refused_for_five_days_is_told_as_a_failure_of_time(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub = furnish(house, {"AUTH": "535 5.7.8 wrong password"})
    hub.submit("user@hub.test", ["alice@example.com"])
    house.advance(days=6)
    assert [report.fates["alice@example.com"][0] for report in reports_in(hub.mailbox("user@hub.test"))] == [
        "delayed",
        "failed",
    ]


def test_a_password_is_not_told_in_clear_text_nor_to_a_stranger(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub = furnish(house, {"AUTH": TAKEN}, tls=False)
    identifier = hub.submit("user@hub.test", ["alice@example.com"])
    house.advance(hours=1)
    assert set(hub.states(identifier).values()) == {"queued"}
    assert not any(each.startswith("AUTH") for each in house.peers[SMART].commands)


def test_after_a_login_each_word_about_a_recipient_counts(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub = furnish(house, {"AUTH": Turns("454 4.7.0 later", TAKEN), "RCPT TO:<bad@": "550 5.1.1 nobody"})
    identifier = hub.submit("user@hub.test", ["bad@example.com", "alice@example.org"])
    house.advance(hours=1)
    assert hub.states(identifier) == {"bad@example.com": "failed", "alice@example.org": "relayed"}
