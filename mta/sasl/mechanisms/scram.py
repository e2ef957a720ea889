"""SCRAM, server side (RFC 5802; RFC 7677 for SHA-256), with channel binding for the -PLUS siblings.

    client-first   n,a=authzid,n=user,r=nonce                     → ScramClaim; supply(verifier)
    server-first   r=nonce+ours,s=salt,i=rounds                   → Ask
    client-final   c=channel-binding,r=nonce,p=proof              → Proven(v=signature) or SaslError

The password is never seen. A wrong proof and a decoy verifier fail at the same step, in the same words.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from mta.sasl.mechanisms.step import Ask, Proven, SaslError, ScramClaim, ServerStep, Surroundings
from mta.sasl.verifier import Hash, Verifier

FIELD_LIMIT_OCTETS = 1024
BINDING_TYPES = ("tls-exporter", "tls-server-end-point")  # RFC 9266, RFC 5929; tls-unique is broken by resumption

_GS2 = re.compile(r"(?:(?P<flag>[ny])|p=(?P<type>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,\0]+))?,")
# RFC 5802 section 7. A mandatory extension (m=) has no place here: it does not match, and is refused as it must be.
_FIRST_BARE = re.compile(r"n=(?P<name>[^,\0]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-ln-z]=[^,\0]+)*")
_FINAL = re.compile(r"(?P<bare>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-ln-z]=[^,\0]+)*),p=(?P<proof>[A-Za-z0-9+/=]+)")  # fmt: skip
_BAD_ESCAPE = re.compile(r"=(?!2C|3D)")


class ScramServer:
    """One exchange. `plus`: this is the -PLUS mechanism, which must bind the channel."""

    def __init__(self, hash_name: Hash, surroundings: Surroundings, *, plus: bool = False) -> None:
        self._hash: Hash = hash_name
        self._surroundings = surroundings
        self._plus = plus
        self._name = ""
        self._first_bare = self._server_first = self._nonce = ""
        self._bound = b""  # gs2-header and channel-binding data, as client-final must repeat them
        self._verifier: Verifier | None = None

    def start(self, initial: bytes | None) -> ServerStep:
        return Ask(b"") if initial is None else self.respond(initial)

    def respond(self, data: bytes) -> ServerStep:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise SaslError("SCRAM: the message is not UTF-8", self._name) from None
        return self._first(text) if self._verifier is None else self._final(text, self._verifier)

    def _first(self, text: str) -> ScramClaim:
        header = _GS2.match(text)
        bare = _FIRST_BARE.fullmatch(text, header.end()) if header else None
        if header is None or bare is None:
            raise SaslError("SCRAM: malformed client-first message")
        if len(bare["name"]) > FIELD_LIMIT_OCTETS or len(bare["nonce"]) > FIELD_LIMIT_OCTETS:
            raise SaslError("SCRAM: a field is too long")
        self._name = unescape_name(bare["name"])
        self._bound = header[0].encode() + self._binding(header["flag"], header["type"])
        self._first_bare = bare[0]
        self._nonce = bare["nonce"] + self._surroundings.nonce()
        return ScramClaim(self._name, unescape_name(header["authzid"] or ""), self._hash)

    def _binding(self, flag: str | None, binding_type: str | None) -> bytes:
        """RFC 5802 section 6: the rules that make a stripped -PLUS visible."""
        if flag == "y" and (self._plus or self._surroundings.plus_offered):
            raise SaslError("SCRAM: the client did not see the -PLUS we offer: a downgrade", self._name)
        if flag is not None:
            if self._plus:
                raise SaslError("SCRAM: -PLUS without channel binding", self._name)
            return b""
        if not self._plus:
            raise SaslError("SCRAM: channel binding needs the -PLUS mechanism", self._name)
        source = self._surroundings.channel_binding
        data = source(binding_type) if source is not None and binding_type in BINDING_TYPES else None
        if data is None:
            raise SaslError("SCRAM: unsupported type of channel binding", self._name)
        return data

    def supply(self, verifier: Verifier) -> Ask:
        self._verifier = verifier
        salt = base64.b64encode(verifier.salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={verifier.rounds}"
        return Ask(self._server_first.encode())

    def _final(self, text: str, verifier: Verifier) -> Proven:
        final = _FINAL.fullmatch(text)
        if final is None:
            raise SaslError("SCRAM: malformed client-final message", self._name)
        binding, proof = _decode(final["binding"]), _decode(final["proof"])
        if binding is None or not hmac.compare_digest(binding, self._bound):
            raise SaslError("SCRAM: the channel bindings don't match", self._name)
        if not hmac.compare_digest(final["nonce"].encode(), self._nonce.encode()):
            raise SaslError("SCRAM: the nonce is not ours", self._name)
        message = f"{self._first_bare},{self._server_first},{final['bare']}".encode()
        if proof is None or not _is_proof(proof, verifier, message):
            raise SaslError("SCRAM: the proof is false", self._name)
        return Proven(b"v=" + base64.b64encode(hmac.digest(verifier.server_key, message, verifier.hash)))


def _is_proof(proof: bytes, verifier: Verifier, message: bytes) -> bool:
    """RFC 5802 section 3: ClientKey = ClientProof XOR ClientSignature; its hash is what we keep."""
    signature = hmac.digest(verifier.stored_key, message, verifier.hash)
    if len(proof) != len(signature):
        return False
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(hashlib.new(verifier.hash, client_key).digest(), verifier.stored_key)


def unescape_name(text: str) -> str:
    """RFC 5802 section 5.1: =2C is a comma, =3D an equals sign, and no other = is lawful."""
    if _BAD_ESCAPE.search(text):
        raise SaslError("SCRAM: malformed name")
    return text.replace("=2C", ",").replace("=3D", "=")


def escape_name(text: str) -> str:
    return text.replace("=", "=3D").replace(",", "=2C")


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
