"""PLAIN (RFC 4616), client side: name and password in one message, in clear. Only under TLS (mta.sasl.password_login)."""

from __future__ import annotations


class PlainClient:
    """A mta.smtp.client_login.ClientMechanism."""

    name = "PLAIN"
    proven = True  # it asks no proof of the host: that is the certificate's part

    def __init__(self, user: str, password: str) -> None:
        self._message = f"\0{user}\0{password}".encode()

    def start(self) -> bytes:
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """A host that asks although it has the initial response gets the same again."""
        return self._message

    def calculated(self, result: bytes) -> bytes:
        return result
