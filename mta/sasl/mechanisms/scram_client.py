"""SCRAM, client side (RFC 5802): for logins at next hops, and for tests. The server is treated as hostile.

    first() → server-first → take(octets) gives Salting; salted_password(...) in a thread; final(salted) → server-final → finish(octets)

`take` refuses an iteration count outside 4096 .. 600,000: below, a server could have the password cheaply; above, it could
keep our processor busy.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from mta.sasl.mechanisms.scram import escape_name
from mta.sasl.mechanisms.step import SaslError
from mta.sasl.saslprep import saslprep
from mta.sasl.verifier import Hash

ROUNDS_MIN = 4096  # RFC 7677 section 4
ROUNDS_MAX = 600_000
SALT_LIMIT_OCTETS = 1024

_SERVER_FIRST = re.compile(
    r"r=(?P<nonce>[!-+\--~]{1,2048}),s=(?P<salt>[A-Za-z0-9+/=]+),i=(?P<rounds>[1-9][0-9]{0,8})(?:,[A-Za-ln-z]=[^,\0]+)*"
)


@dataclass(frozen=True, slots=True)
class Salting:
    """What mta.sasl.verifier.salted_password needs beside the prepared password."""

    hash: Hash
    salt: bytes
    rounds: int


class ScramClient:
    """One exchange. `nonce`: printable, without comma, unguessable. `binding`: type and data, for the -PLUS mechanism.

    `plus_missed`: we could bind the channel, but the server offered no -PLUS (the `y` flag, which unmasks a downgrade).
    """

    def __init__(
        self,
        authcid: str,
        hash_name: Hash,
        nonce: str,
        *,
        authzid: str = "",
        binding: tuple[str, bytes] | None = None,
        plus_missed: bool = False,
    ) -> None:
        flag = f"p={binding[0]}" if binding else "y" if plus_missed else "n"
        self._header = f"{flag},{'a=' + escape_name(authzid) if authzid else ''},"
        self._bound = self._header.encode() + (binding[1] if binding else b"")
        self._hash: Hash = hash_name
        self._nonce = nonce
        self._first_bare = f"n={escape_name(saslprep(authcid))},r={nonce}"
        self._server_first = ""
        self._signature = b""

    def first(self) -> bytes:
        return (self._header + self._first_bare).encode()

    def take(self, server_first: bytes) -> Salting:
        """Raises SaslError for a server that breaks the rules or refuses."""
        text = server_first.decode("utf-8", "replace")
        parsed = _SERVER_FIRST.fullmatch(text)
        if parsed is None:
            raise SaslError("SCRAM: malformed server-first message")
        nonce, rounds = parsed["nonce"], int(parsed["rounds"])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):  # RFC 5802 section 5.1
            raise SaslError("SCRAM: the server's nonce does not extend ours")
        if not ROUNDS_MIN <= rounds <= ROUNDS_MAX:
            raise SaslError(f"SCRAM: the server wants {rounds} iterations; {ROUNDS_MIN} to {ROUNDS_MAX} are taken")
        try:
            salt = base64.b64decode(parsed["salt"], validate=True)
        except binascii.Error:
            raise SaslError("SCRAM: malformed salt") from None
        if not 0 < len(salt) <= SALT_LIMIT_OCTETS:
            raise SaslError("SCRAM: the salt has no lawful length")
        self._server_first, self._nonce = text, nonce
        return Salting(self._hash, salt, rounds)

    def final(self, salted: bytes) -> bytes:
        """client-final, from Hi(password): `salted_password(saslprep(password), hash, salt, rounds)`."""
        bare = f"c={base64.b64encode(self._bound).decode()},r={self._nonce}"
        message = f"{self._first_bare},{self._server_first},{bare}".encode()
        client_key = hmac.digest(salted, b"Client Key", self._hash)
        signature = hmac.digest(hashlib.new(self._hash, client_key).digest(), message, self._hash)
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", self._hash), message, self._hash)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()

    def finish(self, server_final: bytes) -> None:
        """Raises SaslError unless the server has proved that it knows the verifier (RFC 5802 section 3)."""
        verdict, _, _ = server_final.partition(b",")
        if not hmac.compare_digest(verdict, b"v=" + base64.b64encode(self._signature)):
            raise SaslError("SCRAM: the server has not proved itself")
