"""Which site a destination belongs to: asked of its agent before the first job, and again when the answer is no longer good.

A destination of which nobody can say it is its own site for a while (law 4: that nobody knows its exchangers is found out by the attempt,
and deferred there). While a good answer is being renewed the old one holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.delivery.agent import OWN_SITE, SiteAnswer
from mta.dns.resolver import Soon
from mta.scheduler.destinations import Destination
from mta.scheduler.heads import Heads
from mta.scheduler.pools import Site

EXAMINED_TURN = 2_000  # destinations looked at in one turn: 0.3 ms
ASKED_TURN = 16  # of them asked for in one turn: a question to the resolver costs some 0.1 ms
ANSWER_MIN_SECONDS, ANSWER_MAX_SECONDS = 60.0, 86400.0

_log = Logger()


class Locates(Protocol):
    """Who knows the sites: the delivery agents."""

    def site(self, destination: str) -> Soon[SiteAnswer]: ...


class Sites:
    """`placed(destination)` is called when a destination that waited for its site has it. Never raises."""

    def __init__(
        self, agents: Locates, clock: IReactorTime, heads: Heads, most: int, placed: Callable[[Destination], None]
    ) -> None:
        self._agents = agents
        self._clock = clock
        self._heads = heads
        self._placed = placed
        self._sites: dict[str, Site[Destination]] = {}
        self._unexamined: Iterator[Destination] = iter(())
        self._call: IDelayedCall | None = None
        self.most = most  # jobs at once to one site, as configured

    def __len__(self) -> int:
        return len(self._sites)

    def configure(self, most: int) -> None:
        if most != self.most:
            self.most = most
            for site in self._sites.values():
                site.limit.allowed = min(site.limit.allowed, most)

    def ask(self, destination: Destination) -> None:
        """Find out where it belongs; it is placed before this returns, or later."""
        if destination.asking:
            return
        destination.asking = True
        try:
            answer = self._agents.site(destination.key)
        except Exception:  # noqa: BLE001 - law 4
            self._nobody_knows(Failure(), destination)
            return
        if isinstance(answer, defer.Deferred):
            answer.addCallback(self._answered, destination)
            answer.addErrback(self._nobody_knows, destination)
        else:
            self._answered(answer, destination)

    def _nobody_knows(self, failure: Failure, destination: Destination) -> None:
        _log.failure("the site of {destination} can't be told", failure, destination=destination.key)
        self._answered(OWN_SITE, destination)

    def _answered(self, answer: SiteAnswer, destination: Destination) -> None:
        destination.asking = False
        if self._heads.destinations.get(destination.key) is not destination:
            return
        destination.placed_until = self._clock.seconds() + min(
            max(answer.ttl_seconds, ANSWER_MIN_SECONDS), ANSWER_MAX_SECONDS
        )
        waited = not destination.placed
        site = self._site(answer.key) if answer.key else None
        if waited or site is not destination.site:
            self._heads.place(destination, site)
        if waited:
            self._placed(destination)

    def _site(self, key: str) -> Site[Destination]:
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = Site(key, self.most)
        return site

    def look(self) -> None:
        """Once a minute: ask again where an answer is old, forget sites of nobody. So much a turn (law 13)."""
        if self._call is None:
            self._unexamined = iter(list(self._heads.destinations.values()))
            self._look_on()

    def stop(self) -> None:
        """No timer of ours remains."""
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _look_on(self) -> None:
        self._call = None
        at, asked = self._clock.seconds(), 0
        for examined, destination in enumerate(self._unexamined, 1):
            if destination.placed_until <= at:
                if destination.waiting or destination.in_flight or destination.loading or destination.suspended_until:
                    self.ask(destination)
                    asked += 1
                else:  # before its next job
                    destination.placed, destination.placed_until = False, float("inf")
            if examined >= EXAMINED_TURN or asked >= ASKED_TURN:
                self._call = self._clock.callLater(0, self._look_on)
                return
        self._forget_sites()

    def _forget_sites(self) -> None:
        for key in [key for key, site in self._sites.items() if not (site.members or site.in_flight)]:
            del self._sites[key]
