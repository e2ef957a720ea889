"""The connections to one destination, and the jobs that want one.

Strategies, and what goes wrong without each:
- Connections are kept for two seconds and a hundred messages: without reuse each message of a batch pays for greeting, EHLO and TLS.
  At most `concurrency` connections to one destination: of more, big hosts refuse them all.
- A job that finds no connection and no room for one waits in line; the next connection that is free takes it.
- A reused connection that ends before the peer said a word about the message is replaced at once: it was closed for idleness, which
  says nothing about the host.
- Recipients too many for one transaction get another on the same connection, not another day.
- After a final dot without an answer there is no next host: a possible duplicate would become a certain one.
- When no host can be had, those who wait in line are deferred too: each would wait for the same time-out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.logger import Logger

from mta.delivery.connection import SmtpConnection
from mta.delivery.delivery import Delivery
from mta.delivery.search import SESSIONS_LIMIT, SHUTTING_DOWN, Search, Surroundings, try_of
from mta.delivery.target import parse_target
from mta.mail.outcome import Deferred, Failed
from mta.smtp.client_events import Cause, Finished, Lack, SessionOver
from mta.telemetry.metrics import counter

IDLE_SECONDS = 2.0
MESSAGES_PER_CONNECTION = 100

_log = Logger()
_reused = counter("mta_smtp_out_reused_total", "Messages sent over a connection that had carried one before")


class NextHop:
    """A Seeker: it owns its connections. Raises ValueError for a key that names no destination."""

    def __init__(self, key: str, surroundings: Surroundings, emptied: Callable[[], None] = lambda: None) -> None:
        self._target = parse_target(key)
        self._around = surroundings
        self._emptied = emptied  # called when the last connection is gone after `stop`
        self._live: set[SmtpConnection] = set()
        self._idle: list[SmtpConnection] = []  # the last used at the end: under little load the others run out
        self._busy: dict[SmtpConnection, Delivery] = {}
        self._opening: dict[SmtpConnection, Search] = {}
        self._searches: set[Search] = set()
        self._waiting: deque[Delivery] = deque()
        self._stopped = False
        self._seconds: Callable[[], float] = surroundings.reactor.seconds
        self.clear_text: dict[str, float] = {}

    @property
    def empty(self) -> bool:
        return not (self._live or self._searches or self._waiting)

    def take(self, delivery: Delivery) -> None:
        if self._idle:
            self._transmit(self._idle.pop(), delivery)
        elif self._has_room:
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
            self._waiting.popleft().conclude(SHUTTING_DOWN)
        for search in list(self._searches):
            search.stop()
        while self._idle:
            self._idle.pop().quit()
        for connection in [*self._busy, *self._opening]:
            connection.abort()

    # --- ConnectionOwner ----------------------------------------------------------------------------------------------

    def opened(self, connection: SmtpConnection) -> None:
        self._live.add(connection)
        self._opening[connection].opened()

    def ready(self, connection: SmtpConnection) -> None:
        search = self._opening.pop(connection, None)
        if search is not None:
            search.ready(connection)
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
        delivery.trail.append(try_of(connection, delivery, end.reply, end.phase.value, self._seconds()))
        if end.lack is not None:
            self._lacks(connection, delivery, end)
        elif not connection.closed or self._stopped or _uncertain(end):
            if not self._stopped and delivery.settle_those_that_fitted(end):
                self._waiting.appendleft(delivery)  # this connection is free in a moment, and takes it
                delivery.used.discard(connection.address)  # or, when it has done its share, another to the same host
                delivery.hosts = None
                return None
            delivery.settle(end)
            return delivery.conclude
        elif connection.messages == 1 or connection.heard_of_message:
            delivery.sessions += 1
            delivery.settle(end, again=delivery.sessions < SESSIONS_LIMIT)
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
        search = self._opening.pop(connection, None)
        if search is not None:
            closed = Deferred(0, "4.4.2", "closed")
            search.over(connection, end or SessionOver(Cause.LOST, connection.phase, closed, closed.text))
        self._next_in_line()
        self._tell_if_emptied()

    # --- Seeker -------------------------------------------------------------------------------------------------------

    def opening(self, connection: SmtpConnection, search: Search) -> None:
        self._opening[connection] = search

    def unreached(self, connection: SmtpConnection) -> None:
        self._opening.pop(connection, None)

    def found(self, search: Search, connection: SmtpConnection | None) -> None:
        self._searches.discard(search)
        delivery = search.delivery
        if connection is not None:
            self._transmit(connection, delivery)
            return
        outcome = delivery.failing or delivery.lacking or Deferred(0, "4.4.1", "no host could be reached")
        delivery.conclude(outcome)
        if not self._live and outcome is not delivery.lacking:
            while self._waiting:  # they would only find the same
                self._waiting.popleft().conclude(outcome)
        self._next_in_line()
        self._tell_if_emptied()

    # --- steps --------------------------------------------------------------------------------------------------------

    @property
    def _has_room(self) -> bool:
        return len(self._busy) + len(self._searches) < self._around.options().concurrency

    def _lacks(self, connection: SmtpConnection, delivery: Delivery, end: Finished) -> None:
        outcome = end.outcomes[0]
        if end.lack is Lack.REQUIRETLS and (connection.note or connection.address in self.clear_text):
            # It offers TLS, which failed: that is no word about the message (law 4).
            delivery.failing = Deferred(0, "4.7.5", f"{connection.host}: TLS failed, and the message needs REQUIRETLS")
        elif isinstance(outcome, Failed):
            delivery.lacking = outcome

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
        if self._waiting and not self._stopped and self._has_room:
            self._seek(self._waiting.popleft())

    def _seek(self, delivery: Delivery) -> None:
        """Find a connection for a delivery; it ends in `_transmit` or in its conclusion."""
        search = Search(delivery, self._target, self._around, self)
        self._searches.add(search)
        search.begin()

    def _tell_if_emptied(self) -> None:
        if self._stopped and self.empty:
            self._emptied()


def _uncertain(end: Finished) -> bool:
    return any(isinstance(outcome, Deferred) and outcome.uncertain for outcome in end.outcomes)
