"""What all sessions share: the policies in force, the spools, who takes accepted mail on, and the counts.

A session takes its listener's settings when it connects, and policies and tables at each MAIL: so a reload never changes
the rules inside a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from mta.config.model import Configuration
from mta.mail.envelope import Content
from mta.policy.header import HeaderBounds
from mta.policy.limits import ConnectionCounts
from mta.routing.router import Router
from mta.spool.contract import Accepted, Spool
from mta.telemetry.eventlog import EventLog


@dataclass(frozen=True, slots=True)
class Policies:
    """One generation of settings as reception needs them."""

    configuration: Configuration
    generation: int
    router: Router
    header_bounds: HeaderBounds
    in_relay_networks: Callable[[str], bool]  # remembers the clients it was asked of

    @classmethod
    def of(cls, configuration: Configuration, generation: int, router: Router) -> Policies:
        limits = configuration.limits
        bounds = HeaderBounds(limits.header_size, limits.header_fields, limits.header_field_size, limits.hops)
        return cls(configuration, generation, router, bounds, lru_cache(maxsize=4096)(configuration.may_relay))


class Refusals(Protocol):
    """Where refused mail is remembered (mta why). Never blocks, never fails."""

    def note(self, entry: dict[str, object]) -> None: ...


@dataclass(slots=True)
class Reception:
    policies: Policies
    spools: Sequence[Spool]
    deliver: Callable[[Accepted, Content], None]  # accepted mail goes on at once, from memory
    log: EventLog
    refusals: Refusals
    now: Callable[[], float]  # wall time
    owner: int  # this boot
    counts: ConnectionCounts = field(default_factory=ConnectionCounts)
    closing: bool = False
    _turn: int = 0

    def next_spool(self) -> Spool:
        """Messages go round the shards."""
        spools = self.spools
        if len(spools) == 1:
            return spools[0]
        self._turn = (self._turn + 1) % len(spools)
        return spools[self._turn]
