"""Name servers for tests, on a network of memory: each question arrives at a rule, which says what goes back, if anything.

network = FakeNetwork(clock)
network.servers["192.0.2.53"] = lambda asked: respond(asked, mx("d.example", 10, "mx.d.example"))
resolver = StubResolver(clock, DnsOptions((("192.0.2.53", 53),)), network=network)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.task import Clock
from twisted.names import dns

from mta.dns.channel import Broken, Received

LATENCY_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it arrived. `edns_octets` is 0 without EDNS0; `dnssec` is the DO bit, `wants_ad` the AD bit."""

    server: str
    port: int
    over: str  # "udp" or "tcp"
    id: int
    name: bytes
    kind: int
    edns_octets: int
    dnssec: bool
    wants_ad: bool
    recursion_desired: bool
    message: dns.Message


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody listens there."""

    why: str = "Connection refused"


Said = bytes | Refused | Sequence[bytes] | None
Rule = Callable[[Asked], Said]


class FakeNetwork:
    """A Network. `servers`: address → rule; none: no answer ever comes. `asked` records all questions, `open` counts channels."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.servers: dict[str, Rule] = {}
        self.asked: list[Asked] = []
        self.open = 0

    def udp(self, address: str, port: int, received: Received, broken: Broken) -> FakeChannel:
        return FakeChannel(self, "udp", (address, port), received, broken)

    def tcp(self, address: str, port: int, received: Received, broken: Broken) -> FakeChannel:
        return FakeChannel(self, "tcp", (address, port), received, broken)


class FakeChannel:
    """A Channel to one of the rules."""

    def __init__(
        self, network: FakeNetwork, over: str, to: tuple[str, int], received: Received, broken: Broken
    ) -> None:
        self._network, self._over, self._to = network, over, to
        self._received, self._broken = received, broken
        self._closed = False
        network.open += 1

    def send(self, message: bytes) -> None:
        asked = understood(message, *self._to, self._over)
        self._network.asked.append(asked)
        rule = self._network.servers.get(self._to[0])
        said = rule(asked) if rule is not None else None
        if said is not None:
            self._network.clock.callLater(LATENCY_SECONDS, self._arrive, said)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.open -= 1

    def _arrive(self, said: bytes | Refused | Sequence[bytes]) -> None:
        if isinstance(said, Refused):
            if not self._closed:
                self.close()
                self._broken(said.why)
            return
        for message in (said,) if isinstance(said, bytes) else said:
            if not self._closed:
                self._received(message)


def understood(octets: bytes, server: str, port: int, over: str) -> Asked:
    message = dns.Message()
    message.fromStr(octets)
    options: list[Any] = [each for each in message.additional if each.type == dns.OPT]
    return Asked(
        server=server,
        port=port,
        over=over,
        id=message.id,
        name=message.queries[0].name.name,
        kind=message.queries[0].type,
        edns_octets=options[0].cls if options else 0,
        dnssec=bool(options and options[0].ttl & 0x8000),
        wants_ad=bool(message.authenticData),
        recursion_desired=bool(message.recDes),
        message=message,
    )


def respond(
    asked: Asked,
    *records: Any,
    rcode: int = 0,
    authority: Sequence[Any] = (),
    authentic: bool = False,
    truncated: bool = False,
    recursive: bool = True,
    id: int | None = None,  # noqa: A002
    question: tuple[bytes, int] | None = None,
    options: bytes | None = None,
) -> bytes:
    """A response to what was asked. `id` and `question` instead of the true ones; `options`: an OPT record with these."""
    message = dns.Message(
        id=asked.id if id is None else id,
        answer=1,
        recDes=1,
        recAv=int(recursive),
        rCode=rcode & 15,
        authenticData=int(authentic),
        maxSize=0,
    )
    name, kind = question or (asked.name, asked.kind)
    message.addQuery(name, kind, dns.IN)
    message.answers = list(records)
    message.authority = list(authority)
    if options is not None or rcode > 15:
        message.additional = [dns.RRHeader(b"", dns.OPT, 1232, rcode >> 4 << 24, dns.UnknownRecord(options or b""))]
    message.trunc = int(truncated)
    return message.toStr()


def _record(name: str, payload: Any, ttl: int) -> Any:
    return dns.RRHeader(name.encode(), payload.TYPE, dns.IN, ttl, payload)


def a(name: str, address: str, ttl: int = 300) -> Any:
    kind: Any = dns.Record_AAAA if ipaddress.ip_address(address).version == 6 else dns.Record_A
    return _record(name, kind(address), ttl)


def mx(name: str, preference: int, host: str, ttl: int = 300) -> Any:
    return _record(name, dns.Record_MX(preference, host.encode()), ttl)


def cname(name: str, target: str, ttl: int = 300) -> Any:
    return _record(name, dns.Record_CNAME(target.encode()), ttl)


def txt(name: str, *strings: bytes, ttl: int = 300) -> Any:
    return _record(name, dns.Record_TXT(*strings), ttl)


def ptr(name: str, host: str, ttl: int = 300) -> Any:
    return _record(name, dns.Record_PTR(host.encode()), ttl)


def tlsa(name: str, data: bytes, ttl: int = 300) -> Any:
    return dns.RRHeader(name.encode(), 52, dns.IN, ttl, dns.UnknownRecord(data))


def soa(name: str, minimum: int, ttl: int = 3600) -> Any:
    return _record(name, dns.Record_SOA(b"ns.example", b"root.example", 1, 3600, 900, 86400, minimum), ttl)
