"""What the relaying agent takes from the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from mta.config.model import Configuration
from mta.delivery.mx import NOBODY, Family, Ourselves


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """What the agent takes from the configuration; asked for anew by each connection, so that a reload shows at once."""

    hostname: str
    concurrency: int = 20
    mx_port: int = 25
    ourselves: Ourselves = NOBODY
    family: Family = "ipv4-first"

    @classmethod
    def of(cls, configuration: Configuration, addresses: frozenset[str] = frozenset()) -> SmtpOptions:
        """`addresses`: those of this host, normalised: mail that its MX sends there would come back."""
        own = addresses.union(configuration.outbound.own_addresses)
        return cls(
            configuration.hostname,
            configuration.queue.destination_concurrency,
            configuration.test_only.mx_port,
            Ourselves(configuration.hostname, own, configuration.test_only.allow_loopback_mx),
            configuration.outbound.family,
        )
