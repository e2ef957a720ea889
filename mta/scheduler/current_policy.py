"""The settings in force, as the scheduler uses them. Made anew only when they changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mta.config.model import Configuration
from mta.mail.address import parse_address
from mta.routing.router import Router
from mta.scheduler.settlement import SettlementPolicy


class CurrentSettings(Protocol):
    """What the scheduler needs of a snapshot of the settings."""

    @property
    def configuration(self) -> Configuration: ...

    @property
    def generation(self) -> int: ...


class CurrentPolicy:
    """`settings` and `router` give the snapshots in force; `changed(configuration)` is called when there are others."""

    def __init__(
        self,
        settings: Callable[[], CurrentSettings],
        router: Callable[[], Router],
        new_id: Callable[[], int],
        random: Callable[[], float],
        owner: int,
        lease_seconds: float,
        changed: Callable[[Configuration], None],
    ) -> None:
        self._settings = settings
        self._router = router
        self._new_id = new_id
        self._random = random
        self._owner = owner
        self._lease = lease_seconds
        self._changed = changed
        self._seen: CurrentSettings | None = None
        self._policy: SettlementPolicy

    def policy(self) -> SettlementPolicy:
        settings, router = self._settings(), self._router()
        if settings is not self._seen or router is not self._policy.router:
            self._seen = settings
            self._policy = self._make(settings, router)
            self._changed(settings.configuration)
        return self._policy

    def _make(self, settings: CurrentSettings, router: Router) -> SettlementPolicy:
        configuration = settings.configuration
        queue = configuration.queue
        return SettlementPolicy(
            retry_min=queue.retry_min,
            retry_max=queue.retry_max,
            report_lifetime=queue.report_lifetime,
            hold_reports=queue.hold,
            concurrency=queue.destination_concurrency,
            hostname=configuration.hostname,
            postmaster=parse_address(configuration.postmaster, utf8=True),
            generation=settings.generation,
            router=router,
            new_id=self._new_id,
            random=self._random,
            owner=self._owner,
            lease_seconds=self._lease,
            delay_report_after=queue.delay_report_after,
        )
