"""What the house asks of the DNS: the contract, and the answers as types.

An answer is a type because the four mean different things to a message: NoSuchName fails it, Temporary never does.

    found = resolver.mx("example.org")                    # from memory: the answer itself, no Deferred is made
    answer = await found if isinstance(found, Deferred) else found
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from twisted.internet.defer import Deferred

Record = TypeVar("Record")
Value = TypeVar("Value")


class RecordType(enum.IntEnum):
    """What may be asked for, and what its records are in an Answer."""

    A = 1  # str
    NS = 2  # str
    CNAME = 5  # str: the alias itself is asked for, and not followed
    PTR = 12  # str
    MX = 15  # MailExchanger
    TXT = 16  # bytes: the character strings joined, as SPF and DKIM want them (RFC 7208 section 3.3)
    AAAA = 28  # str
    TLSA = 52  # Tlsa


@dataclass(frozen=True, slots=True)
class MailExchanger:
    """An MX record; `host` is lower case without the last dot, "" for the null MX (RFC 7505)."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Tlsa:
    """A TLSA record (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer(Generic[Record]):
    """At least one record. `authentic`: a name server that is trusted says that DNSSEC vouches for it (the AD bit)."""

    records: tuple[Record, ...]
    authentic: bool = False
    ttl_seconds: float = field(default=0.0, compare=False)  # as heard: of the record that dies first, aliases included


@dataclass(frozen=True, slots=True)
class NoSuchName:
    """The name does not exist (RFC 8020: nor does anything below it)."""

    authentic: bool = False
    ttl_seconds: float = field(default=0.0, compare=False)  # RFC 2308 section 5


@dataclass(frozen=True, slots=True)
class NoData:
    """The name exists, but has no such record (RFC 2308 section 2.2)."""

    authentic: bool = False
    ttl_seconds: float = field(default=0.0, compare=False)


class Trouble(enum.Enum):
    """Why nobody knows now. To a message they are all the same; to a postmaster, to DANE and to SPF they are not."""

    SERVFAIL = "servfail"  # name servers answered that they can't: SERVFAIL, REFUSED, lame, DNSSEC that fails
    TIMEOUT = "timeout"  # no name server answered
    MALFORMED = "malformed"  # an answer that makes no sense: a circle of aliases, a record that can't be read
    LOCAL = "local"  # it was not asked: too many questions wait, a name that can't be asked for, shutting down


@dataclass(frozen=True, slots=True)
class Temporary:
    """Nobody knows now. `text` is for the journal; `rcode` is what the name server said, -1 where none did."""

    text: str
    trouble: Trouble = Trouble.SERVFAIL
    rcode: int = field(default=-1, compare=False)


MxAnswer = Answer[MailExchanger] | NoSuchName | NoData | Temporary
AddressAnswer = Answer[str] | NoSuchName | NoData | Temporary
AnyAnswer = Answer[Any] | NoSuchName | NoData | Temporary

Soon: TypeAlias = Value | Deferred[Value]  # the value where it is at hand, else a Deferred that does not fail


class Resolver(Protocol):
    """Called in the reactor thread. The Deferreds never fail, unless whoever asked cancels his own: what goes wrong is Temporary.

    Names may hold U-labels; they are asked for as A-labels. Aliases (CNAME) are followed.
    """

    def mx(self, domain: str) -> Soon[MxAnswer]:
        """The MX records of a domain, in no order."""

    def addresses(self, host: str) -> Soon[AddressAnswer]:
        """IPv4 and IPv6 addresses of a host, as text, IPv4 first; the hosts file before the DNS.

        Authentic when both are. One kind known and the other Temporary: the one that is known.
        """

    def query(self, name: str, kind: RecordType) -> Soon[AnyAnswer]:
        """Records of one kind (see RecordType for what they are). The hosts file has no part in it."""
