"""A resolver over the machine's own name servers (resolv.conf) and hosts file, by twisted.names.

It keeps what it learned as long as the records live, between 5 seconds and an hour, at most 10,000 names: a queue asks for the
same few domains all day. What it does not know: DNSSEC, EDNS0. It sets a timer when it is made, so make it when the
service starts, not before.
"""

from __future__ import annotations

import ipaddress
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.names import client, dns, error
from twisted.python.failure import Failure

from mta.dns.resolver import AddressAnswer, Answer, MailExchanger, MxAnswer, NoData, NoSuchName, Temporary

LIFE_MIN_SECONDS = 5.0
LIFE_MAX_SECONDS = 3600.0
NEGATIVE_LIFE_SECONDS = 60.0  # RFC 2308 section 5 bounds it by the SOA, which twisted.names does not hand out
REMEMBERED_NAMES = 10_000
TRIES_SECONDS = (2, 4, 8)  # how long each question waits for its answer

_Sections = tuple[list[Any], list[Any], list[Any]]


class StubResolver:
    """A Resolver. `servers`: (address, port) pairs instead of resolv.conf's. Call `close` at the end."""

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        servers: Sequence[tuple[str, int]] | None = None,
        resolv_conf: str = "/etc/resolv.conf",
        hosts_file: str = "/etc/hosts",
        tries_seconds: Sequence[int] = TRIES_SECONDS,
    ) -> None:
        self._clock = reactor
        make: Any = client.Resolver
        self._dns: Any = make(
            resolv=None if servers else resolv_conf,
            servers=list(servers) if servers else None,
            timeout=tuple(tries_seconds),
            reactor=reactor,
        )
        self._hosts = HostsFile(hosts_file)
        self._known: OrderedDict[tuple[str, str], tuple[float, Any]] = OrderedDict()

    def close(self) -> None:
        timer = getattr(self._dns, "_parseCall", None)  # the timer that rereads resolv.conf; it has no public end
        if timer is not None and timer.active():
            timer.cancel()

    def mx(self, domain: str) -> Deferred[MxAnswer]:
        known: MxAnswer | None = self._recall("MX", domain)
        if known is not None:
            return succeed(known)
        return self._ask(self._dns.lookupMailExchange, domain, _read_mx).addCallback(self._remember, "MX", domain)

    def addresses(self, host: str) -> Deferred[AddressAnswer]:
        known: AddressAnswer | None = self._hosts.look_up(host) or self._recall("A", host)
        if known is not None:
            return succeed(known)
        both = gatherResults(
            [
                self._ask(self._dns.lookupAddress, host, _read_addresses),
                self._ask(self._dns.lookupIPV6Address, host, _read_addresses),
            ]
        )
        return both.addCallback(_join).addCallback(self._remember, "A", host)

    def _ask(
        self, lookup: Callable[[str], Deferred[_Sections]], name: str, read: Callable[[list[Any]], Any]
    ) -> Deferred[tuple[Any, float]]:
        """The answer and how long it holds, in seconds. Never fails."""

        def answered(sections: _Sections) -> tuple[Any, float]:
            records = sections[0]
            life = min((float(record.ttl) for record in records), default=NEGATIVE_LIFE_SECONDS)
            return read(records), min(max(life, LIFE_MIN_SECONDS), LIFE_MAX_SECONDS)

        try:
            asked = lookup(name)
        except Exception as problem:  # noqa: BLE001 - a name that can't even be asked for; the contract says: never fails
            return succeed((Temporary(f"DNS: {type(problem).__name__}"), LIFE_MIN_SECONDS))
        return asked.addCallback(answered).addErrback(lambda failure: (_judge(failure), NEGATIVE_LIFE_SECONDS))

    def _recall(self, kind: str, name: str) -> Any:
        hit = self._known.get((kind, name))
        return hit[1] if hit is not None and hit[0] > self._clock.seconds() else None

    def _remember(self, result: tuple[Any, float], kind: str, name: str) -> Any:
        answer, life = result
        if not isinstance(answer, Temporary):
            self._known[kind, name] = (self._clock.seconds() + life, answer)
            self._known.move_to_end((kind, name))
            if len(self._known) > REMEMBERED_NAMES:
                self._known.popitem(last=False)
        return answer


class HostsFile:
    """/etc/hosts, read again when it changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._table: dict[str, tuple[str, ...]] = {}

    def look_up(self, host: str) -> Answer[str] | None:
        try:
            facts = os.stat(self._path)
            if (facts.st_mtime_ns, facts.st_size) != self._version:
                self._table = _parse_hosts(self._path)
                self._version = (facts.st_mtime_ns, facts.st_size)
        except OSError:
            return None
        found = self._table.get(host.lower())
        return Answer(found) if found else None


def _parse_hosts(path: str) -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            address, *names = line.partition("#")[0].split() or [""]
            try:
                text = str(ipaddress.ip_address(address.partition("%")[0]))
            except ValueError:
                continue
            for name in names:
                known = table.get(name.lower(), ())
                if text not in known:
                    # IPv4 first, as the contract says
                    table[name.lower()] = (*known, text) if ":" in text else (text, *known)
    return table


def _read_mx(records: list[Any]) -> MxAnswer:
    found = tuple(
        MailExchanger(
            int(record.payload.preference),
            # what is no host name stays recognisable as none; mta.delivery.mx leaves it out
            record.payload.name.name.decode("ascii", "backslashreplace").lower().rstrip("."),
        )
        for record in records
        if record.type == dns.MX
    )
    return Answer(found) if found else NoData()


def _read_addresses(records: list[Any]) -> AddressAnswer:
    found = tuple(record.payload.dottedQuad() for record in records if record.type == dns.A) + tuple(
        str(ipaddress.IPv6Address(record.payload.address)) for record in records if record.type == dns.AAAA
    )
    return Answer(found) if found else NoData()


def _judge(failure: Failure) -> NoSuchName | Temporary:
    problem = failure.value
    if isinstance(problem, error.DNSNameError):
        return NoSuchName()
    if isinstance(problem, error.DNSServerError):
        return Temporary("SERVFAIL")
    if isinstance(problem, error.DNSQueryTimeoutError | DeferredTimeoutError | OSError):
        return Temporary("no answer from the name servers")
    return Temporary(f"DNS: {type(problem).__name__}")


def _join(both: list[tuple[AddressAnswer, float]]) -> tuple[AddressAnswer, float]:
    """One answer of two: addresses if any; unknown if one question was not answered; else what both say."""
    life = min(each[1] for each in both)
    answers = [each[0] for each in both]
    found = tuple(address for answer in answers if isinstance(answer, Answer) for address in answer.records)
    if found:
        return Answer(found), life
    for answer in answers:
        if isinstance(answer, Temporary):
            return answer, life
    return (NoSuchName() if all(isinstance(answer, NoSuchName) for answer in answers) else NoData()), life
