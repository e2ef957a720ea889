"""The address parser, case by case (RFC 5321 section 4.1.2, RFC 6531)."""

from __future__ import annotations

import pytest

from mta.mail.address import (
    NULL_PATH,
    Address,
    AddressError,
    normalise_peer,
    parse_address,
    parse_domain,
    parse_path,
    quote_local,
)


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("a@example.org", "a", "example.org"),
        ("First.Last@Example.ORG", "First.Last", "example.org"),
        ("a+b=c@x-y.example", "a+b=c", "x-y.example"),
        ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~", "example.org"),
        ('"a b"@example.org', "a b", "example.org"),
        ('"a\\"b\\\\c"@example.org', 'a"b\\c', "example.org"),
        ('"a@b"@example.org', "a@b", "example.org"),
        ('"plain"@example.org', "plain", "example.org"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPV6:2001:DB8:0::1]", "a", "[IPv6:2001:db8::1]"),
        ("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example"),
        ("a@x", "a", "x"),
        ("PostMaster", "PostMaster", ""),
        ("x" * 64 + "@example.org", "x" * 64, "example.org"),
    ],
)
def test_lawful_addresses(text: str, local: str, domain: str) -> None:
    assert Address(local, domain) == parse_address(text)


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("jürgen@example.org", "jürgen", "example.org"),
        ("a@bücher.example", "a", "xn--bcher-kva.example"),
        ("a@BÜCHER.example", "a", "xn--bcher-kva.example"),
        ("a@faß.example", "a", "xn--fa-hia.example"),
        ("a@ｅｘａｍｐｌｅ.org", "a", "example.org"),
        ("a@例え。テスト", "a", "xn--r8jz45g.xn--zckzah"),
        ('"ü b"@example.org', "ü b", "example.org"),
    ],
)
def test_internationalised_addresses(text: str, local: str, domain: str) -> None:
    assert Address(local, domain) == parse_address(text, utf8=True)
    with pytest.raises(AddressError, match="SMTPUTF8"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "@", "a@", "@b.example", "a@b@c.example", ".a@b.example", "a.@b.example", "a..b@c.example",
        "a b@c.example", "a@b c.example", "a@b..example", "a@.example", "a@example.", "a@-b.example", "a@b-.example",
        "a@" + "b" * 64 + ".example", "a@" + "b." * 126 + "abcde", "x" * 65 + "@example.org",
        '"a@example.org', '"a"b@example.org', 'a"b"@example.org', '""@example.org', '"a\\"@example.org',
        "a@[192.0.2.256]", "a@[192.0.2]", "a@[192.0.2.1", "a@192.0.2.1", "a@[IPv6:::1::]", "a@[2001:db8::1]", "a@[]",
        "a@[IPv6:fe80::1%eth0]", "a@[IPv6:fe80::1%x\"y z]", "a@1234", "a@b.1234", "a@xn--a-é", "a@xn--0", "a(b)@c.example", "a,b@c.example",
        "a@b.example,c@d.example", "<a@b.example>", "a\\@b.example", "a@b\0.example", "a\x1b@b.example", '"a\tb"@c.example',
        '"a\r\nb"@c.example', "a\x7f@b.example", '"\x7f"@b.example', "a\x85@b.example", "a\u202eb@c.example",
        "a@b\u2028.example", "\ufeffa@b.example", "\ud800@b.example", "a@b!c.example", "a@b%c.example", "a@b/c.example",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text, utf8=True)


def test_an_address_of_254_octets_is_the_longest() -> None:
    domain = ".".join(["b" * 63] * 2 + ["c" * 61])
    assert parse_address("x" * 64 + "@" + domain)
    with pytest.raises(AddressError, match="longer"):
        parse_address("x" * 64 + "@" + domain + "c")


def test_the_limit_of_the_local_part_counts_octets() -> None:
    assert parse_address("é" * 32 + "@example.org", utf8=True)
    with pytest.raises(AddressError, match="longer"):
        parse_address("é" * 33 + "@example.org", utf8=True)


@pytest.mark.parametrize(
    ("text", "address", "rest"),
    [
        ("<>", NULL_PATH, ""),
        ("<> SIZE=1", NULL_PATH, " SIZE=1"),
        ("<a@b.example>", Address("a", "b.example"), ""),
        ('<"a>b"@c.example> X', Address("a>b", "c.example"), " X"),
        ('<"a\\">b"@c.example>', Address('a">b', "c.example"), ""),
        ("<@x.example,@y.example:a@b.example>", Address("a", "b.example"), ""),
        ("<postmaster>", Address("postmaster", ""), ""),
        ("<a@b.example>>", Address("a", "b.example"), ">"),
    ],
)
def test_paths(text: str, address: Address, rest: str) -> None:
    assert (address, rest) == parse_path(text)


@pytest.mark.parametrize(
    "text",
    ["a@b.example", "<a@b.example", "<", "", '<"a@b.example>', "<@x.example>", "<@x.example,y.example:a@b.example>",
     "<@:a@b.example>", "<x.example:a@b.example>", "< a@b.example>", "<a@b.example >", "<<a@b.example>>",
     "<" + "@hop.example," * 25 + "@x.example:a@b.example>"],
)  # fmt: skip
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(AddressError):
        parse_path(text)


def test_what_an_address_says_of_itself() -> None:
    assert not NULL_PATH
    assert str(NULL_PATH) == ""
    assert Address("postmaster", "")
    assert str(Address("Postmaster", "")) == "Postmaster"
    assert Address("POSTmaster", "example.org").is_postmaster
    assert Address("a", "[192.0.2.1]").is_literal
    assert not Address("é", "example.org").is_ascii
    assert Address("a", "xn--bcher-kva.example").is_ascii


def test_local_parts_are_quoted_where_they_must_be() -> None:
    assert quote_local("a.b") == "a.b"
    assert quote_local("jürgen") == "jürgen"
    assert quote_local("a b") == '"a b"'
    assert quote_local('a"\\') == '"a\\"\\\\"'
    assert quote_local(".a") == '".a"'
    assert quote_local("a@b") == '"a@b"'


def test_a_hello_is_parsed_like_a_domain() -> None:
    assert parse_domain("MAIL.Example.org") == "mail.example.org"
    with pytest.raises(AddressError):
        parse_domain("mail_example org")


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
def test_a_peer_has_one_spelling(host: str, normal: str) -> None:
    assert normal == normalise_peer(host)
