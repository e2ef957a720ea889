"""Our own logins at next hops, from [[credential]]: found by exact host, and never offered to any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mta.config.credential_file import CredentialFileError, read_password
from mta.config.model import Credential
from mta.sasl.password_login import NoPassword, PasswordLogin

HopLogin = PasswordLogin | NoPassword


class Logins:
    """By host and port; port 0 stands for every port of the host."""

    def __init__(self, by_place: Mapping[tuple[str, int], HopLogin]) -> None:
        self._by_place = dict(by_place)

    @classmethod
    def of(cls, credentials: Iterable[Credential], nonce: Callable[[], str]) -> Logins:
        """Reads the password files; one that can't be read makes its host wait, and the others go on."""
        return cls({(each.host, each.port or 0): _login(each, nonce) for each in credentials})

    def find(self, host: str, port: int) -> HopLogin | None:
        """For the exact host as the route names it: the login for that port, else the one for all its ports."""
        found = self._by_place
        if not found:
            return None
        return found.get((host, port)) or found.get((host, 0))


NO_LOGINS = Logins({})


def _login(credential: Credential, nonce: Callable[[], str]) -> HopLogin:
    try:
        password = credential.password if credential.password_file is None else read_password(credential.password_file)
    except CredentialFileError as error:
        return NoPassword(str(error))
    return PasswordLogin(
        credential.user,
        password or "",
        credential.mechanisms,
        require_verified_tls=credential.require_verified_tls,
        nonce=nonce,
    )
