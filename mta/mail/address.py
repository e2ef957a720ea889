"""Mailbox addresses: one parser, one parsed object (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

What is decided about an address (policy, routing, queue, delivery) is decided on the object made here, never on the text.
The local part is kept de-quoted; the domain in lower case with A-labels, so that two spellings of one domain are equal.
Nothing here knows whether an address exists.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

import idna

LOCAL_PART_LIMIT_OCTETS = 64  # RFC 5321 section 4.5.3.1.1
DOMAIN_LIMIT_OCTETS = 255  # RFC 5321 section 4.5.3.1.2
PATH_LIMIT_OCTETS = 256  # RFC 5321 section 4.5.3.1.3, with its angle brackets

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_STRING = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_DOT_STRING_UTF8 = re.compile(rf"[{_ATEXT}\u00a0-\U0010ffff]+(?:\.[{_ATEXT}\u00a0-\U0010ffff]+)*")
# RFC 5321 section 4.1.2: qtextSMTP and quoted-pairSMTP are printable ASCII; no control characters, whatever is quoted
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"')
_QUOTED_UTF8 = re.compile(r'"(?:[ !#-\[\]-~\u00a0-\U0010ffff]|\\[ -~])*"')
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_FAST = re.compile(
    rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@((?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)"
)
# U+2028, U+2029 and the bidi controls are legal UTF-8 but only ever deceive a reader of a log or a header.
_DECEPTIVE = re.compile("[\u0080-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")


class AddressError(ValueError):
    """The text is no lawful address; the message says why, in words a peer may read."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: de-quoted local part and normalised domain. The null reverse-path has neither and is false.

    `domain` is lower case with A-labels, a literal `[192.0.2.1]` / `[IPv6:...]`, or "" for `<postmaster>` alone
    (RFC 5321 section 4.5.1).
    """

    local: str
    domain: str

    def __bool__(self) -> bool:
        return bool(self.local or self.domain)

    def __str__(self) -> str:
        return _text(self.local, self.domain)

    @property
    def is_ascii(self) -> bool:
        """False when a hop must speak SMTPUTF8 for it (RFC 6531)."""
        return self.local.isascii() and self.domain.isascii()

    @property
    def is_literal(self) -> bool:
        return self.domain.startswith("[")

    @property
    def is_postmaster(self) -> bool:
        """RFC 5321 section 4.5.1: postmaster is reserved in every domain, in any case."""
        return self.local.lower() == "postmaster"


NULL_PATH = Address("", "")


@lru_cache(maxsize=4096)
def _text(local: str, domain: str) -> str:
    if not domain:
        return quote_local(local) if local else ""
    return quote_local(local) + "@" + domain


def quote_local(local: str) -> str:
    """The local part as it goes on the wire: bare where it may be, quoted where it must be."""
    if _DOT_STRING.fullmatch(local) or (not local.isascii() and _DOT_STRING_UTF8.fullmatch(local)):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=4096)
def parse_address(text: str, *, utf8: bool = False) -> Address:
    """Parse `local@domain` (or `postmaster` alone). Raises AddressError.

    `utf8`: the transaction declared SMTPUTF8, so non-ASCII is lawful (RFC 6531 section 3.3).
    """
    hit = _FAST.fullmatch(text)
    if hit is None or len(text) > PATH_LIMIT_OCTETS - 2 or len(hit[1]) > LOCAL_PART_LIMIT_OCTETS:
        return _parse_slowly(text, utf8)
    domain = hit[2]
    if "xn--" in domain or _too_long_label(domain) or domain.rpartition(".")[2].isdigit():
        return _parse_slowly(text, utf8)
    return Address(hit[1], domain)


def _parse_slowly(text: str, utf8: bool) -> Address:
    if not text:
        raise AddressError("an empty address")
    if not utf8 and not text.isascii():
        raise AddressError("a non-ASCII address needs SMTPUTF8")
    if _DECEPTIVE.search(text):
        raise AddressError("control characters in the address")
    local, rest = _take_local(text, utf8)
    if len(local.encode("utf-8", "surrogatepass")) > LOCAL_PART_LIMIT_OCTETS:
        raise AddressError(f"the local part is longer than {LOCAL_PART_LIMIT_OCTETS} octets")
    if not local:
        raise AddressError("the local part is empty")
    if not rest:
        if local.lower() == "postmaster":  # RFC 5321 section 4.1.1.3
            return Address(local, "")
        raise AddressError("the address has no domain")
    if not rest.startswith("@"):
        raise AddressError("malformed local part")
    address = Address(local, parse_domain(rest[1:], utf8=utf8))
    if len(str(address).encode()) > PATH_LIMIT_OCTETS - 2:
        raise AddressError(f"the address is longer than {PATH_LIMIT_OCTETS} octets")
    return address


def _take_local(text: str, utf8: bool) -> tuple[str, str]:
    """De-quoted local part, and what stands behind it."""
    if text.startswith('"'):
        hit = (_QUOTED_UTF8 if utf8 else _QUOTED).match(text)
        if hit is None:
            raise AddressError("malformed quoted local part")
        return re.sub(r"\\(.)", r"\1", hit[0][1:-1]), text[hit.end() :]
    hit = (_DOT_STRING_UTF8 if utf8 else _DOT_STRING).match(text)
    if hit is None:
        raise AddressError("malformed local part")
    return hit[0], text[hit.end() :]


def parse_domain(text: str, *, utf8: bool = False) -> str:
    """The domain normalised: lower case, A-labels (UTS 46), or a checked address literal. Raises AddressError."""
    if text.startswith("["):
        return _parse_literal(text)
    if not text:
        raise AddressError("the domain is empty")
    if not text.isascii():
        if not utf8:
            raise AddressError("a non-ASCII domain needs SMTPUTF8")
        try:
            text = idna.encode(text, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise AddressError("the domain is no valid internationalised name") from error
    domain = text.lower()
    labels = domain.split(".")
    if len(domain) > DOMAIN_LIMIT_OCTETS or any(len(label) > 63 or not _LABEL.fullmatch(label) for label in labels):
        raise AddressError("malformed domain")
    if labels[-1].isdigit():  # RFC 3696 section 2: an address without brackets is no domain
        raise AddressError("malformed domain: an IP address needs brackets")
    for label in labels:
        if label.startswith("xn--"):
            try:
                idna.ulabel(label)
            except (idna.IDNAError, UnicodeError) as error:
                raise AddressError("the domain has a malformed A-label") from error
    return domain


def _parse_literal(text: str) -> str:
    """RFC 5321 section 4.1.3."""
    if not text.endswith("]"):
        raise AddressError("malformed address literal")
    inner = text[1:-1]
    if "%" in inner:  # ipaddress takes a zone, and any text as its name
        raise AddressError("malformed address literal")
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError as error:
        raise AddressError("malformed address literal") from error


def _too_long_label(domain: str) -> bool:
    return len(domain) > 63 and (len(domain) > DOMAIN_LIMIT_OCTETS or any(len(x) > 63 for x in domain.split(".")))


def parse_path(text: str, *, utf8: bool = False) -> tuple[Address, str]:
    """Parse `<...>` at the start of `text`: the address and what follows the path. Raises AddressError.

    A source route is dropped (RFC 5321 appendix C); `<>` gives NULL_PATH. The end of the path is found outside
    quotes, so `<"a>b"@example.org>` is one path.
    """
    if not text.startswith("<"):
        raise AddressError("the path needs angle brackets")
    end = text.find(">")
    if '"' in text[:end]:
        end = _end_of_path(text)
    if end < 0:
        raise AddressError("the path has no closing angle bracket")
    inner, rest = text[1:end], text[end + 1 :]
    if not inner:
        return NULL_PATH, rest
    if inner.startswith("@"):
        if len(text[: end + 1].encode("utf-8", "surrogatepass")) > PATH_LIMIT_OCTETS:
            raise AddressError(f"the path is longer than {PATH_LIMIT_OCTETS} octets")
        route, colon, inner = inner.partition(":")
        if not colon:
            raise AddressError("malformed source route")
        for hop in route.split(","):
            parse_domain(hop[1:] if hop.startswith("@") else "", utf8=utf8)
    return parse_address(inner, utf8=utf8), rest


def _end_of_path(text: str) -> int:
    quoted = False
    position = 1
    while position < len(text):
        character = text[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            return position
        position += 1
    return -1


def normalise_peer(host: str) -> str:
    """A peer's address in one spelling: IPv4 in IPv6 becomes IPv4, a zone is dropped (law 11)."""
    if ":" not in host:
        return host
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
