"""Credentials of twisted.cred: one interface for each kind of evidence that mechanisms bring.

A mechanism is offered only where a checker serves its interface (registry.py, authenticator.py). IPasswordCredentials is
twisted.cred's own IUsernamePassword with more to it, so that any checker written for that serves PLAIN and LOGIN here.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from twisted.cred.credentials import ICredentials, IUsernamePassword
from twisted.internet.defer import Deferred
from zope.interface import Attribute, implementer

from mta.sasl.mechanisms.step import PasswordClaim, ScramClaim
from mta.sasl.verifier import Hash, Verifier


class IPasswordCredentials(IUsernamePassword):
    """A name and a password in clear."""

    authcid: str = Attribute("the name as the client gave it")
    secret: str = Attribute("the password as the client gave it, not prepared")


class IScramCredentials(ICredentials):
    """A user who will prove to know a password, against a verifier of one hash."""

    authcid: str = Attribute("the name as the client gave it")
    hash: Hash = Attribute("the hash of the verifier that is needed")

    def prove(verifier: Verifier) -> Deferred[bool]:  # noqa: N805 - an interface's methods have no self
        """Go on with the conversation, with this verifier; fires with whether the proof was true. Call it once."""


class IScramSha256Credentials(IScramCredentials):
    """SCRAM-SHA-256 and SCRAM-SHA-256-PLUS."""


@implementer(IPasswordCredentials)
class PasswordCredentials:
    """Of PLAIN and LOGIN. It has no repr of its own: the secret stays inside."""

    __slots__ = ("authcid", "secret")

    def __init__(self, claim: PasswordClaim) -> None:
        self.authcid = claim.authcid
        self.secret = claim.password

    @property
    def username(self) -> bytes:
        return self.authcid.encode("utf-8")

    @property
    def password(self) -> bytes:
        return self.secret.encode("utf-8")

    def checkPassword(self, password: bytes) -> bool:
        return hmac.compare_digest(self.password, password)


@implementer(IScramCredentials)
class ScramCredentials:
    """Of the SCRAM family. `converse` takes the verifier to the mechanism and fires when the client has proved itself or not."""

    __slots__ = ("_converse", "authcid", "hash")

    def __init__(self, claim: ScramClaim, converse: Callable[[Verifier], Deferred[bool]]) -> None:
        self.authcid = claim.authcid
        self.hash: Hash = claim.hash
        self._converse = converse

    def prove(self, verifier: Verifier) -> Deferred[bool]:
        return self._converse(verifier)


@implementer(IScramSha256Credentials)
class ScramSha256Credentials(ScramCredentials):
    __slots__ = ()


_SCRAM: dict[Hash, type[ScramCredentials]] = {"sha256": ScramSha256Credentials}


def credentials_for(claim: PasswordClaim | ScramClaim, converse: Callable[[Verifier], Deferred[bool]]) -> ICredentials:
    """The credentials with which a mechanism's claim goes to the Portal."""
    if isinstance(claim, PasswordClaim):
        return PasswordCredentials(claim)
    return _SCRAM[claim.hash](claim, converse)
