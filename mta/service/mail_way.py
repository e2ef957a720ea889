"""The way of the mail through one process, from the doors to the agents: put together from the settings and what it stands on.

It opens no spool and no log, starts no thread of its own and knows no clock but those it is given: the daemon and the simulated
houses of mta.testing put the same parts together here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from mta.config.settings import Settings
from mta.delivery.maildir import Threads
from mta.dns.resolver import Resolver
from mta.inbound.reception import Policies, Reception, Refusals
from mta.mail.envelope import Content
from mta.mail.identifiers import shard_of
from mta.routing.router import Router, build_router
from mta.sasl.authenticator import Authenticator
from mta.scheduler.scheduler import Scheduler
from mta.service.listeners import Doors
from mta.service.way_out import make_agents
from mta.spool.contract import Accepted, Spool
from mta.telemetry.eventlog import EventLog
from mta.tls.client import ClientContexts
from mta.tls.server import ServerContexts


class MailWay:
    """`settings` gives the snapshot in force, `now` wall time; `owner` names this boot in the rows it claims.

    `threads` do the file work of local mailboxes; None: a few of their own. Raises RoutingError.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Callable[[], Settings],
        *,
        spools: Sequence[Spool],
        refusals: Refusals,
        authenticator: Authenticator,
        server_contexts: ServerContexts | None,
        client_contexts: ClientContexts,
        resolver: Resolver,
        log: EventLog,
        now: Callable[[], float],
        owner: int,
        random: random.Random,
        threads: Threads | None = None,
        addresses: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self.server_contexts = server_contexts
        self.authenticator = authenticator
        self.router = make_router(settings(), authenticator)
        self.agents = make_agents(
            reactor,
            spools,
            lambda: settings().configuration,
            client_contexts,
            resolver,
            now=now,
            random=random,
            threads=threads,
            addresses=addresses,
        )
        self.schedulers = {
            spool.shard: Scheduler(
                spool=spool,
                agents=self.agents,
                clock=reactor,
                now=now,
                owner=owner,
                settings=settings,
                router=lambda: self.router,
                random=random.random,
                log=log,
            )
            for spool in spools
        }
        self.reception = Reception(
            policies=Policies.of(settings().configuration, settings().generation, self.router),
            spools=spools,
            deliver=self._take_on,
            log=log,
            refusals=refusals,
            now=now,
            owner=owner,
        )
        self.doors = Doors(reactor, self.reception)

    def _take_on(self, accepted: Accepted, content: Content) -> None:
        """Reception and delivery meet only in the spool; what it has just taken is offered to its shard's scheduler."""
        self.schedulers[shard_of(accepted.message.id)].offer(accepted, content)

    def open(self, settings: Settings) -> None:
        """Open the doors. Raises EndpointTaken."""
        self.doors.open(settings.configuration, self.authenticator, self.server_contexts)

    def start(self) -> Deferred[Any]:
        """Mail that waits in the spools may go. Fails with SpoolError."""
        return gatherResults([scheduler.start() for scheduler in self.schedulers.values()])

    def renew(self, settings: Settings, authenticator: Authenticator, router: Router) -> None:
        """`settings` are in force from now on: new sessions, transactions and attempts take them."""
        self.authenticator, self.router = authenticator, router
        self.reception.policies = Policies.of(settings.configuration, settings.generation, router)
        self.doors.renew(settings.configuration, authenticator, self.server_contexts)
        for scheduler in self.schedulers.values():
            scheduler.wake()


def make_router(settings: Settings, authenticator: Authenticator) -> Router:
    """Raises RoutingError."""
    return build_router(
        settings.configuration,
        generation=settings.generation,
        positions=settings.positions,
        users=authenticator.exists,
    )
