"""What a server-side mechanism says, and what it is told: the contract between mechanisms and the exchange that drives them.

start(initial) or respond(octets) → Ask         these octets go to the client; its answer comes by respond()
                                  → a claim     ask the checkers: PasswordClaim is decided by them;
                                                ScramClaim wants a verifier, given by supply()
                                  → Proven      the client has proved itself; octets for its last look, or None
any of them raises SaslError: the exchange is over, and has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mta.sasl.verifier import Hash, Verifier

ChannelBinding = Callable[[str], bytes | None]
"""Channel-binding data of the TLS connection by type name ("tls-exporter"), None where it has none (RFC 5056)."""


class SaslError(Exception):
    """The client broke the mechanism's syntax, or its proof is false. `cause` is for the log and holds no secret."""

    def __init__(self, cause: str, authcid: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.authcid = authcid


@dataclass(frozen=True, slots=True)
class Ask:
    """Octets for the client, which must answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PasswordClaim:
    """The client says that this is the user's password."""

    authcid: str
    authzid: str  # "" where it is the authcid's own
    password: str

    def __repr__(self) -> str:
        return f"PasswordClaim(authcid={self.authcid!r}, authzid={self.authzid!r})"


@dataclass(frozen=True, slots=True)
class ScramClaim:
    """The client says that it is this user, and will prove it against a verifier."""

    authcid: str
    authzid: str
    hash: Hash


@dataclass(frozen=True, slots=True)
class Proven:
    """The proof was true."""

    data: bytes | None = None


Claim = PasswordClaim | ScramClaim
ServerStep = Ask | PasswordClaim | ScramClaim | Proven


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a mechanism may know of the connection and take from outside."""

    nonce: Callable[[], str]  # what nobody can guess and nobody has used; printable ASCII without comma
    channel_binding: ChannelBinding | None = None
    plus_offered: bool = False  # a -PLUS sibling stands in what the client was offered


class ServerMechanism(Protocol):
    """One exchange of one mechanism, server side."""

    def start(self, initial: bytes | None) -> ServerStep:
        """The client has chosen the mechanism; `initial` is its initial response, None if it sent none."""

    def respond(self, data: bytes) -> ServerStep:
        """The client's answer to the last Ask."""


class VerifierMechanism(ServerMechanism, Protocol):
    """A mechanism that yields a ScramClaim."""

    def supply(self, verifier: Verifier) -> Ask:
        """The checker's answer to the ScramClaim."""
