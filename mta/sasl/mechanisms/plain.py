"""PLAIN (RFC 4616): authzid, authcid and password in one message, in clear. Only under TLS."""

from __future__ import annotations

from mta.sasl.mechanisms.step import Ask, PasswordClaim, SaslError, ServerStep, Surroundings

FIELD_LIMIT_OCTETS = 1024


class PlainServer:
    """The empty challenge when there is no initial response, then one message."""

    def __init__(self, surroundings: Surroundings) -> None:
        pass

    def start(self, initial: bytes | None) -> ServerStep:
        return Ask(b"") if initial is None else self.respond(initial)

    def respond(self, data: bytes) -> ServerStep:
        fields = data.split(b"\0")
        if len(fields) != 3:
            raise SaslError("PLAIN: the message has not three fields")
        if any(len(field) > FIELD_LIMIT_OCTETS for field in fields):
            raise SaslError("PLAIN: a field is too long")
        try:
            authzid, authcid, password = (field.decode("utf-8") for field in fields)
        except UnicodeDecodeError:
            raise SaslError("PLAIN: the message is not UTF-8") from None
        if not authcid or not password:  # RFC 4616 section 2: both have at least one character
            raise SaslError("PLAIN: the name or the password is empty", authcid)
        return PasswordClaim(authcid, authzid, password)


def plain_message(authcid: str, password: str, authzid: str = "") -> bytes:
    """The client's message. Raises ValueError for a NUL in a field: it would forge the field behind it."""
    fields = (authzid, authcid, password)
    if any("\0" in field for field in fields):
        raise ValueError("NUL in a name or password")
    return "\0".join(fields).encode("utf-8")
