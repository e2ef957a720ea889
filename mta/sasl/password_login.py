"""Our own login at a next hop: which mechanism, and whether this connection may hear the secret at all.

Laws: by default nothing goes out unless the certificate proved the host's name, for a name can be forged in the DNS and a host
offers what it likes. PLAIN and LOGIN, which give the password away, never go in clear text, whatever the configuration says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mta.sasl.mechanisms.login_client import LoginClient
from mta.sasl.mechanisms.plain_client import PlainClient
from mta.sasl.mechanisms.scram_login import ScramLogin
from mta.smtp.client_login import ClientMechanism, LoginError

CLIENT_MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")  # strongest first
_GIVE_THE_PASSWORD_AWAY = frozenset({"PLAIN", "LOGIN"})


class PasswordLogin:
    """A mta.smtp.client_login.Login. `mechanisms`: those allowed, best first."""

    def __init__(
        self,
        user: str,
        password: str,
        mechanisms: Sequence[str] = CLIENT_MECHANISMS,
        *,
        require_verified_tls: bool = True,
        nonce: Callable[[], str],
    ) -> None:
        self._user = user
        self._password = password
        self._mechanisms = tuple(mechanisms)
        self.require_verified_tls = require_verified_tls
        self._nonce = nonce

    def choose(self, offered: frozenset[str], *, tls: bool, verified: bool) -> ClientMechanism:
        if self.require_verified_tls and not verified:
            why = "its certificate could not be verified" if tls else "the connection is not encrypted"
            raise LoginError(f"no login at this host: {why}")
        common = [name for name in self._mechanisms if name in offered]
        if not common:
            told = ", ".join(sorted(offered))[:200] or "none"
            raise LoginError(f"no login at this host: it offers no mechanism that is allowed ({told})")
        fitting = [name for name in common if tls or name not in _GIVE_THE_PASSWORD_AWAY]
        if not fitting:
            raise LoginError(f"no login at this host: {common[0]} needs an encrypted connection")
        match fitting[0]:
            case "PLAIN":
                return PlainClient(self._user, self._password)
            case "LOGIN":
                return LoginClient(self._user, self._password)
            case _:
                return ScramLogin(self._user, self._password, "sha256", self._nonce())


class NoPassword:
    """A Login whose password could not be read: the destination waits until the administrator mends it."""

    require_verified_tls = True

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def choose(self, offered: frozenset[str], *, tls: bool, verified: bool) -> ClientMechanism:
        raise LoginError(f"no login at this host: {self._problem}")
