"""`via`: the check knows the ways that the router knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.ways import via_problem
from mta.routing.via import ViaError, parse_via

PIECES = [
    "maildir:",
    "smtp:",
    "mx",
    "discard",
    "error:",
    "lmtp:",
    "[",
    "]",
    ":",
    "25",
    "0",
    "65536",
    "127.0.0.1",
    "::1",
]
PIECES += [
    "host.example.org",
    "-x",
    "münchen.example",
    "{local}",
    "{domain}",
    "{user}",
    "{",
    "}",
    "/var/mail/",
    " ",
    "\n",
]
PIECES += ["5.1.1", "4.0", "6.1.1", "No", "\t"]


def routing_takes(via: str) -> bool:
    try:
        parse_via(via)
    except ViaError:
        return False
    return True


WAYS = [
    "mx",
    "discard",
    "maildir:/var/mail/{domain}/{local}",
    "maildir:x{}",
    "smtp:[10.0.0.5]:25",
    "smtp:[2001:db8::1]",
    "smtp:[münchen.example]",
    "smtp:[a.example]:0",
    "error:5.1.1 No such user",
    "error:4.3.2",
    "error: 5.1.1 x",
    "error:5.1.1No",
    "mx:",
    "MX",
    "",
    "",
]


@pytest.mark.parametrize("via", WAYS)
def test_the_check_agrees_with_the_router(via: str) -> None:
    assert routing_takes(via) == (not via_problem(via)[0])


@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
def test_the_check_agrees_with_the_router_on_anything(via: str) -> None:
    assert routing_takes(via) == (not via_problem(via)[0])
