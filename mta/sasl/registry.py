"""The mechanisms we speak: one registration each. config.model.MECHANISMS_KNOWN names the same ones (a test compares)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twisted.cred.credentials import ICredentials

from mta.sasl.credentials import IPasswordCredentials, IScramSha256Credentials
from mta.sasl.mechanisms.login import LoginServer
from mta.sasl.mechanisms.plain import PlainServer
from mta.sasl.mechanisms.scram import ScramServer
from mta.sasl.mechanisms.step import ServerMechanism, Surroundings


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What the authenticator must know of a mechanism to offer it."""

    name: str
    credentials: type[ICredentials]  # the interface a checker has to serve
    server: Callable[[Surroundings], ServerMechanism]
    clear: bool = False  # shows the password to who listens: only under TLS (RFC 4954 section 4, RFC 8314)
    client_first: bool = True  # False: an initial response is an error (RFC 4954 section 4: 501)


MECHANISMS: dict[str, Mechanism] = {
    mechanism.name: mechanism
    for mechanism in (
        Mechanism("SCRAM-SHA-256", IScramSha256Credentials, partial(ScramServer, "sha256")),
        Mechanism("PLAIN", IPasswordCredentials, PlainServer, clear=True),
        Mechanism("LOGIN", IPasswordCredentials, LoginServer, clear=True),
    )
}
