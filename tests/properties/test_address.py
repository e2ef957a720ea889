"""Addresses: what was parsed and printed parses to the same; hostile text gives an AddressError and nothing else, soon."""

from __future__ import annotations

import contextlib
import os
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mta.mail.address import Address, AddressError, parse_address, parse_domain, parse_path

EXAMPLES = 5000 if os.environ.get("MTA_LONG") else 400

ATEXT = "abcXYZ019!#$%&'*+-/=?^_`{|}~"
WORDS = st.text(ATEXT, min_size=1, max_size=12)
DOTTED = st.lists(WORDS, min_size=1, max_size=4).map(".".join)
QUOTED = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
UNICODE_LOCAL = st.text(st.sampled_from('aé日本ñ. "\\@>'), min_size=1, max_size=12)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda x: x[2:4] != "--")
DOMAINS = st.one_of(
    st.tuples(st.lists(LABELS, min_size=1, max_size=3), st.sampled_from(["example", "test", "xn--bcher-kva"])).map(
        lambda both: ".".join([*both[0], both[1]])
    ),
    st.ip_addresses(v=4).map(lambda ip: f"[{ip}]"),
    st.ip_addresses(v=6).map(lambda ip: f"[IPv6:{ip}]"),
)
# What an attacker would put together: delimiters, quotes, controls, look-alikes, and lawful pieces between them.
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(
            ["@", "<", ">", '"', "\\", ".", "..", "[", "]", ":", ",", "%", "!", "|", "/", " ", "\0", "\r\n", "\x1b", "\x7f",
             "\u202e", "\u0085", "＠", "。", "ß", "\u00ad", "xn--", "xn--a", "-", "IPv6:", "127.0.0.1", "::1", "[IPv6:fe80::1%", "]", "a", "é",
             "postmaster", "example.org", "(x)", "\ud800", "\U000e0001", "a" * 70, "b." * 140]
        ),
        st.text(max_size=5),
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None)
@given(local=st.one_of(DOTTED, QUOTED, UNICODE_LOCAL), domain=DOMAINS)
def test_an_address_printed_and_parsed_is_the_same(local: str, domain: str) -> None:
    address = Address(local, domain)
    assert parse_address(str(address), utf8=True) == address
    assert parse_path(f"<{address}> SIZE=1", utf8=True) == (address, " SIZE=1")


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=HOSTILE, utf8=st.booleans())
@example("a@" + "\u0301" * 3, True)
@example("a@xn--", True)
@example('"\\"@example.org', False)
def test_hostile_text_is_an_address_error_or_a_lasting_address(text: str, utf8: bool) -> None:
    try:
        address = parse_address(text, utf8=utf8)
    except AddressError:
        return
    assert parse_address(str(address), utf8=True) == address
    assert address.domain == address.domain.lower() or address.is_literal
    assert address.domain.isascii()
    assert len(str(address).encode()) <= 254
    assert not any(character < " " or character == "\x7f" for character in str(address))
    assert utf8 or address.is_ascii


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=HOSTILE, utf8=st.booleans())
def test_hostile_paths_raise_nothing_else_and_keep_what_follows(text: str, utf8: bool) -> None:
    try:
        address, rest = parse_path("<" + text, utf8=utf8)
    except AddressError:
        return
    assert ("<" + text).endswith(rest)
    assert not address or parse_address(str(address), utf8=True) == address


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=HOSTILE)
def test_a_domain_is_normalised_once_and_for_all(text: str) -> None:
    try:
        domain = parse_domain(text, utf8=True)
    except AddressError:
        return
    assert parse_domain(domain) == domain
    assert parse_domain(domain.upper().replace("IPV6:", "IPv6:")) == domain


LONG = {
    "one label": lambda n: "a@" + "b" * n,
    "labels": lambda n: "a@" + "b." * n + "c",
    "labels and a bad end": lambda n: "a@" + "b-" * n + "!",
    "local": lambda n: "a" * n + "@example.org",
    "dots": lambda n: "a." * n + "@example.org",
    "no domain": lambda n: "a.b" * n,
    "quotes": lambda n: '"' + "\\" * n + '"@example.org',
    "open quote": lambda n: '"' + "a" * n,
    "at signs": lambda n: "@" * n,
    "unicode": lambda n: "é" * n + "@example.org",
    "unicode labels": lambda n: "a@" + "é." * n + "example",
    "one unicode label": lambda n: "a@" + "é" * n + ".example",
    "literal": lambda n: "a@[" + "1." * n + "]",
    "source route": lambda n: "@a," * n + "@b:c@d.example",
    "hyphens": lambda n: "a@" + "-" * n + "." + "a-" * n,
}


@pytest.mark.parametrize("shape", LONG)
def test_long_input_takes_time_in_proportion(shape: str) -> None:
    """Sixteen times the length may not take sixty-four times as long, nor a second."""

    def seconds(n: int) -> float:
        text = LONG[shape](n)
        best = 9.0
        for _ in range(5):
            began = time.perf_counter()
            with contextlib.suppress(AddressError):
                parse_path(f"<{text}>", utf8=True)
            best = min(best, time.perf_counter() - began)
        return best

    short, long = seconds(2_000), seconds(32_000)
    assert long < 1.0
    assert long < 64 * max(short, 0.0002)
