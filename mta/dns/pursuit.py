"""What responses come to: one question over the aliases that it leads to, as an answer. Pure.

A resolver usually sends the whole chain of aliases and what is at its end; where it sends only a part, the end is asked for anew
(`name`). The answer is authentic when each part of it is, and lives as long as the part that dies first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

from twisted.names import dns

from mta.dns.resolver import (
    Answer,
    AnyAnswer,
    MailExchanger,
    NoData,
    NoSuchName,
    RecordType,
    Temporary,
    Tlsa,
    Trouble,
)
from mta.dns.wire import NXDOMAIN, Question, Response

ALIASES_LIMIT = 10  # SAFETY 3.8
_PRINTABLE = re.compile(rb"[!-~]*")
FOREVER_SECONDS = float(1 << 31)


class Pursuit:
    """`name` is what has to be asked for next; `take` the responses in their order until it gives an answer."""

    def __init__(self, question: Question) -> None:
        self.name = question.name
        self._kind = question.kind
        self._trail = [question.name]
        self._ttl = FOREVER_SECONDS
        self._authentic = True

    @property
    def question(self) -> Question:
        return Question(self.name, self._kind)

    def take(self, response: Response, *, trusted: bool) -> AnyAnswer | None:
        """An answer, or None: ask for `name`. `response` says NOERROR or NXDOMAIN; `trusted`: its AD bit means something."""
        self._authentic = self._authentic and trusted and response.authentic
        began = self.name
        records = self._follow(response.answers)
        if isinstance(records, Temporary):
            return records
        if records:
            self._live(records)
            values = tuple(dict.fromkeys(_values(records, self._kind)))
            if not values:
                return Temporary(f"{self._kind.name} records that can't be read", Trouble.MALFORMED, response.rcode)
            return Answer(values, self._authentic, self._ttl)
        negative = [record for record in response.authority if record.type == dns.SOA and record.cls == dns.IN]
        if response.rcode != NXDOMAIN and not negative and self.name != began:
            return None
        self._live_without(negative)
        kind = NoSuchName if response.rcode == NXDOMAIN else NoData
        return kind(self._authentic, self._ttl)

    def _follow(self, answers: Iterable[Any]) -> list[Any] | Temporary:
        """The records at the end of the chain of aliases, none if it does not end here. Moves `name`."""
        owned: dict[bytes, list[Any]] = {}
        for record in answers:
            if record.cls == dns.IN:
                owned.setdefault(record.name.name.lower(), []).append(record)
        while True:
            here = owned.get(self.name, [])
            found = [record for record in here if record.type == self._kind]
            aliases = [record for record in here if record.type == dns.CNAME]
            if found or not aliases:
                return found
            self._live(aliases)
            self.name = aliases[0].payload.name.name.lower()
            if self.name in self._trail:
                return Temporary("aliases (CNAME) in a circle", Trouble.MALFORMED)
            self._trail.append(self.name)
            if len(self._trail) > ALIASES_LIMIT + 1:
                return Temporary(f"more than {ALIASES_LIMIT} aliases (CNAME)", Trouble.MALFORMED)

    def _live(self, records: Iterable[Any]) -> None:
        self._ttl = min(self._ttl, *(_ttl(record.ttl) for record in records))

    def _live_without(self, negative: Iterable[Any]) -> None:
        """RFC 2308 section 5: the SOA's TTL or its MINIMUM; without an SOA nobody says how long."""
        said = [min(_ttl(record.ttl), _ttl(record.payload.minimum)) for record in negative]
        self._ttl = min(self._ttl, *said) if said else 0.0


def _ttl(seconds: int) -> float:
    """RFC 2181 section 8: with the first bit set it is 0."""
    return float(seconds) if seconds < FOREVER_SECONDS else 0.0


def _values(records: Iterable[Any], kind: RecordType) -> Iterable[Any]:
    read = _READERS[kind]
    for record in records:
        try:
            yield read(record)
        except (ValueError, AttributeError):
            continue


def _text(name: Any) -> str:
    """What is no host name stays recognisable as none, and is harmless to show (law 12): who asked judges it."""
    octets: bytes = name.name
    if _PRINTABLE.fullmatch(octets):
        return octets.decode("ascii").lower().rstrip(".")
    return "".join(chr(each) if 0x20 < each < 0x7F else f"\\x{each:02x}" for each in octets).lower().rstrip(".")


def _address(record: Any, octets: int) -> str:
    if record.rdlength != octets:
        raise ValueError(record.rdlength)
    return str(ipaddress.ip_address(record.payload.address))


def _tlsa(record: Any) -> Tlsa:
    usage, selector, matching, *data = record.payload.data
    return Tlsa(usage, selector, matching, bytes(data))


_READERS: dict[RecordType, Callable[[Any], Any]] = {
    RecordType.A: lambda record: _address(record, 4),
    RecordType.AAAA: lambda record: _address(record, 16),
    RecordType.NS: lambda record: _text(record.payload.name),
    RecordType.CNAME: lambda record: _text(record.payload.name),
    RecordType.PTR: lambda record: _text(record.payload.name),
    RecordType.MX: lambda record: MailExchanger(int(record.payload.preference), _text(record.payload.name)),
    RecordType.TXT: lambda record: b"".join(record.payload.data),
    RecordType.TLSA: _tlsa,
}
