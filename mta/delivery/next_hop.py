"""The connections to one destination, and the jobs that want one.

Strategies, and what goes wrong without each:
- Connections are kept for two seconds and a hundred messages: without reuse each message of a batch pays for greeting, EHLO and TLS.
  At most `concurrency` connections to one destination: of more, big hosts refuse them all.
- A job that finds no connection and no room for one waits in line; the next connection that is free takes it.
- A reused connection that ends before the peer said a word about the message is replaced at once: it was closed for idleness, which
  says nothing about the host.
- Opportunistic TLS whose handshake fails is followed by clear text, on a new connection: half a handshake leaves nothing to talk
  over. Clear text behind a STARTTLS is an attack, not a failure, and is not rewarded with clear text.
- A host that can't be reached, refuses us or loses us is followed by the next one: 5 addresses, 2 sessions. After a final dot
  without an answer there is no next host: a possible duplicate would become a certain one.
- When no host can be had, those who wait in line are deferred too: each would wait for the same time-out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from mta.delivery.agent import Attempt, Job, Try
from mta.delivery.body import InThread
from mta.delivery.connection import SmtpConnection, TlsForHost
from mta.delivery.maildir import BodyPath
from mta.delivery.mx import Host, Hosts, Shuffles, hosts_of_domain, hosts_of_name
from mta.delivery.options import SmtpOptions
from mta.delivery.rendition import AS_ACCEPTED
from mta.dns.resolver import Resolver
from mta.mail.envelope import Recipient
from mta.mail.outcome import Deferred, Failed, Outcome
from mta.smtp.client import ClientEngine
from mta.smtp.client_events import Cause, Finished, SessionOver
from mta.telemetry.metrics import counter, counters

IDLE_SECONDS = 2.0
MESSAGES_PER_CONNECTION = 100
SESSIONS_LIMIT = 2  # SAFETY 1: MX tries

_log = Logger()
_sessions = counters("mta_smtp_out_connections_total", "Connections to next hops", "result")
_opened, _unreachable = _sessions.bound("opened"), _sessions.bound("unreachable")
_reused = counter("mta_smtp_out_reused_total", "Messages sent over a connection that had carried one before")
_SHUTTING_DOWN = Deferred(0, "4.3.2", "shutting down")


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
    connect: Callable[[str, int], IStreamClientEndpoint]


class Delivery:
    """One job on its way, over as many connections as it takes."""

    __slots__ = (
        "at",
        "failing",
        "hosts",
        "job",
        "lacking",
        "left",
        "outcomes",
        "result",
        "sessions",
        "started",
        "trail",
        "used",
    )

    def __init__(self, job: Job) -> None:
        self.job = job
        self.result: defer.Deferred[Attempt] = defer.Deferred()
        self.left: tuple[Recipient, ...] = job.recipients  # without an outcome
        self.outcomes: dict[int, Outcome] = {}
        self.trail: list[Try] = []
        self.used: set[str] = set()  # addresses
        self.hosts: deque[Host] | None = None  # not tried yet; None: not asked for yet
        self.sessions = 0  # that came to nothing
        self.at = self.started = 0.0  # of the current try: wall clock, monotonic
        self.failing: Outcome | None = None  # what went wrong last
        self.lacking: Failed | None = None  # a host lacks what the message needs

    def tried(self, host: str, address: str, tls: str, reply: str, seconds: float, phase: str) -> None:
        self.trail.append(Try(host, address, tls, reply, self.at, seconds - self.started, phase))

    def conclude(self, outcome: Outcome | None = None) -> None:
        """All is said; whoever is left gets `outcome`."""
        if outcome is not None:
            for recipient in self.left:
                self.outcomes[recipient.id] = outcome
        self.left = ()
        self.result.callback(Attempt(self.outcomes, tuple(self.trail), AS_ACCEPTED))


class NextHop:
    """A ConnectionOwner. Raises ValueError for a key that names no destination."""

    def __init__(self, key: str, surroundings: Surroundings, emptied: Callable[[], None] = lambda: None) -> None:
        self._around = surroundings
        self._emptied = emptied  # called when the last connection is gone after `stop`
        self._domain = self._name = ""
        self._port = 0
        scheme, _, rest = key.partition(":")
        if scheme == "mx" and rest:
            self._domain = rest
        else:
            host, bracket, port = rest.removeprefix("[").rpartition("]")
            if scheme != "smtp" or not bracket or not host:
                raise ValueError(key)
            self._name, self._port = host.removeprefix("IPv6:"), int(port.removeprefix(":") or 25)
        self._live: set[SmtpConnection] = set()
        self._idle: list[SmtpConnection] = []  # the last used at the end: under little load the others run out
        self._busy: dict[SmtpConnection, Delivery] = {}
        self._opening: dict[SmtpConnection, defer.Deferred[SessionOver | None]] = {}
        self._connecting: set[defer.Deferred[Any]] = set()
        self._seeking = 0  # deliveries that look for a new connection
        self._waiting: deque[Delivery] = deque()
        self._clear_text: set[str] = set()  # addresses whose TLS handshake failed
        self._stopped = False
        self._seconds: Callable[[], float] = surroundings.reactor.seconds

    @property
    def empty(self) -> bool:
        return not (self._live or self._seeking or self._waiting)

    def take(self, delivery: Delivery) -> None:
        if self._idle:
            self._transmit(self._idle.pop(), delivery)
        elif len(self._busy) + self._seeking < self._around.options().concurrency:
            self._seek(delivery)
        else:
            self._waiting.append(delivery)

    def sweep(self, now: float) -> None:
        """Keep deadlines, and let go of connections that nobody used for a while."""
        for connection in [each for each in self._idle if now - each.idle_since >= IDLE_SECONDS]:
            self._idle.remove(connection)
            connection.quit()
        for connection in list(self._live):
            connection.check_deadline(now)

    def stop(self) -> None:
        self._stopped = True
        while self._waiting:
            self._waiting.popleft().conclude(_SHUTTING_DOWN)
        for attempt in list(self._connecting):
            attempt.cancel()
        while self._idle:
            self._idle.pop().quit()
        for connection in [*self._busy, *self._opening]:
            connection.abort()

    # --- ConnectionOwner ----------------------------------------------------------------------------------------------

    def ready(self, connection: SmtpConnection) -> None:
        opening = self._opening.pop(connection, None)
        if opening is not None:
            opening.callback(None)
        elif self._stopped or connection.messages >= MESSAGES_PER_CONNECTION:
            connection.quit()
            self._next_in_line()
        elif self._waiting:
            self._transmit(connection, self._waiting.popleft())
        else:
            connection.idle_since = self._seconds()
            self._idle.append(connection)

    def finished(self, connection: SmtpConnection, end: Finished) -> Callable[[], None] | None:
        delivery = self._busy.pop(connection, None)
        if delivery is None:
            return None
        delivery.tried(connection.host, connection.address, connection.tls, end.reply, self._seconds(), end.phase.value)
        if end.lack is not None:
            outcome = end.outcomes[0]
            delivery.lacking = outcome if isinstance(outcome, Failed) else None
        elif not connection.closed or self._stopped or _uncertain(end):
            self._settle(delivery, end)
            return delivery.conclude
        elif connection.messages == 1 or connection.heard_of_message:
            delivery.sessions += 1
            self._settle(delivery, end, again=delivery.sessions < SESSIONS_LIMIT)
            if not delivery.left:
                return delivery.conclude
        else:  # it had gone stale: nothing was learned about this host
            delivery.used.discard(connection.address)
            delivery.hosts = None
        return lambda: self._seek(delivery)

    def over(self, connection: SmtpConnection, end: SessionOver | None) -> None:
        self._live.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        opening = self._opening.pop(connection, None)
        if opening is not None:
            opening.callback(end or SessionOver(Cause.LOST, connection.phase, Deferred(0, "4.4.2", "closed")))
        self._next_in_line()
        if self._stopped and self.empty:
            self._emptied()

    # --- steps --------------------------------------------------------------------------------------------------------

    def _settle(self, delivery: Delivery, end: Finished, again: bool = False) -> None:
        """Take the outcomes; with `again`, those that are deferred stay to be tried elsewhere."""
        left = []
        for recipient, outcome in zip(delivery.left, end.outcomes, strict=True):
            if again and isinstance(outcome, Deferred):
                left.append(recipient)
                delivery.failing = outcome
            else:
                delivery.outcomes[recipient.id] = outcome
        delivery.left = tuple(left)

    def _transmit(self, connection: SmtpConnection, delivery: Delivery) -> None:
        self._busy[connection] = delivery
        delivery.used.add(connection.address)
        delivery.at, delivery.started = self._around.now(), self._seconds()
        if connection.messages:
            _reused.value += 1
        message, override = delivery.job.message, delivery.left[0].reverse_path
        reverse_path = message.reverse_path if override is None else override
        try:
            connection.transmit(message, reverse_path, delivery.left, delivery.job.content)
        except Exception:  # noqa: BLE001 - law 4: our fault, and nobody knows what the connection's state is now
            _log.failure("a message could not be sent")
            if self._busy.pop(connection, None) is not None:
                delivery.conclude(Deferred(0, "4.3.0", "internal error"))
            connection.abort()

    def _next_in_line(self) -> None:
        if self._waiting and not self._stopped and len(self._busy) + self._seeking < self._around.options().concurrency:
            self._seek(self._waiting.popleft())

    def _seek(self, delivery: Delivery) -> None:
        """Find a connection for a delivery; it ends in `_transmit` or in its conclusion."""
        self._seeking += 1

        def found(connection: SmtpConnection | None) -> None:
            self._seeking -= 1
            if connection is not None:
                self._transmit(connection, delivery)
                return
            outcome = delivery.failing or delivery.lacking or Deferred(0, "4.4.1", "no host could be reached")
            delivery.conclude(outcome)
            if not self._live and outcome is not delivery.lacking:
                while self._waiting:  # they would only find the same
                    self._waiting.popleft().conclude(outcome)
            self._next_in_line()
            if self._stopped and self.empty:
                self._emptied()

        def broken(failure: Any) -> None:
            _log.failure("looking for a next hop failed", failure)
            delivery.failing = Deferred(0, "4.3.0", "internal error")
            found(None)

        defer.Deferred.fromCoroutine(self._find(delivery)).addCallbacks(found, broken).addErrback(
            lambda failure: _log.failure("a delivery was lost sight of", failure)
        )

    async def _find(self, delivery: Delivery) -> SmtpConnection | None:
        if delivery.hosts is None:
            delivery.at, delivery.started = self._around.now(), self._seconds()
            hosts = await self._hosts()
            if not isinstance(hosts, tuple):
                delivery.failing = hosts
                delivery.tried(self._domain or self._name, "", "", hosts.text, self._seconds(), "DNS")
                return None
            delivery.hosts = deque(host for host in hosts if host.address not in delivery.used)
        while delivery.hosts and delivery.sessions < SESSIONS_LIMIT:
            if self._stopped:
                delivery.failing = _SHUTTING_DOWN
                break
            connection = await self._connect(delivery.hosts.popleft(), delivery)
            if connection is not None:
                return connection
        return None

    async def _hosts(self) -> Hosts | Deferred | Failed:
        around, options = self._around, self._around.options()
        if self._domain:
            return await hosts_of_domain(
                self._domain, around.resolver, around.random, options.ourselves, options.family
            )
        return await hosts_of_name(self._name, around.resolver, options.family)

    async def _connect(self, host: Host, delivery: Delivery) -> SmtpConnection | None:
        """A connection that is ready, or None; what went wrong is in the delivery."""
        around = self._around
        delivery.used.add(host.address)
        modes = (True, False) if around.tls is not None and host.address not in self._clear_text else (False,)
        for starttls in modes:
            delivery.at, delivery.started = around.now(), self._seconds()
            connection = SmtpConnection(
                ClientEngine(around.options().hostname, starttls=starttls),
                self,
                around.reactor,
                host=host.name,
                address=host.address,
                tls=around.tls,
                in_thread=around.in_thread,
                body_path=around.body_path,
            )
            ready: defer.Deferred[SessionOver | None] = defer.Deferred()
            self._opening[connection] = ready
            problem = await self._open(connection, host)
            if problem:
                self._opening.pop(connection, None)
                _unreachable.value += 1
                delivery.failing = Deferred(0, "4.4.1", f"{host.name}: {problem}")
                delivery.tried(host.name, host.address, "", problem, self._seconds(), "connect")
                return None
            _opened.value += 1
            self._live.add(connection)
            end = await ready
            if end is None:
                return connection
            delivery.failing = end.outcome
            said = " ".join(part for part in (str(end.outcome.code or ""), end.outcome.text) if part)
            delivery.tried(host.name, host.address, connection.tls, said, self._seconds(), end.phase.value)
            if end.cause is not Cause.TLS_FAILED or self._stopped:
                break
            self._clear_text.add(host.address)
        delivery.sessions += 1
        return None

    async def _open(self, connection: SmtpConnection, host: Host) -> str:
        """ "" when it is connected, else why not."""
        factory = Factory.forProtocol(lambda: connection)
        factory.noisy = False
        attempt = self._around.connect(host.address, self._port or self._around.options().mx_port).connect(factory)
        self._connecting.add(attempt)
        try:
            await attempt
        except Exception as problem:  # noqa: BLE001 - refused, unreachable, timed out, cancelled: no connection
            return str(problem).rstrip(".")[:200] or type(problem).__name__
        finally:
            self._connecting.discard(attempt)
        return ""


def _uncertain(end: Finished) -> bool:
    return any(isinstance(outcome, Deferred) and outcome.uncertain for outcome in end.outcomes)
