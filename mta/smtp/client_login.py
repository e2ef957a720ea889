"""How a session logs in at its host (RFC 4954, the client's side), as far as SMTP goes. Mechanisms live in mta.sasl."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mta.smtp.replies import PeerReply

Work = Callable[[], bytes]


class LoginError(ValueError):
    """No login with what this host offers or says. The message says why, is printable, and holds no secret."""


@dataclass(frozen=True, slots=True, repr=False)
class Calculation:
    """An answer that takes long: run `work` in a thread, and give what it returns to `calculated`."""

    work: Work


class ClientMechanism(Protocol):
    """One exchange of one SASL mechanism. Every step may raise LoginError: then the exchange is called off."""

    @property
    def name(self) -> str: ...

    @property
    def proven(self) -> bool:
        """May a positive reply be believed? False while the host still owes a proof of its own."""

    def start(self) -> bytes | None:
        """The initial response; None: the host speaks first."""

    def respond(self, challenge: bytes) -> bytes | Calculation: ...

    def calculated(self, result: bytes) -> bytes: ...


class Login(Protocol):
    """Who logs in, and under which conditions."""

    def choose(self, offered: frozenset[str], *, tls: bool, verified: bool) -> ClientMechanism:
        """A mechanism of those offered (upper case). `verified`: TLS, and the certificate proved the host's name.

        Raises LoginError: nothing is said to this host.
        """


def mechanisms_offered(extensions: Mapping[str, str]) -> frozenset[str]:
    """From AUTH, and from the `AUTH=` that servers older than RFC 2554 say."""
    words = extensions.get("AUTH", "").upper().split()
    for keyword, parameters in extensions.items():
        if keyword.startswith("AUTH="):
            words += [keyword[5:], *parameters.upper().split()]
    return frozenset(words)


def challenge_of(reply: PeerReply) -> bytes:
    """The octets of a challenge. Raises LoginError."""
    try:
        return base64.b64decode(reply.lines[0].strip(), validate=True)
    except (binascii.Error, ValueError):
        raise LoginError("a challenge that is not base64") from None


def wire_form(response: bytes) -> str:
    """RFC 4954 section 4."""
    return base64.b64encode(response).decode("ascii")
