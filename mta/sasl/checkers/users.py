"""The own user store as a checker: passwords for PLAIN and LOGIN, verifiers for SCRAM.

What reads the database or derives keys runs in a thread. An unknown user costs what a known one does: the same number of
rounds, the same steps (SAFETY: no oracle by time or by form).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from twisted.cred.credentials import ICredentials
from twisted.internet.defer import Deferred, ensureDeferred
from zope.interface import implementer

from mta.sasl.checkers.chain import AvatarId, IStore
from mta.sasl.credentials import IPasswordCredentials, IScramCredentials, IScramSha256Credentials
from mta.sasl.login_cache import LoginCache
from mta.sasl.names import BadName, user_name
from mta.sasl.refusal import BackendUnavailable, NoSuchUser, Refused
from mta.sasl.saslprep import ProhibitedText, saslprep
from mta.sasl.threads import Threads
from mta.sasl.user_database import SETTLED_SECONDS, FileState, UserDatabase
from mta.sasl.verifier import Hash, Verifier, decoy, proves

PASSWORD_HASH: Hash = "sha256"  # the verifier against which a password in clear is checked
WRONG = "wrong password"


@dataclass(frozen=True, slots=True, repr=False)
class _Verdict:
    right: bool
    row: bytes
    state: FileState | None


@implementer(IStore)
class UsersChecker:
    """`wall`: seconds since the epoch, to be compared with the file's times. `domain` is appended to names without one."""

    credentialInterfaces = (  # noqa: N815 - twisted.cred's name
        IPasswordCredentials,
        IScramSha256Credentials,
    )

    def __init__(
        self, database: UserDatabase, *, threads: Threads, cache: LoginCache, domain: str, wall: Callable[[], float]
    ) -> None:
        self._database = database
        self._threads = threads
        self._cache = cache
        self._domain = domain
        self._wall = wall

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[AvatarId]:
        if IScramCredentials.providedBy(credentials):
            return ensureDeferred(self._conversation(credentials))
        return ensureDeferred(self._password(cast(IPasswordCredentials, credentials)))

    def decoy(self, credentials: ICredentials) -> Deferred[AvatarId]:
        if IScramCredentials.providedBy(credentials):
            return ensureDeferred(self._decoy_conversation(credentials))
        return ensureDeferred(self._decoy_password(cast(IPasswordCredentials, credentials)))

    # --- passwords in clear ---------------------------------------------------------------------------------------
    async def _password(self, credentials: IPasswordCredentials) -> AvatarId:
        name, password = self._name(credentials.authcid), _prepared(credentials.secret)
        proved = self._cache.recall(name, password)
        if proved is not None and proved.state is not None and proved.state == self._database.state():
            return name.encode()
        verdict = await self._threads.run(self._check, name, password, proved.row if proved else b"")
        if not verdict.right:
            raise Refused(WRONG)
        if proved is None or proved.state != verdict.state or proved.row != verdict.row:
            self._cache.remember(name, password, verdict.row, verdict.state)
        return name.encode()

    def _check(self, name: str, password: str, proved_row: bytes) -> _Verdict:
        """In a thread. `proved_row`: against this row the password was proved a moment ago."""
        state = self._database.state()  # before the row: a change between the two must show later
        row = self._database.find(name)
        if row is None:
            raise NoSuchUser("unknown user")
        verifier = row.verifiers.get(PASSWORD_HASH)
        if verifier is None:
            raise BackendUnavailable(f"user database {self._database.path}: a user has no {PASSWORD_HASH} verifier")
        fingerprint = row.fingerprint
        settled = state.changed_ns / 1e9 + SETTLED_SECONDS < self._wall()
        right = fingerprint == proved_row or proves(password, verifier)
        return _Verdict(right, fingerprint, state if settled else None)

    async def _decoy_password(self, credentials: IPasswordCredentials) -> AvatarId:
        password = _prepared(credentials.secret)
        await self._threads.run(lambda: proves(password, self._decoy_verifier(credentials.authcid, PASSWORD_HASH)))
        raise Refused("unknown user")

    # --- SCRAM ----------------------------------------------------------------------------------------------------
    async def _conversation(self, credentials: IScramCredentials) -> AvatarId:
        name = self._name(credentials.authcid)
        row = await self._threads.run(self._database.find, name)
        if row is None:
            raise NoSuchUser("unknown user")
        verifier = row.verifiers.get(credentials.hash)
        if verifier is None:
            raise BackendUnavailable(f"user database {self._database.path}: a user has no {credentials.hash} verifier")
        if not await credentials.prove(verifier):
            raise Refused(WRONG)
        return name.encode()

    async def _decoy_conversation(self, credentials: IScramCredentials) -> AvatarId:
        await credentials.prove(await self._threads.run(self._decoy_verifier, credentials.authcid, credentials.hash))
        raise Refused("unknown user")

    def _decoy_verifier(self, authcid: str, hash_name: Hash) -> Verifier:
        try:
            name = user_name(authcid, self._domain)
        except BadName:
            name = authcid
        return decoy(self._database.decoy_secret(), name, hash_name)

    def _name(self, authcid: str) -> str:
        try:
            return user_name(authcid, self._domain)
        except BadName as error:
            raise NoSuchUser(f"no user's name: {error}") from None


def _prepared(password: str) -> str:
    """RFC 4616 section 2: prepared for comparison. What SASLprep prohibits is no user's password, but costs as much."""
    try:
        return saslprep(password)
    except ProhibitedText:
        return password
