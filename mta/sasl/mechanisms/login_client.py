"""LOGIN, client side: name, then password, in clear. Only under TLS (mta.sasl.password_login).

The prompts are not read: no two servers agree on them ("Username:", "User Name", in other languages), all agree on their order.
"""

from __future__ import annotations

from mta.smtp.client_login import LoginError


class LoginClient:
    """A mta.smtp.client_login.ClientMechanism."""

    name = "LOGIN"
    proven = True

    def __init__(self, user: str, password: str) -> None:
        self._answers = [user.encode(), password.encode()]

    def start(self) -> None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise LoginError("LOGIN: the host asks a third time")
        return self._answers.pop(0)

    def calculated(self, result: bytes) -> bytes:
        return result
