"""Which hosts take mail for a domain, and in what order (RFC 5321 section 5.1). The only asynchronous thing here is asking.

What an answer means: a name that does not exist fails its recipients, silence never does. An MX that points at this host, at
loopback or at nothing is a loop or an attack, and is left out; so are hosts no better than ourselves when we are listed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from mta.dns.resolver import Answer, MailExchanger, NoData, NoSuchName, Resolver, Temporary
from mta.mail.address import AddressError, normalise_peer, parse_domain
from mta.mail.outcome import Deferred, Failed

ADDRESSES_LIMIT = 5  # SAFETY: MX tries; Postfix smtp_mx_address_limit
HOSTS_ASKED_LIMIT = 10  # a domain with a hundred MX records costs no hundred questions


class Shuffles(Protocol):
    """What random.Random offers and this module needs."""

    def shuffle(self, x: list[MailExchanger], /) -> None: ...


@dataclass(frozen=True, slots=True)
class Host:
    """An address to try. `name` is the host's name, or the literal as the destination had it."""

    name: str
    address: str


Hosts = tuple[Host, ...]


@dataclass(frozen=True, slots=True)
class Ourselves:
    """How this host is known, so that it does not send to itself. `addresses` normalised; `loopback`: test only."""

    name: str
    addresses: Collection[str] = ()
    allow_loopback: bool = False

    def owns(self, address: str) -> bool:
        found = ipaddress.ip_address(normalise_peer(address))
        if self.allow_loopback:
            return False
        return found.is_loopback or found.is_unspecified or str(found) in self.addresses


NOBODY = Ourselves("")


def in_order(exchangers: Sequence[MailExchanger], random: Shuffles) -> list[MailExchanger]:
    """By preference, equals shuffled (RFC 5321 section 5.1); names that are no host names are left out."""
    lawful = [each for each in exchangers if _is_host(each.host)]
    random.shuffle(lawful)
    return sorted(lawful, key=lambda each: each.preference)


def _is_host(name: str) -> bool:
    try:
        return parse_domain(name) == name and not name.startswith("[")
    except AddressError:
        return False


def literal_address(domain: str) -> str:
    """The address in `[192.0.2.1]` or `[IPv6:...]` (RFC 5321 section 4.1.3), or ""."""
    return domain[1:-1].removeprefix("IPv6:") if domain.startswith("[") else ""


async def hosts_of_domain(
    domain: str, resolver: Resolver, random: Shuffles, ourselves: Ourselves
) -> Hosts | Deferred | Failed:
    """The addresses to try for `domain`, best first."""
    literal = literal_address(domain)
    if literal:
        return (Host(domain, literal),) if not ourselves.owns(literal) else _loop(domain)
    answer = await resolver.mx(domain)
    match answer:
        case Temporary(text):
            return Deferred(0, "4.4.3", f"MX of {domain}: {text}")
        case NoSuchName():
            return Failed(0, "5.1.2", f"the domain {domain} does not exist")
        case NoData():
            exchangers = [MailExchanger(0, domain)]  # RFC 5321 section 5.1: the implicit MX
        case Answer(records):
            if all(not each.host for each in records):  # RFC 7505 section 3
                return Failed(556, "5.1.10", f"the domain {domain} accepts no mail (null MX)")
            exchangers = in_order(records, random)
            own = [each.preference for each in exchangers if each.host == ourselves.name]
            if own and not ourselves.allow_loopback:
                exchangers = [each for each in exchangers if each.preference < min(own)]
                if not exchangers:
                    return _loop(domain)
    return await _addresses(domain, exchangers[:HOSTS_ASKED_LIMIT], resolver, ourselves.owns)


async def hosts_of_name(name: str, resolver: Resolver) -> Hosts | Deferred | Failed:
    """The addresses of one host that the configuration names (no MX). It is the administrator's: it never fails mail."""
    try:
        return (Host(name, str(ipaddress.ip_address(name))),)
    except ValueError:
        pass
    answer = await resolver.addresses(name)
    match answer:
        case Answer(records):
            return tuple(Host(name, address) for address in records[:ADDRESSES_LIMIT])
        case Temporary(text):
            return Deferred(0, "4.4.3", f"addresses of {name}: {text}")
    return Deferred(0, "4.4.4", f"the next hop {name} has no address")


async def _addresses(
    domain: str, exchangers: Sequence[MailExchanger], resolver: Resolver, owns: Callable[[str], bool]
) -> Hosts | Deferred | Failed:
    found: list[Host] = []
    unknown = ""
    looping = False
    for each in exchangers:
        answer = await resolver.addresses(each.host)
        if isinstance(answer, Answer):
            for address in answer.records:
                if owns(address):
                    looping = True
                else:
                    found.append(Host(each.host, address))
        elif isinstance(answer, Temporary):
            unknown = unknown or f"addresses of {each.host}: {answer.text}"
        if len(found) >= ADDRESSES_LIMIT:
            break
    if found:
        return tuple(found[:ADDRESSES_LIMIT])
    if unknown:  # SAFETY 3.8: one host that nobody knows about keeps hope
        return Deferred(0, "4.4.3", unknown)
    if looping:
        return _loop(domain)
    return Failed(0, "5.4.4", f"no mail host of {domain} has an address")


def _loop(domain: str) -> Failed:
    return Failed(0, "5.4.6", f"mail for {domain} loops back to this host")
