"""The search for a connection, for one delivery: one host after the other, until one is ready to hear of the message.

Strategies, and what goes wrong without each:
- A host that can't be reached, refuses us or loses us is followed by the next one: 5 addresses, 2 sessions.
- Opportunistic TLS whose handshake fails is followed by clear text, on a new connection: half a handshake leaves nothing to talk
  over. Clear text behind a STARTTLS is an attack, not a failure, and is not rewarded with clear text.
- Where TLS is required, or we log in, there is no clear text: the host counts as one that refuses us (law 4: nobody fails).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.delivery.agent import Try
from mta.delivery.body import InThread
from mta.delivery.connection import ConnectionOwner, SmtpConnection
from mta.delivery.delivery import Delivery
from mta.delivery.dial import Dial
from mta.delivery.maildir import BodyPath
from mta.delivery.mx import Host, Hosts, Shuffles, hosts_of_domain, hosts_of_name
from mta.delivery.options import SmtpOptions
from mta.delivery.peer import Peer, TlsForHost
from mta.delivery.target import Target, TlsLevel
from mta.dns.resolver import Answer, Resolver
from mta.mail.outcome import Deferred, Failed
from mta.smtp.client import ClientEngine
from mta.smtp.client_events import Cause, SessionOver
from mta.telemetry.metrics import counters

SESSIONS_LIMIT = 2  # SAFETY 1: MX tries
CLEAR_TEXT_SECONDS = 60.0  # one lost handshake must not take TLS from a destination that is never idle

_log = Logger()
_sessions = counters("mta_smtp_out_connections_total", "Connections to next hops", "result")
_opened, _unreachable = _sessions.bound("opened"), _sessions.bound("unreachable")
SHUTTING_DOWN = Deferred(0, "4.3.2", "shutting down")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What next hops need from outside (see SmtpAgent)."""

    reactor: Any
    resolver: Resolver
    random: Shuffles
    now: Callable[[], float]
    options: Callable[[], SmtpOptions]
    body_path: BodyPath
    in_thread: InThread
    tls: TlsForHost | None
    dial: Dial


class Seeker(ConnectionOwner, Interface):
    """Who searches: the owner of all connections to one target. It passes on what a connection tells while it is being opened."""

    clear_text: dict[str, float]  # addresses whose TLS handshake failed, and until when they are spoken to without

    def opening(self, connection: SmtpConnection, search: Search) -> None:
        """This connection belongs to the search until it is ready or over."""

    def unreached(self, connection: SmtpConnection) -> None:
        """It came to no connection."""

    def found(self, search: Search, connection: SmtpConnection | None) -> None:
        """The end of the search; None: the reason is in the delivery."""


class Search:
    """Ends in one call of `found`, whatever happens."""

    __slots__ = (
        "_around",
        "_asking",
        "_connection",
        "_encrypted",
        "_give_up",
        "_host",
        "_level",
        "_mx_authentic",
        "_seeker",
        "_stopped",
        "_target",
        "delivery",
    )

    def __init__(self, delivery: Delivery, target: Target, around: Surroundings, seeker: Seeker) -> None:
        self.delivery = delivery
        self._target = target
        self._around = around
        self._seeker = seeker
        self._connection: SmtpConnection | None = None  # the network has not answered yet
        self._give_up: Callable[[], object] | None = None
        self._asking: defer.Deferred[None] | None = None
        self._host: Host = Host("", "")
        self._level = target.level
        self._encrypted = False
        self._mx_authentic = False
        self._stopped = False

    def begin(self) -> None:
        delivery, target = self.delivery, self._target
        if delivery.hosts is not None:
            self._next_host()
            return
        self._begins()
        address = target.address
        if not address:
            self._asking = defer.Deferred.fromCoroutine(self._ask()).addCallback(self._take_hosts)
            self._asking.addErrback(self._broken)
            return
        try:
            self._take_hosts((Host(target.host, address),))
        except Exception:  # noqa: BLE001 - law 4: a bug of ours defers, and leaves no search behind
            self._broken(Failure())

    def stop(self) -> None:
        """End it soon; a connection that is open already is for its owner to end."""
        self._stopped = True
        if self._connection is not None and self._give_up is not None:
            self._give_up()
        elif self._asking is not None:
            self._asking.cancel()  # an outage of the DNS takes half a minute; nothing, when it was answered

    # --- told by the seeker -------------------------------------------------------------------------------------------

    def opened(self) -> None:
        _opened.value += 1
        self._connection = None

    def ready(self, connection: SmtpConnection) -> None:
        self._seeker.found(self, connection)

    def over(self, connection: SmtpConnection, end: SessionOver) -> None:
        delivery = self.delivery
        self._tried(connection, end.reply, end.phase.value)
        if end.cause is Cause.TLS_FAILED and self._encrypted and self._level is TlsLevel.MAY and not self._stopped:
            self._seeker.clear_text[self._host.address] = self._around.reactor.seconds() + CLEAR_TEXT_SECONDS
            self._open(encrypted=False)
            return
        delivery.failing = end.outcome
        delivery.sessions += 1
        self._next_host()

    # --- steps --------------------------------------------------------------------------------------------------------

    async def _ask(self) -> Hosts | Deferred | Failed:
        around, target, options = self._around, self._target, self._around.options()
        if not target.domain:
            return await hosts_of_name(target.host, around.resolver, options.family, around.random)
        hosts = await hosts_of_domain(target.domain, around.resolver, around.random, options.ourselves, options.family)
        if target.level is not TlsLevel.NONE and not target.domain.startswith("[") and isinstance(hosts, tuple):
            asked = around.resolver.mx(target.domain)  # answered from memory, for it was just asked
            answer = await asked if isinstance(asked, defer.Deferred) else asked
            self._mx_authentic = isinstance(answer, Answer) and answer.authentic
        return hosts

    def _take_hosts(self, hosts: Hosts | Deferred | Failed) -> None:
        delivery = self.delivery
        if not isinstance(hosts, tuple):
            delivery.failing = hosts
            elapsed = self._around.reactor.seconds() - delivery.started
            delivery.trail.append(Try(self._target.name, "", "", hosts.text, delivery.at, elapsed, "DNS"))
            self._seeker.found(self, None)
            return
        delivery.hosts = deque([host for host in hosts if host.address not in delivery.used])
        self._next_host()

    def _next_host(self) -> None:
        delivery = self.delivery
        if self._stopped:
            delivery.failing = SHUTTING_DOWN
        elif delivery.hosts and delivery.sessions < SESSIONS_LIMIT:
            self._host = delivery.hosts.popleft()
            delivery.used.add(self._host.address)
            until = self._seeker.clear_text.get(self._host.address)
            self._open(encrypted=until is None or self._around.reactor.seconds() >= until)
            return
        self._seeker.found(self, None)

    def _open(self, *, encrypted: bool) -> None:
        around, target, host = self._around, self._target, self._host
        self._begins()
        options = around.options()
        login = options.logins.find(target.host, target.port) if target.host else None
        level = target.level
        if login is not None and login.require_verified_tls and level is not TlsLevel.NONE:
            level = TlsLevel.VERIFY
        self._level = level
        required = level >= TlsLevel.ENCRYPT
        self._encrypted = required or (encrypted and level is TlsLevel.MAY and around.tls is not None)
        engine = ClientEngine(
            options.hostname,
            starttls=self._encrypted,
            tls_required=required,
            tls_at_once=target.at_once,
            login=login,
        )
        self._connection = connection = SmtpConnection(
            engine,
            self._seeker,
            around.reactor,
            self._peer(host),
            tls=around.tls,
            in_thread=around.in_thread,
            body_path=around.body_path,
        )
        self._seeker.opening(connection, self)
        port = target.port or options.mx_port
        give_up = around.dial(host.address, port, connection, lambda why: self._not_connected(connection, why))
        if self._connection is connection:  # it did not fail at once
            self._give_up = give_up

    def _peer(self, host: Host) -> Peer:
        name = host.address if host.name.startswith("[") else host.name
        insist = self._level is TlsLevel.VERIFY
        domain = self._target.domain
        if not domain or domain.startswith("["):
            return Peer(host.name, host.address, (name,), (name,), insist)
        return Peer(
            host.name, host.address, (name, domain), (name, domain) if self._mx_authentic else (domain,), insist
        )

    def _not_connected(self, connection: SmtpConnection, problem: str) -> None:
        _unreachable.value += 1
        self._connection = None
        self._seeker.unreached(connection)
        self.delivery.failing = Deferred(0, "4.4.1", f"{self._host.name}: {problem}")
        self._tried(connection, problem, "connect")
        self._next_host()

    def _begins(self) -> None:
        self.delivery.begins(self._around.now(), self._around.reactor.seconds())

    def _tried(self, connection: SmtpConnection, reply: str, phase: str) -> None:
        self.delivery.trail.append(try_of(connection, self.delivery, reply, phase, self._around.reactor.seconds()))

    def _broken(self, failure: Failure) -> None:
        """Our own fault, or our end."""
        if self._stopped and failure.check(defer.CancelledError):
            self.delivery.failing = SHUTTING_DOWN
        else:
            _log.failure("looking for a next hop failed", failure)
            self.delivery.failing = Deferred(0, "4.3.0", "internal error")
        self._seeker.found(self, None)


def try_of(connection: SmtpConnection, delivery: Delivery, reply: str, phase: str, seconds: float) -> Try:
    """The try that ends at `seconds` (monotonic)."""
    return Try(
        connection.host,
        connection.address,
        connection.tls,
        reply,
        delivery.at,
        seconds - delivery.started,
        phase,
        connection.verified,
        connection.login,
        connection.note,
    )
