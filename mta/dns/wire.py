"""DNS messages, in octets and in values: our questions with EDNS0, and responses checked before anybody reads them. Pure.

The codec is twisted.names', which forgives more than is good here: it takes a message that ends early for a whole one, so the counts
of its header are held against what was read. EDNS0 (RFC 6891) is our own: twisted's is private and keeps no AD bit of a question.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import idna
from twisted.names import dns

from mta.dns.resolver import RecordType

UDP_SIZE_OCTETS = 1232  # no fragments on any usual path: what the DNS flag day of 2020 settled on
RECORDS_LIMIT = 400  # of one message: reading one takes about 10 µs, and a reactor turn has 2 ms
NAME_LIMIT_OCTETS = 253  # RFC 1035 section 2.3.4, as text
NOTE_LIMIT_OCTETS = 100
DO_BIT = 1 << 15
ERROR_OPTION = 15  # RFC 8914
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

_RCODES = {FORMERR: "FORMERR", SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN", NOTIMP: "NOTIMP", REFUSED: "REFUSED", BADVERS: "BADVERS"}  # fmt: skip
_ERRORS = {  # RFC 8914 section 5.2: those that tell a postmaster something
    3: "Stale Answer", 5: "DNSSEC Indeterminate", 6: "DNSSEC Bogus", 7: "Signature Expired", 8: "Signature Not Yet Valid",
    9: "DNSKEY Missing", 10: "RRSIGs Missing", 12: "NSEC Missing", 13: "Cached Error", 14: "Not Ready", 15: "Blocked",
    16: "Censored", 17: "Filtered", 18: "Prohibited", 20: "Not Authoritative", 22: "No Reachable Authority", 23: "Network Error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, class IN. `name`: lower case, A-labels, no last dot."""

    name: bytes
    kind: RecordType


@dataclass(frozen=True, slots=True)
class Response:
    """A response that could be read. Records are twisted.names' RRHeaders. `note`: the server's reason (RFC 8914), printable."""

    id: int
    question: tuple[bytes, int, int] | None
    rcode: int
    truncated: bool
    authoritative: bool
    recursive: bool
    authentic: bool
    edns: bool
    answers: tuple[Any, ...]
    authority: tuple[Any, ...]
    note: str

    def answers_to(self, question: Question, number: int) -> bool:
        """RFC 5452 section 4.2. A server that could not read the question may leave it out (RFC 1035 section 4.1.1)."""
        if self.id != number:
            return False
        if self.question is None:
            return self.rcode not in {NOERROR, NXDOMAIN}
        return self.question == (question.name, question.kind, dns.IN)

    @property
    def is_lame(self) -> bool:
        """A referral or nothing from a server that neither knows nor asks others: no answer at all."""
        return self.rcode == NOERROR and not (self.recursive or self.authoritative or self.answers)

    @property
    def words(self) -> str:
        """What it says went wrong, for the journal."""
        said = "lame" if self.is_lame else _RCODES.get(self.rcode, f"rcode {self.rcode}")
        return f"{said} ({self.note})" if self.note else said


def question_for(name: str, kind: RecordType) -> Question:
    """Raises ValueError for what is no name of the DNS."""
    labels = name.removesuffix(".").split(".")
    if not name.isascii():
        labels = [label if label.isascii() else _a_label(label) for label in labels]
    text = ".".join(labels).lower().encode("ascii")
    if len(text) > NAME_LIMIT_OCTETS or any(not 0 < len(label) < 64 for label in labels) or not _printable(text):
        raise ValueError("no name of the DNS")
    return Question(text, kind)


def _a_label(label: str) -> str:
    try:
        return idna.encode(label, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(str(error)) from error


def _printable(text: bytes) -> bool:
    return all(0x20 < octet < 0x7F for octet in text)


def query_octets(question: Question, number: int, *, edns: bool, dnssec: bool) -> bytes:
    """A query with the id `number`. `dnssec`: ask for signatures too (DO), as some servers need to be before they say AD."""
    # RFC 6840 section 5.7: AD in a query asks for AD in the response
    message = dns.Message(id=number, recDes=1, authenticData=1)
    message.addQuery(question.name, question.kind, dns.IN)
    if edns:
        flags = DO_BIT if dnssec else 0
        message.additional.append(dns.RRHeader(b"", dns.OPT, UDP_SIZE_OCTETS, flags, dns.UnknownRecord(b"")))
    return message.toStr()


def read_response(octets: bytes) -> Response | None:
    """None for what is no response, or can't be read whole."""
    try:
        counts = struct.unpack_from("!HHHH", octets, 4)
        if sum(counts) > RECORDS_LIMIT:
            return None
        message = dns.Message()
        message.fromStr(octets)
        options: list[Any] = [record for record in message.additional if record.type == dns.OPT]
        extended = (int(options[0].ttl) >> 24) << 4 if options else 0
        note = _note(options[0].payload.data) if options else ""
    except Exception:  # noqa: BLE001 - octets from the network: whatever the codec raises, they are no message
        return None
    sections: tuple[list[Any], ...] = (message.queries, message.answers, message.authority, message.additional)
    # when truncated the sections may end early; nobody reads them (RFC 2181 section 9)
    whole = message.trunc or tuple(map(len, sections)) == counts
    if (
        not message.answer
        or message.opCode != dns.OP_QUERY
        or not whole
        or len(message.queries) > 1
        or len(options) > 1
    ):
        return None
    return Response(
        id=message.id,
        question=_key(message.queries[0]) if message.queries else None,
        rcode=extended | message.rCode,
        truncated=bool(message.trunc),
        authoritative=bool(message.auth),
        recursive=bool(message.recAv),
        authentic=bool(message.authenticData),
        edns=bool(options),
        answers=tuple(message.answers),
        authority=tuple(message.authority),
        note=note,
    )


def _key(query: Any) -> tuple[bytes, int, int]:
    return query.name.name.lower(), query.type, query.cls


def _note(options: bytes) -> str:
    """The first extended error of an OPT record, as words."""
    for code, value in _options(options):
        if code == ERROR_OPTION and len(value) >= 2:
            number = int.from_bytes(value[:2], "big")
            text = value[2 : 2 + NOTE_LIMIT_OCTETS].decode("ascii", "replace")
            shown = "".join(each if " " <= each <= "~" else "?" for each in text)
            name = _ERRORS.get(number, f"extended error {number}")
            return f"{name}: {shown}" if shown else name
    return ""


def _options(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(octets):
        code, length = struct.unpack_from("!HH", octets, at)
        yield code, octets[at + 4 : at + 4 + length]
        at += 4 + length
