"""How a login can fail, as types: the user's fault (535), or ours (454). Texts are for the log and hold no secret."""

from __future__ import annotations

from twisted.cred.error import UnauthorizedLogin


class Refused(UnauthorizedLogin):
    """The credentials are not good, or don't give what is asked for."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class NoSuchUser(Refused):
    """This store does not know the user: the next store may. Nothing slow has been computed yet."""


class BackendUnavailable(Exception):
    """The store cannot say now: missing, locked, corrupt, overloaded. Never a 535: the client would drop its password.

    `forbidden`: this process may not read or write it.
    """

    def __init__(self, cause: str, *, forbidden: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.forbidden = forbidden
