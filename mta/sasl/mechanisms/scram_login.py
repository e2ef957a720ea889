"""SCRAM as a session's login: the steps of ScramClient in the order of the wire, the slow one handed out.

start: client-first → respond(server-first): a Calculation → calculated: client-final → respond(server-final): "" → proven
"""

from __future__ import annotations

from functools import partial

from mta.sasl.mechanisms.scram_client import ScramClient
from mta.sasl.mechanisms.step import SaslError
from mta.sasl.saslprep import ProhibitedText, saslprep
from mta.sasl.verifier import Hash, salted_password
from mta.smtp.client_login import Calculation, LoginError


class ScramLogin:
    """A mta.smtp.client_login.ClientMechanism. `nonce`: printable, without comma, unguessable, never used before."""

    def __init__(self, user: str, password: str, hash_name: Hash, nonce: str) -> None:
        """Raises LoginError for a name or password that SCRAM can't carry (RFC 4013)."""
        self.name = f"SCRAM-SHA-{hash_name.removeprefix('sha')}"
        self._hash: Hash = hash_name
        try:
            self._client = ScramClient(user, hash_name, nonce)
            self._password = saslprep(password)
        except ProhibitedText as error:
            raise LoginError(f"{self.name}: {error}") from None
        self._calculated = self._proven = False

    @property
    def proven(self) -> bool:
        return self._proven

    def start(self) -> bytes:
        return self._client.first()

    def respond(self, challenge: bytes) -> bytes | Calculation:
        try:
            if not self._calculated:
                salting = self._client.take(challenge)
                work = partial(salted_password, self._password, salting.hash, salting.salt, salting.rounds)
                return Calculation(work)
            if self._proven:
                raise SaslError("SCRAM: a challenge too many")
            self._client.finish(challenge)
        except SaslError as error:
            raise LoginError(error.cause) from None
        self._proven = True
        return b""

    def calculated(self, result: bytes) -> bytes:
        self._calculated = True
        return self._client.final(result)
