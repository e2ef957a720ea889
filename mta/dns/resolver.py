"""What the house asks of the DNS: mail exchangers and addresses. The contract, and the answers as types.

An answer is a type because the four mean different things to a message: NoSuchName fails it, Temporary never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class MailExchanger:
    """An MX record; `host` is lower case without the last dot, "" for the null MX (RFC 7505)."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[Record]):
    """At least one record."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class NoSuchName:
    """The name does not exist (RFC 8020: nor does anything below it)."""


@dataclass(frozen=True, slots=True)
class NoData:
    """The name exists, but has no such record (RFC 2308 section 2.2)."""


@dataclass(frozen=True, slots=True)
class Temporary:
    """Nobody knows now: SERVFAIL, a time-out, a lame server, an answer that can't be read. `text` is for the journal."""

    text: str


MxAnswer = Answer[MailExchanger] | NoSuchName | NoData | Temporary
AddressAnswer = Answer[str] | NoSuchName | NoData | Temporary


class Resolver(Protocol):
    """Called in the reactor thread; the Deferreds never fail: whatever goes wrong is Temporary."""

    def mx(self, domain: str) -> Deferred[MxAnswer]:
        """The MX records of a domain, in no order."""

    def addresses(self, host: str) -> Deferred[AddressAnswer]:
        """IPv4 and IPv6 addresses of a host, as text, IPv4 first."""
