"""Which way an address goes, and whether it exists: one ordered list of routes, the first whose domain fits decides.

`resolve` is pure: it looks into memory and does no I/O. It is the same function for RCPT, for a report's return address and for
`explain`; nothing is decided about an address anywhere else. A reload builds a new router with the next generation.

- Subaddresses: where `user+tag` itself does not exist, `user` is asked. A mailbox of ours gets the mail as `user`; a next hop
  gets the address as it was given.
- postmaster is always taken (RFC 5321 section 4.5.1): `<postmaster>` alone, postmaster of this host, and postmaster of a domain of ours
  where no such user exists, go to the configuration's `postmaster`. So does MAILER-DAEMON of this host, because people answer reports.
  When the configured address itself is refused here, the mail goes to the last resort, the maildir `postmaster` inside the
  spool's directory: it needs no user, no network and no file system that the spool doesn't need too.
- A store of users that raises makes the recipient temporarily unavailable (law 4); the rule then names the cause for the log.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from mta.config.model import Configuration, Route
from mta.config.via import Via, ViaError, Way, parse_via
from mta.mail import reply
from mta.mail.address import Address, parse_address
from mta.mail.envelope import value
from mta.mail.reply import Reply
from mta.routing.existence import Exists, accounts_of_this_host, anybody, existence
from mta.routing.tables import TableError, fold

SUBADDRESS_SEPARATOR = "+"


class Place(enum.Enum):
    """Where a recipient is, seen from here."""

    LOCAL = "local"  # in a mailbox of ours, or thrown away by a rule
    REMOTE = "remote"  # behind a next hop
    REFUSED = "refused"  # nowhere, for good
    UNAVAILABLE = "unavailable"  # nobody can tell now


@value
class Resolution:
    """What was decided about one address.

    `destination` is the key of the next hop; it is empty only where a rule refuses without naming one. An UNAVAILABLE recipient
    keeps it, so that a report to it can wait in the queue.
    """

    place: Place
    address: Address
    destination: str
    rule: str  # which rule decided: "route 1 (mta.toml:34)"
    reply: Reply | None = None  # for REFUSED and UNAVAILABLE
    public: bool = False  # everybody may send to it; False: only who may relay


@dataclass(frozen=True, slots=True)
class RouteProblem:
    route: int  # index, from 0
    key: str  # "via" or "recipients"
    message: str


class RoutingError(ValueError):
    """The routes make no router. `problems` holds all that is wrong."""

    def __init__(self, problems: Iterable[RouteProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"route {each.route + 1}: {each.key}: {each.message}" for each in self.problems))


class RouteLines(Protocol):
    """Where the routes stand in the configuration file."""

    def place_of(self, key: str) -> str:
        """`mta.toml:34` for a key such as `route.0`; "" when it is unknown."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """One route as one kind of pattern sees it."""

    name: str
    via: Via
    exists: Exists
    public: bool
    ours: bool  # a named domain whose mail we take from everybody
    discard_key: str


class Router:
    """The tables of one generation."""

    def __init__(
        self,
        rules: Mapping[str, _Rule],
        suffixes: Mapping[str, tuple[int, _Rule]],
        rest: tuple[int, _Rule] | None,
        *,
        generation: int,
        hostname: str,
        postmaster: Address,
        last_resort: str,
    ) -> None:
        """`rules` by exact domain, already the first that fits; `suffixes` and `rest` ("*") with their places in the list."""
        self.generation = generation
        self._rules = rules
        self._suffixes = suffixes
        self._rest = rest
        self._hostname = hostname
        self._postmaster = postmaster
        self._last_resort = last_resort

    def resolve(self, address: Address) -> Resolution:
        """Never raises, never blocks."""
        domain = address.domain
        rule = self._rules.get(domain) or self._by_suffix(domain)
        if (domain == self._hostname or not domain) and self._speaks_for_host(address, rule):
            return self._to_postmaster()
        resolution = self._apply(rule, address)
        if resolution.place is Place.REFUSED and rule is not None and rule.ours and address.is_postmaster:
            return self._to_postmaster()
        return resolution

    def _by_suffix(self, domain: str) -> _Rule | None:
        best = self._rest
        if self._suffixes:
            dot = domain.find(".")
            while dot >= 0:
                hit = self._suffixes.get(domain[dot + 1 :])
                if hit is not None and (best is None or hit[0] < best[0]):
                    best = hit
                dot = domain.find(".", dot + 1)
        return None if best is None else best[1]

    def _speaks_for_host(self, address: Address, rule: _Rule | None) -> bool:
        """Mail to whoever answers for this host, and no user of that name."""
        if not address.is_postmaster and not (address.domain and address.local.lower() == "mailer-daemon"):
            return False
        if not address.domain or rule is None or not rule.ours:
            return True
        return self._apply(rule, address).place is Place.REFUSED

    def _to_postmaster(self) -> Resolution:
        target = self._postmaster
        found = self._apply(self._rules.get(target.domain) or self._by_suffix(target.domain), target)
        if found.destination and found.place is not Place.REFUSED:
            return replace(found, rule=f"postmaster, {found.rule}", public=True)
        return Resolution(Place.LOCAL, target, self._last_resort, "postmaster, last resort", None, True)

    def _apply(self, rule: _Rule | None, address: Address) -> Resolution:
        if rule is None or not address.domain:
            return Resolution(Place.REFUSED, address, "", "no route", reply.NO_ROUTE, True)
        via = rule.via
        if via.way is Way.ERROR:
            refusal = via.reply or reply.NO_ROUTE
            place = Place.UNAVAILABLE if refusal.temporary else Place.REFUSED
            return Resolution(place, address, "", rule.name, refusal, True)
        try:
            mailbox = _mailbox(rule.exists, address, local=via.way.is_local)
        except Exception as error:  # noqa: BLE001 - a store of users may fail in any way it likes (law 4)
            name = f"{rule.name}: {type(error).__name__}: {error}"
            folded = Address(fold(address.local), address.domain) if via.way.is_local else address
            destination = _destination(rule, address)
            return Resolution(Place.UNAVAILABLE, folded, destination, name, reply.OUR_FAULT, rule.public)
        if mailbox is None:
            return Resolution(Place.REFUSED, address, "", rule.name, reply.NO_SUCH_USER, rule.public)
        place = Place.LOCAL if via.way.is_local else Place.REMOTE
        return Resolution(place, mailbox, _destination(rule, address), rule.name, None, rule.public)


def _destination(rule: _Rule, address: Address) -> str:
    way = rule.via.way
    if way is Way.MX:
        return "mx:" + address.domain + rule.via.suffix
    return rule.discard_key if way is Way.DISCARD else rule.via.target


def _mailbox(exists: Exists, address: Address, *, local: bool) -> Address | None:
    """The address that gets the mail; None: there is no such mailbox.

    A mailbox of ours (`local`) is named folded, and without the subaddress unless it exists with it. A next hop gets what was given.
    """
    if exists is anybody and not local:
        return address
    name = fold(address.local)
    base, tagged, _ = name.partition(SUBADDRESS_SEPARATOR)
    folded = address if name == address.local else Address(name, address.domain)
    untagged = Address(base, address.domain) if tagged and base else folded
    if exists is anybody:  # nobody knows the mailboxes, so no name with a tag in it can be known
        return untagged
    if exists(address) or (folded is not address and exists(folded)):
        return folded if local else address
    if untagged is not folded and exists(untagged):
        return untagged if local else address
    return None


def build_router(
    configuration: Configuration,
    *,
    generation: int,
    users: Exists,
    positions: RouteLines | None = None,
    accounts: Callable[[], Iterable[str]] = accounts_of_this_host,
) -> Router:
    """Read every table and build the router; blocks while it reads. Raises RoutingError with all problems at once.

    `users`: is there such a user of ours? It must answer from memory.
    """
    problems: list[RouteProblem] = []
    exact: dict[str, tuple[int, _Rule]] = {}
    suffixes: dict[str, tuple[int, _Rule]] = {}
    rest: tuple[int, _Rule] | None = None
    for index, route in enumerate(configuration.route):
        made = _rules_of(index, route, positions, users, accounts, problems)
        if made is None:
            continue
        named, catch_all = made
        for pattern in route.domains:
            if pattern == "*":
                rest = rest or (index, catch_all)
            elif pattern.startswith("."):
                suffixes.setdefault(pattern[1:], (index, named))
            else:
                exact.setdefault(pattern, (index, named))
    if problems:
        raise RoutingError(problems)
    return Router(
        {domain: _first(domain, hit, suffixes, rest) for domain, hit in exact.items()},
        suffixes,
        rest,
        generation=generation,
        hostname=configuration.hostname,
        postmaster=parse_address(configuration.postmaster, utf8=True),
        last_resort=f"maildir:{configuration.spool.path}/postmaster",
    )


def _rules_of(
    index: int,
    route: Route,
    positions: RouteLines | None,
    users: Exists,
    accounts: Callable[[], Iterable[str]],
    problems: list[RouteProblem],
) -> tuple[_Rule, _Rule] | None:
    """The rule for the named domains of a route, and that for its "*"."""
    via = exists = None
    try:
        via = parse_via(route.via, route.tls)
    except ViaError as error:
        problems.append(RouteProblem(index, "via", str(error)))
    try:
        exists = existence(route.recipients, users=users, accounts=accounts)
    except TableError as error:
        problems.append(RouteProblem(index, "recipients", str(error)))
    if via is None or exists is None:
        return None
    line = positions.place_of(f"route.{index}") if positions is not None else ""
    name = f"route {index + 1} ({line})" if line else f"route {index + 1}"
    for_all = route.accept == "all" or (route.accept is None and via.way.is_local)
    key = f"discard:route-{index + 1}"
    # By default a "*" is open to nobody but those who may relay: an open relay must be asked for by name.
    named = _Rule(name, via, exists, for_all, for_all, key)
    return named, _Rule(name, via, exists, route.accept == "all", False, key)


def _first(
    domain: str, hit: tuple[int, _Rule], suffixes: Mapping[str, tuple[int, _Rule]], rest: tuple[int, _Rule] | None
) -> _Rule:
    """Of all patterns that fit an exactly named domain, the first of the list."""
    fitting = [hit] + ([rest] if rest is not None else [])
    labels = domain.split(".")
    fitting += [suffixes[parent] for i in range(1, len(labels)) if (parent := ".".join(labels[i:])) in suffixes]
    return min(fitting, key=lambda each: each[0])[1]
