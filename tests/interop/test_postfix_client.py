"""A Postfix that hands its mail to us: the client most of the world uses."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.testing.open_house import OpenHouse
from mta.testing.postfix import PrivatePostfix, missing

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]

MESSAGES = 20


@pytest.fixture(scope="module")
def postfix(house: OpenHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostfix]:
    hop = f"[127.0.0.1]:{house.daemon.mx}"
    settings = {
        "relayhost": hop,
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "smtp_tls_CAfile": str(house.authority),
        "smtp_tls_loglevel": "1",
        "smtp_tls_policy_maps": f"inline:{{ {{ {hop} = verify match=mail.dev.test }} }}",
    }
    with PrivatePostfix(tmp_path_factory.mktemp("postfix"), settings=settings) as running:
        yield running


def _hand_over(postfix: PrivatePostfix, letter: bytes, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", postfix.port) as client:
        client.sendmail("sender@d.example", recipients, letter, ["BODY=8BITMIME"])


def test_postfix_relays_through_us_over_verified_tls(house: OpenHouse, postfix: PrivatePostfix) -> None:
    letter = house.letter("postfix")
    for _ in range(MESSAGES):
        _hand_over(postfix, letter, "postfix@dev.test")
    messages = house.arrived("postfix", MESSAGES)
    assert len(messages) == MESSAGES
    assert all(message.endswith(letter) for message in messages)
    assert all(b" with ESMTPS id " in message for message in messages)
    postfix.wait_for_log(r"Verified TLS connection established to 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: TLSv1\.3")
    postfix.wait_for_log(r"dsn=2\.0\.0, status=sent \(250 2\.0\.0 Ok: queued as [0-9A-Z]{13}\)")


def test_each_recipient_of_postfix_gets_its_own_answer(house: OpenHouse, postfix: PrivatePostfix) -> None:
    _hand_over(postfix, house.letter("postfix-one"), "postfix-one@dev.test", "nobody@elsewhere.example")
    assert house.arrived("postfix-one")[0].endswith(house.letter("postfix-one"))
    postfix.wait_for_log(r"to=<nobody@elsewhere\.example>.*dsn=5\.7\.1, status=bounced .*Relaying denied")


def test_a_message_over_the_size_limit_is_bounced_by_postfix(house: OpenHouse, postfix: PrivatePostfix) -> None:
    """Ours takes 25 MiB at most, and says so by SIZE."""
    postfix_limit = {"message_size_limit": str(64 << 20), "virtual_mailbox_limit": "0"}
    hop = {**postfix.settings, **postfix_limit}
    with PrivatePostfix(postfix.directory / "large", settings=hop) as large:
        letter = house.letter("postfix-large") + (b"y" * 78 + b"\r\n") * (26 << 20 >> 6)
        _hand_over(large, letter, "postfix-large@dev.test")
        large.wait_for_log(r"to=<postfix-large@dev\.test>.*dsn=5\.3\.4, status=bounced")
    assert house.daemon.mailbox("postfix-large") == []


def test_postfix_leaves_nothing_in_its_queue(house: OpenHouse, postfix: PrivatePostfix, tmp_path: Path) -> None:
    _hand_over(postfix, house.letter("postfix-last"), "postfix-last@dev.test")
    house.arrived("postfix-last")
    postfix.wait_for_log(r"to=<postfix-last@dev\.test>.*status=sent")
    assert not [line for line in postfix.queue() if "postfix-last" in line]
