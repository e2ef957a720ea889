"""The agent for `mx:domain`, `smtp:[host]:port` and `smtps:`: relaying to the next hop. One NextHop for each destination does the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.threads import deferToThreadPool

from mta.delivery.agent import Attempt, Job, SiteAnswer, same_for_all
from mta.delivery.body import InThread
from mta.delivery.delivery import Delivery
from mta.delivery.dial import dial_endpoint, dial_tcp
from mta.delivery.maildir import BodyPath
from mta.delivery.mx import Shuffles
from mta.delivery.next_hop import NextHop
from mta.delivery.options import SmtpOptions
from mta.delivery.peer import TlsForHost
from mta.delivery.search import Surroundings
from mta.delivery.site import site_of
from mta.dns.resolver import Resolver, Soon
from mta.mail.outcome import Deferred

SWEEP_SECONDS = 1.0  # how exactly deadlines are kept: one timer for all connections costs a message nothing


class SmtpAgent:
    """A DeliveryAgent for the schemes `smtp`, `smtps` and `mx`.

    `reactor`: IReactorTime (its clock keeps every deadline), and IReactorTCP and a thread pool unless `connect` and
    `in_thread` are given. `now`: wall clock, seconds. `tls`: None speaks clear text always.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        resolver: Resolver,
        random: Shuffles,
        now: Callable[[], float],
        options: Callable[[], SmtpOptions],
        body_path: BodyPath,
        tls: TlsForHost | None = None,
        in_thread: InThread | None = None,
        connect: Callable[[str, int], IStreamClientEndpoint] | None = None,
    ) -> None:
        self._reactor = reactor
        self._surroundings = Surroundings(
            reactor,
            resolver,
            random,
            now,
            options,
            body_path,
            in_thread or (lambda work: deferToThreadPool(reactor, reactor.getThreadPool(), work)),
            tls,
            dial_tcp(reactor) if connect is None else dial_endpoint(connect),
        )
        self._hops: dict[str, NextHop] = {}
        self._sweeper: IDelayedCall | None = None
        self._stopping: defer.Deferred[None] | None = None

    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        if self._stopping is not None:
            return defer.succeed(same_for_all(job, Deferred(0, "4.3.2", "shutting down")))
        hop = self._hops.get(job.destination)
        if hop is None:
            try:
                hop = NextHop(job.destination, self._surroundings, self._forget_empty)
            except ValueError:
                return defer.succeed(same_for_all(job, Deferred(0, "4.3.5", f"no destination: {job.destination!r}")))
            self._hops[job.destination] = hop
            self._sweep_later()
        delivery = Delivery(job)
        hop.take(delivery)
        return delivery.result

    def site(self, destination: str) -> Soon[SiteAnswer]:
        return site_of(destination, self._surroundings.resolver)

    def stop(self) -> defer.Deferred[None]:
        """Idle connections say QUIT; those that carry a message are dropped: it is deferred, and uncertain where it must be.

        The caller gives transactions their time before it calls this.
        """
        if self._stopping is None:
            self._stopping = defer.Deferred()
            for hop in list(self._hops.values()):
                hop.stop()
            self._forget_empty()
        return self._stopping

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = self._reactor.callLater(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._reactor.seconds()
        for hop in list(self._hops.values()):
            hop.sweep(now)
        self._forget_empty()
        if self._hops:
            self._sweep_later()

    def _forget_empty(self) -> None:
        for key in [key for key, hop in self._hops.items() if hop.empty]:
            del self._hops[key]
        if self._stopping is not None and not self._hops and not self._stopping.called:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            self._stopping.callback(None)
