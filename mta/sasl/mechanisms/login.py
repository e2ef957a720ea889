"""LOGIN (draft-murchison-sasl-login): name and password asked one after the other, in clear. Only under TLS.

Never a standard, still the only one some clients know. The name may come inline as an initial response: copiers and backup
programs send it so.
"""

from __future__ import annotations

from mta.sasl.mechanisms.plain import FIELD_LIMIT_OCTETS
from mta.sasl.mechanisms.step import Ask, PasswordClaim, SaslError, ServerStep, Surroundings

# The prompts are compared byte for byte by old clients.
USERNAME = b"Username:"
PASSWORD = b"Password:"


class LoginServer:
    def __init__(self, surroundings: Surroundings) -> None:
        self._name: str | None = None

    def start(self, initial: bytes | None) -> ServerStep:
        # An empty initial response names nobody: it is asked for, as if there were none.
        return self.respond(initial) if initial else Ask(USERNAME)

    def respond(self, data: bytes) -> ServerStep:
        text = _text(data, self._name or "")
        if self._name is None:
            self._name = text
            return Ask(PASSWORD)
        return PasswordClaim(self._name, "", text)


def _text(data: bytes, authcid: str) -> str:
    data = data.removesuffix(b"\0")  # some clients end their strings as C does
    if not data:
        raise SaslError("LOGIN: the name or the password is empty", authcid)
    if len(data) > FIELD_LIMIT_OCTETS:
        raise SaslError("LOGIN: a field is too long", authcid)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("LOGIN: the answer is not UTF-8", authcid) from None
    if "\0" in text:
        raise SaslError("LOGIN: NUL in the answer", authcid)
    return text
