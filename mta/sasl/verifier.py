"""What a store keeps of a password: SCRAM verifiers (RFC 5802 section 3), and the decoy for a user that does not exist.

A verifier proves a password and serves SCRAM, but is no password: who steals it must still guess. Pure; `derive` runs
PBKDF2, about 30 ms for 100,000 rounds, so it never runs in the reactor thread.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

Hash = Literal["sha1", "sha256", "sha512"]
HASHES: tuple[Hash, ...] = ("sha1", "sha256", "sha512")
ROUNDS = 100_000  # of the own store: about 30 ms for SHA-256 on the development machine; RFC 7677 asks for 4096 or more
SALT_OCTETS = 16


@dataclass(frozen=True, slots=True, repr=False)
class Verifier:
    """One user's verifier for one hash. It has no repr: nothing of it belongs in a log."""

    hash: Hash
    rounds: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


def salted_password(password: str, hash_name: Hash, salt: bytes, rounds: int) -> bytes:
    """Hi(password, salt, i) of RFC 5802 section 2.2. `password` is prepared already. Slow on purpose."""
    return hashlib.pbkdf2_hmac(hash_name, password.encode("utf-8", "surrogatepass"), salt, rounds)


def derive(password: str, hash_name: Hash, salt: bytes, rounds: int = ROUNDS) -> Verifier:
    """The verifier of a prepared password. Slow on purpose."""
    salted = salted_password(password, hash_name, salt, rounds)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return Verifier(hash_name, rounds, salt, stored_key, hmac.digest(salted, b"Server Key", hash_name))


def proves(password: str, verifier: Verifier) -> bool:
    """Does the prepared password fit? Slow on purpose, and as slow for a decoy."""
    made = derive(password, verifier.hash, verifier.salt, verifier.rounds)
    return hmac.compare_digest(made.stored_key, verifier.stored_key)


def decoy(secret: bytes, name: str, hash_name: Hash, rounds: int = ROUNDS) -> Verifier:
    """The verifier of a user that does not exist: always the same for a name, and no password fits.

    A salt made anew for each try would tell that the user is unknown. `secret` is the store's own, kept with it.
    """

    def part(purpose: bytes, octets: int) -> bytes:
        seed = hmac.digest(
            secret, b"%s\0%s\0%s" % (purpose, hash_name.encode(), name.encode("utf-8", "replace")), "sha512"
        )
        return seed[:octets]

    size = hashlib.new(hash_name).digest_size
    return Verifier(hash_name, rounds, part(b"salt", SALT_OCTETS), part(b"stored key", size), part(b"server key", size))
