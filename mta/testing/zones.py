"""The DNS of a test's world: what its name servers answer, how late, and how that changes.

    zones.mx("example.net", 10, "mx.example.net")
    zones.address("mx.example.net", "198.18.0.7")
    zones.servfail("example.net")        # until zones.heal("example.net")

It speaks real messages: `respond` takes the octets of a question and gives those of the answer, over a fake network or a real one.
A name that nobody told about does not exist (NXDOMAIN, RFC 8020); one that has other records has no data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from twisted.names import dns

TTL_SECONDS = 300
NEGATIVE_TTL_SECONDS = 60  # RFC 2308
PLAIN_UDP_OCTETS = 512  # RFC 1035 section 4.2.1
_OPT = 41


@dataclass
class Trouble:
    """What goes wrong with a name and all below it."""

    servfail: bool = False
    silent: bool = False
    seconds: float = 0.0  # so late is each answer


@dataclass
class Zones:
    """`asked`: every question that came, as ("MX", "example.net")."""

    records: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)  # name → (TTL, payload)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    # --- what is there --------------------------------------------------------------------------------------------

    def mx(self, domain: str, preference: int, host: str, ttl: int = TTL_SECONDS) -> None:
        self._add(domain, ttl, dns.Record_MX(preference, host or b"", ttl=ttl))

    def null_mx(self, domain: str, ttl: int = TTL_SECONDS) -> None:
        """RFC 7505: takes no mail."""
        self.mx(domain, 0, "", ttl)

    def address(self, host: str, *addresses: str, ttl: int = TTL_SECONDS) -> None:
        for each in addresses:
            record = dns.Record_AAAA if ip_address(each).version == 6 else dns.Record_A
            self._add(host, ttl, record(each, ttl=ttl))

    def alias(self, name: str, target: str, ttl: int = TTL_SECONDS) -> None:
        self._add(name, ttl, dns.Record_CNAME(target, ttl=ttl))

    def text(self, name: str, *strings: str, ttl: int = TTL_SECONDS) -> None:
        self._add(name, ttl, dns.Record_TXT(*[each.encode() for each in strings], ttl=ttl))

    def forget(self, name: str) -> None:
        """All its records are gone."""
        self.records.pop(name.lower(), None)

    def _add(self, name: str, ttl: int, payload: Any) -> None:
        self.records.setdefault(name.lower().rstrip("."), []).append((ttl, payload))

    # --- what goes wrong ------------------------------------------------------------------------------------------

    def servfail(self, name: str) -> None:
        self._trouble(name).servfail = True

    def silent(self, name: str) -> None:
        """Questions for it get no answer."""
        self._trouble(name).silent = True

    def slow(self, name: str, seconds: float) -> None:
        self._trouble(name).seconds = seconds

    def heal(self, name: str) -> None:
        self.troubles.pop(name.lower(), None)

    def _trouble(self, name: str) -> Trouble:
        return self.troubles.setdefault(name.lower(), Trouble())

    def trouble_of(self, name: str) -> Trouble:
        while name:
            if name in self.troubles:
                return self.troubles[name]
            name = name.partition(".")[2]
        return self.troubles.get("", Trouble())

    # --- answers --------------------------------------------------------------------------------------------------

    def respond(self, octets: bytes, *, udp: bool) -> tuple[bytes, float] | None:
        """The answer and how many seconds it takes; None: there is none."""
        question = dns.Message()
        try:
            question.fromStr(octets)
            query = question.queries[0]
        except (EOFError, IndexError, ValueError):
            return None
        name = query.name.name.decode("ascii", "replace").lower().rstrip(".")
        self.asked.append((dns.QUERY_TYPES.get(query.type, str(query.type)), name))
        trouble = self.trouble_of(name)
        if trouble.silent:
            return None
        answer = dns.Message(
            question.id, answer=1, opCode=question.opCode, recDes=question.recDes, recAv=1, maxSize=65535
        )
        answer.queries = question.queries
        if trouble.servfail:
            answer.rCode = dns.ESERVER
        else:
            self._fill(answer, name, query.type)
        packed: bytes = answer.toStr()
        if udp and len(packed) > _room(question):
            answer.answers, answer.authority, answer.trunc = [], [], 1
            packed = answer.toStr()
        return packed, trouble.seconds

    def _fill(self, answer: Any, name: str, kind: int) -> None:
        for _ in range(9):  # aliases in a row
            there = self.records.get(name)
            if there is None:
                if not any(each.endswith("." + name) for each in self.records):
                    answer.rCode = dns.ENAME
                break
            found = [(ttl, each) for ttl, each in there if each.TYPE in {kind, dns.CNAME}]
            for ttl, payload in found:
                answer.answers.append(dns.RRHeader(name, payload.TYPE, dns.IN, ttl, payload, auth=True))
            alias = next((each for _, each in found if each.TYPE == dns.CNAME), None)
            if alias is None or kind == dns.CNAME:
                if found:
                    return
                break
            name = alias.name.name.decode("ascii").lower()
        soa = dns.Record_SOA("ns.test", "postmaster.test", 1, 3600, 600, 86400, NEGATIVE_TTL_SECONDS)
        top = name.rpartition(".")[2] or "."
        answer.authority.append(dns.RRHeader(top, dns.SOA, dns.IN, NEGATIVE_TTL_SECONDS, soa, auth=True))


def _room(question: Any) -> int:
    """How much the asker takes in a datagram (RFC 6891 section 6.2.3)."""
    sizes = [int(each.cls) for each in question.additional if each.type == _OPT]
    return max(PLAIN_UDP_OCTETS, *sizes) if sizes else PLAIN_UDP_OCTETS
