"""The logins of a house: which mechanisms are offered, and an exchange for each AUTH. Holds the Portal of twisted.cred.

A mechanism is offered when it is configured, some checker can serve its credentials, and the TLS state allows it.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, gatherResults

from mta.config.model import Auth, Configuration
from mta.mail import reply
from mta.mail.address import Address
from mta.mail.reply import Reply
from mta.sasl.checkers.chain import Chain, IStore
from mta.sasl.checkers.users import UsersChecker
from mta.sasl.exchange import CallLater, Exchange
from mta.sasl.login_cache import LoginCache
from mta.sasl.mechanisms.step import ChannelBinding, Surroundings
from mta.sasl.names import BadName, user_name
from mta.sasl.realm import MayActAs, SenderRealm, only_oneself
from mta.sasl.refusal import BackendUnavailable
from mta.sasl.registry import MECHANISMS, Mechanism
from mta.sasl.threads import BoundedThreads, Threads
from mta.sasl.throttle import Throttle
from mta.sasl.user_database import UserDatabase
from mta.sasl.user_table import UserTable

_NAME_SHOWN = 32
_NONCE_OCTETS = 18  # 24 characters of base64
_HINTS = {"NTLM": "the client has SPA (Secure Password Authentication) on; it must be off"}


class MechanismRefused(KeyError):
    """The mechanism may not be used now: `reply` tells the client, `cause` the log. A KeyError: it is not among the offered."""

    def __init__(self, refusal: Reply, cause: str) -> None:
        super().__init__(cause)
        self.reply = refusal
        self.cause = cause


class Authenticator:
    """Built from a snapshot of settings; the throttle outlives a reload (build_authenticator)."""

    def __init__(
        self,
        portal: Portal,
        mechanisms: Sequence[str],
        *,
        domain: str,
        throttle: Throttle,
        call_later: CallLater,
        random: Callable[[int], bytes],
        tables: Sequence[UserTable] = (),
        threads: BoundedThreads | None = None,
    ) -> None:
        self.portal = portal
        self.throttle = throttle
        self.threads = threads
        self._domain = domain
        self._call_later = call_later
        self._random = random
        self._tables = tuple(tables)
        configured = [MECHANISMS[name] for name in mechanisms if _served(portal, MECHANISMS[name])]
        self._over_tls = {one.name: one for one in configured}
        self._in_clear = {one.name: one for one in configured if not one.clear}
        self._names_over_tls, self._names_in_clear = tuple(self._over_tls), tuple(self._in_clear)

    def start(self) -> None:
        """Threads may exist from here on (after the daemon's fork)."""
        if self.threads is not None:
            self.threads.start()

    def stop(self) -> None:
        if self.threads is not None:
            self.threads.stop()

    def offered(self, *, tls: bool | str) -> tuple[str, ...]:
        """The mechanisms for EHLO, in the configuration's order: the same tuple each time."""
        return self._names_over_tls if tls else self._names_in_clear

    def exchange(
        self, mechanism: str, *, peer: str, tls: bool | str, channel_binding: ChannelBinding | None = None
    ) -> Exchange:
        """A new exchange. `peer` is normalised. Raises MechanismRefused, whose reply says why."""
        name = mechanism.upper()  # RFC 4422 section 3.1; old clients write it in lower case
        chosen = (self._over_tls if tls else self._in_clear).get(name)
        if chosen is None:
            raise self._refusal(name)
        surroundings = Surroundings(
            self._nonce, channel_binding, plus_offered=bool(tls) and name + "-PLUS" in self._over_tls
        )
        return Exchange(
            name,
            chosen.server(surroundings),
            client_first=chosen.client_first,
            portal=self.portal,
            throttle=self.throttle,
            call_later=self._call_later,
            account=self._account,
            peer=peer,
        )

    def exists(self, address: Address) -> bool:
        """Is it the address of a user, with or without a subaddress? Raises BackendUnavailable when nobody can know."""
        return self.user(address) != ""

    def user(self, address: Address) -> str:
        """The user whose address it is, "" for none. Raises BackendUnavailable."""
        unavailable: BackendUnavailable | None = None
        for table in self._tables:
            try:
                name = table.user(address)
            except BackendUnavailable as error:
                unavailable = error
            else:
                if name:
                    return name
        if unavailable is not None:
            raise unavailable
        return ""

    def refresh(self) -> Deferred[bool]:
        """See whether the stores have changed; call it every few seconds. Fires with whether one had; never fails."""
        return gatherResults([table.refresh() for table in self._tables]).addCallback(any)

    def _refusal(self, name: str) -> MechanismRefused:
        if name in self._over_tls:
            return MechanismRefused(reply.AUTH_NEEDS_TLS, f"{name} needs TLS")
        if not self._over_tls:
            return MechanismRefused(reply.AUTH_NOT_OFFERED, "no mechanism is offered here")
        cause = f"{name[:_NAME_SHOWN]} is not offered"
        return MechanismRefused(reply.UNKNOWN_MECHANISM, f"{cause}: {_HINTS[name]}" if name in _HINTS else cause)

    def _nonce(self) -> str:
        return base64.b64encode(self._random(_NONCE_OCTETS)).decode()

    def _account(self, authcid: str) -> str:
        """One key for all spellings of a name: guesses are counted together."""
        try:
            return user_name(authcid, self._domain)
        except BadName:
            return authcid[:320]


def _served(portal: Portal, mechanism: Mechanism) -> bool:
    """A checker of a more general interface serves too: twisted.cred's own password checkers do PLAIN and LOGIN."""
    return any(mechanism.credentials.isOrExtends(interface) for interface in portal.listCredentialsInterfaces())


def login_domain(configuration: Configuration) -> str:
    """What is appended to a login without a domain: auth.realm, or the domain of the host name."""
    if configuration.auth.realm:
        return configuration.auth.realm
    _, _, domain = configuration.hostname.partition(".")
    return domain if "." in domain else configuration.hostname


def build_authenticator(
    configuration: Configuration,
    *,
    reactor: Any,
    previous: Authenticator | None = None,
    wall: Callable[[], float] = time.time,
    random: Callable[[int], bytes] = os.urandom,
    threads: Threads | None = None,
    may_act_as: MayActAs = only_oneself,
) -> Authenticator:
    """The authenticator of a configuration. User tables are read here and now; what can't be read stays "not known".

    `previous`: the one before a reload; its throttle and threads go on. `threads`: for tests.
    """
    auth, domain = configuration.auth, login_domain(configuration)
    pool = previous.threads if previous is not None and previous.threads is not None else BoundedThreads(reactor)
    runner = threads if threads is not None else pool
    throttle = previous.throttle if previous is not None else Throttle(reactor.seconds)
    stores, tables = _users(auth, domain, runner, reactor.seconds, wall, random)
    return Authenticator(
        Portal(SenderRealm(domain, may_act_as), chains(stores)),
        auth.mechanisms,
        domain=domain,
        throttle=throttle,
        call_later=reactor.callLater,
        random=random,
        tables=tables,
        threads=pool,
    )


def chains(stores: Sequence[IStore]) -> list[ICredentialsChecker]:
    """One checker for each interface that some store serves."""
    served: dict[Any, list[IStore]] = {}
    for store in stores:
        for interface in store.credentialInterfaces:
            served.setdefault(interface, []).append(store)
    return [Chain(interface, serving) for interface, serving in served.items()]


def _users(
    auth: Auth,
    domain: str,
    threads: Threads,
    clock: Callable[[], float],
    wall: Callable[[], float],
    random: Callable[[int], bytes],
) -> tuple[list[IStore], list[UserTable]]:
    """The stores of kind "users", one a backend."""
    stores: list[IStore] = []
    tables: list[UserTable] = []
    for backend in auth.backend:
        database = UserDatabase(backend.path)
        cache = LoginCache(random(32), clock, auth.cache_seconds)
        stores.append(UsersChecker(database, threads=threads, cache=cache, domain=domain, wall=wall))
        table = UserTable(database, threads)
        table.load()
        tables.append(table)
    return stores, tables
