"""Several stores, asked in the order of the configuration. The Portal takes one checker an interface: this one.

The first store that knows the user decides. A store that can't answer does not hide the ones behind it, but if none of
them says yes, the answer is "not now". When no store knows the user, the first one plays the decoy: it takes as long as it
would for a user of its own, and fails at the same step.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from zope.interface import implementer

from mta.sasl.refusal import BackendUnavailable, NoSuchUser

AvatarId = bytes | tuple[()]  # twisted.cred's: a user's name; the empty tuple would be anonymous


class IStore(ICredentialsChecker):
    """A checker that takes its place in the chain: for a user that it doesn't have it raises NoSuchUser, at once."""

    def decoy(credentials: ICredentials) -> Deferred[AvatarId]:  # noqa: N805 - an interface's methods have no self
        """Behave as for a user with another password: the same work, the same step, then Refused."""


@implementer(ICredentialsChecker)
class Chain:
    """All stores that serve `interface`."""

    def __init__(self, interface: type[ICredentials], stores: Sequence[IStore]) -> None:
        self.credentialInterfaces = (interface,)
        self._stores = tuple(stores)

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[AvatarId]:
        return ensureDeferred(self._ask(credentials))

    async def _ask(self, credentials: ICredentials) -> AvatarId:
        unavailable: BackendUnavailable | None = None
        for store in self._stores:
            try:
                return await maybeDeferred(store.requestAvatarId, credentials)
            except NoSuchUser:
                continue
            except BackendUnavailable as error:
                unavailable = error
        if unavailable is not None:
            raise unavailable
        return await self._stores[0].decoy(credentials)
