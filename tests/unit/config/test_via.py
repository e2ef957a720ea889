"""`via`, whatever stands in it: a way out, or a ViaError that says why."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from mta.config.via import ViaError, parse_via

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


@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
def test_anything_is_a_way_out_or_is_told_to_be_none(text: str) -> None:
    with contextlib.suppress(ViaError):
        via = parse_via(text)
        assert via.target.startswith(via.way.value) or not via.target
