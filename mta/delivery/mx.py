"""Which hosts take mail for a domain, and in what order (RFC 5321 section 5.1). The only asynchronous thing here is asking.

Two steps, because the first alone names the site that a domain's mail goes to (`site_key`): which exchangers, and their addresses.

What an answer means: a name that does not exist fails its recipients; silence, SERVFAIL and what is ours never do. An MX that points
at loopback or at nothing is an attack or a mistake, and is passed over. One that points at this host, by its name or by an address, is
this host: of the exchangers only those that are better are tried, or mail would go in a circle. Explicit routes (`hosts_of_name`) are
the administrator's word and are not held against any of this.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Protocol

from twisted.internet import defer

from mta.dns.resolver import AddressAnswer, Answer, MailExchanger, NoData, NoSuchName, Resolver, Soon, Temporary
from mta.mail.address import AddressError, normalise_peer, parse_domain
from mta.mail.outcome import Deferred, Failed

ADDRESSES_LIMIT = 5  # SAFETY: MX tries; Postfix smtp_mx_address_limit
HOSTS_ASKED_LIMIT = 10  # a domain with a hundred MX records costs no hundred questions
SITE_LIMIT_OCTETS = 255  # longer keys are hashed: a site's name is stored and shown

Family = Literal["ipv4-first", "ipv6-first", "alternate", "ipv4", "ipv6"]


class Shuffles(Protocol):
    """What random.Random offers and this module needs."""

    def shuffle(self, x: list[Any], /) -> None: ...


@dataclass(frozen=True, slots=True)
class Host:
    """An address to try. `name` is the host's name, or the literal as the destination had it."""

    name: str
    address: str


Hosts = tuple[Host, ...]
Exchangers = tuple[MailExchanger, ...]


@dataclass(frozen=True, slots=True)
class Ourselves:
    """How this host is known, so that it does not send to itself. `addresses` normalised; `allow_loopback`: test only."""

    name: str
    addresses: Collection[str] = ()
    allow_loopback: bool = False

    def owns(self, address: str) -> bool:
        """Does a connection to it end here? (Never, where a test allows loopback.)"""
        return self.is_loopback(address) or self.is_own(address)

    def is_loopback(self, address: str) -> bool:
        """127.0.0.0/8, ::1, 0.0.0.0, ::, and the same as IPv4 in IPv6: no host of the world, whoever names it."""
        found = ipaddress.ip_address(normalise_peer(address))
        return (found.is_loopback or found.is_unspecified) and not self.allow_loopback

    def is_own(self, address: str) -> bool:
        return normalise_peer(address) in self.addresses and not self.allow_loopback


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


def site_key(exchangers: Sequence[MailExchanger]) -> str:
    """A stable text that names the best exchangers: all domains with the same ones are one site. "" for none.

    Their order and the backup exchangers have no part in it, so it is the same for each domain of a provider, and each time. Nor have
    names that are no host names: a key is stored and shown, and nobody may write another site's.
    """
    lawful = [each for each in exchangers if literal_address(each.host) or _is_host(each.host)]
    best = min((each.preference for each in lawful), default=0)
    key = ",".join(sorted({each.host for each in lawful if each.preference == best}))
    if len(key) <= SITE_LIMIT_OCTETS:
        return key
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


async def hosts_of_domain(
    domain: str, resolver: Resolver, random: Shuffles, ourselves: Ourselves, family: Family = "ipv4-first"
) -> Hosts | Deferred | Failed:
    """The addresses to try for `domain`, best first: both steps in one."""
    exchangers = await exchangers_of_domain(domain, resolver, random, ourselves)
    if not isinstance(exchangers, tuple):
        return exchangers
    return await hosts_of_exchangers(domain, exchangers, resolver, random, ourselves, family)


async def exchangers_of_domain(
    domain: str, resolver: Resolver, random: Shuffles, ourselves: Ourselves
) -> Exchangers | Deferred | Failed:
    """The exchangers of `domain`, best first, equals in random order; none that is no better than this host. A literal is its own."""
    if domain.startswith("["):
        return (MailExchanger(0, domain),)
    if not domain.isascii():  # RFC 5891 section 4.4: names are looked up as A-labels
        try:
            domain = parse_domain(domain, utf8=True)
        except AddressError as error:
            return Failed(0, "5.1.2", f"no such domain: {error}")
    asked = resolver.mx(domain)
    answer = await asked if isinstance(asked, defer.Deferred) else asked
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
    return _better_than(ourselves.name, exchangers, domain) if not ourselves.allow_loopback else tuple(exchangers)


def _better_than(name: str, exchangers: Sequence[MailExchanger], domain: str) -> Exchangers | Failed:
    """RFC 5321 section 5.1: when the relay itself is listed, it and all that are no better are discarded."""
    own = min((each.preference for each in exchangers if each.host == name), default=None)
    if own is None:
        return tuple(exchangers)
    return tuple(each for each in exchangers if each.preference < own) or _loop(domain)


async def hosts_of_exchangers(
    domain: str,
    exchangers: Exchangers,
    resolver: Resolver,
    random: Shuffles,
    ourselves: Ourselves,
    family: Family = "ipv4-first",
) -> Hosts | Deferred | Failed:
    """The addresses of the exchangers of `domain` (which are in order), best first, at most ADDRESSES_LIMIT."""
    asking = [(each, _addresses(each.host, resolver)) for each in exchangers[:HOSTS_ASKED_LIMIT]]
    known = [
        (each, await answer if isinstance(answer, defer.Deferred) else answer)
        for each, answer in asking  # all were asked at once: an outage costs one time-out, not ten
    ]
    return _judge(domain, known, random, ourselves, family, complete=len(known) == len(exchangers))


def _addresses(host: str, resolver: Resolver) -> Soon[AddressAnswer]:
    literal = literal_address(host)
    return Answer((literal,)) if literal else resolver.addresses(host)


def _judge(
    domain: str,
    known: Sequence[tuple[MailExchanger, AddressAnswer]],
    random: Shuffles,
    ourselves: Ourselves,
    family: Family,
    *,
    complete: bool,
) -> Hosts | Deferred | Failed:
    """What the answers come to. Only if all of them are known, and none has a good address, do recipients fail."""
    own = min((each.preference for each, answer in known if _any(answer, ourselves.is_own)), default=None)
    better = known if own is None else [(each, answer) for each, answer in known if each.preference < own]
    hosts: list[Host] = []
    honest = False
    for _, level in groupby(better, key=lambda pair: pair[0].preference):
        equals: list[Host] = []
        for each, answer in level:
            good = [one for one in _records(answer) if not ourselves.is_loopback(one)]
            honest = honest or bool(good)
            random.shuffle(good)  # a host of many addresses shares the load among them
            equals += [Host(each.host, address) for address in good if _allowed(address, family)]
        hosts += _by_family(equals, family)
    if hosts:
        return _both_families(hosts)
    for each, answer in better:  # SAFETY 3.8: one host that nobody knows about keeps hope
        if isinstance(answer, Temporary):
            return Deferred(0, "4.4.3", f"addresses of {each.host}: {answer.text}")
    if honest:  # our policy, not their fault
        return Deferred(0, "4.4.4", f"mail hosts of {domain} have no address that outbound.family ({family}) allows")
    if own is not None:
        return _loop(domain)
    if not complete:
        return Deferred(0, "4.4.4", f"the first {len(known)} mail hosts of {domain} have no address")
    if any(_any(answer, ourselves.is_loopback) for _, answer in known):
        return _loop(domain)
    return Failed(0, "5.4.4", f"no mail host of {domain} has an address")


def _records(answer: AddressAnswer) -> tuple[str, ...]:
    return answer.records if isinstance(answer, Answer) else ()


def _any(answer: AddressAnswer, test: Callable[[str], bool]) -> bool:
    return any(map(test, _records(answer)))


def _allowed(address: str, family: Family) -> bool:
    return family not in {"ipv4", "ipv6"} or (":" in address) == (family == "ipv6")


def _by_family(hosts: Sequence[Host], family: Family) -> list[Host]:
    """Those of one preference in the order of the policy; each family keeps its own order."""
    six = [host for host in hosts if ":" in host.address]
    four = [host for host in hosts if ":" not in host.address]
    if family != "alternate":
        return six + four if family == "ipv6-first" else four + six
    pairs = [each for pair in zip(six, four, strict=False) for each in pair]
    return pairs + six[len(four) :] + four[len(six) :]


def _both_families(hosts: Sequence[Host]) -> Hosts:
    """The first ADDRESSES_LIMIT; but when all are of one family, the best of the other is the last: one of both may be broken."""
    first, rest = tuple(hosts[:ADDRESSES_LIMIT]), hosts[ADDRESSES_LIMIT:]
    six = ":" in first[0].address
    if any((":" in host.address) != six for host in first):
        return first
    other = next((host for host in rest if (":" in host.address) != six), None)
    return first if other is None else (*first[:-1], other)


async def hosts_of_name(
    name: str, resolver: Resolver, family: Family = "ipv4-first", random: Shuffles | None = None
) -> Hosts | Deferred | Failed:
    """The addresses of one host that the configuration names (no MX). It is the administrator's: it never fails mail.

    With `random` the load is shared among the addresses of each family.
    """
    try:
        return (Host(name, str(ipaddress.ip_address(name))),)
    except ValueError:
        pass
    asked = resolver.addresses(name)
    answer = await asked if isinstance(asked, defer.Deferred) else asked
    match answer:
        case Answer(records):
            hosts = [Host(name, address) for address in records if _allowed(address, family)]
            if random is not None:
                random.shuffle(hosts)
            hosts = _by_family(hosts, family)
            if hosts:
                return _both_families(hosts)
            return Deferred(0, "4.4.4", f"the next hop {name} has no address that outbound.family ({family}) allows")
        case Temporary(text):
            return Deferred(0, "4.4.3", f"addresses of {name}: {text}")
    return Deferred(0, "4.4.4", f"the next hop {name} has no address")


def _loop(domain: str) -> Failed:
    return Failed(0, "5.4.6", f"mail for {domain} loops back to this host")
