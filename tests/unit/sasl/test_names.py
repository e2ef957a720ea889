"""From a login to a user, from an address to a user."""

from __future__ import annotations

import pytest

from mta.mail.address import parse_address
from mta.sasl.names import BadName, user_name, user_of, without_tag


@pytest.mark.parametrize(
    ("login", "user"),
    [
        ("demo", "demo@dev.test"),
        ("Demo", "demo@dev.test"),
        ("demo@Example.ORG", "demo@example.org"),
        ("zoe\u0308", "zo\u00eb@dev.test"),
        ("demo@b\u00fccher.example", "demo@xn--bcher-kva.example"),
    ],
)
def test_all_spellings_of_a_login_are_one_user(login, user):
    assert user == user_name(login, "dev.test")


@pytest.mark.parametrize(
    "login", ["", "a b", "a@b@c", "a@", "@dev.test", "a@[192.0.2.1]", "a\x00b", "a\u200eb", "x" * 65]
)
def test_what_can_be_no_user_is_refused(login):
    with pytest.raises(BadName):
        user_name(login, "dev.test")


def test_an_address_is_its_user_s_whatever_its_case_or_normal_form():
    assert user_of(parse_address("Demo@DEV.test")) == "demo@dev.test"
    assert user_of(parse_address("zoe\u0308@dev.test", utf8=True)) == "zo\u00eb@dev.test"


def test_a_tag_is_taken_off_once_and_only_where_a_user_is_left():
    assert without_tag("demo+lists+a@dev.test") == "demo@dev.test"
    assert without_tag("demo@dev.test") == ""
    assert without_tag("+tag@dev.test") == ""
