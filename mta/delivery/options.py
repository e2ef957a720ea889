"""What the relaying agent takes from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mta.config.model import Configuration
from mta.delivery.logins import NO_LOGINS, Logins
from mta.delivery.mx import NOBODY, Family, Ourselves


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """What the agent takes from the configuration; asked for anew by each connection, so that a reload shows at once."""

    hostname: str
    concurrency: int = 20
    mx_port: int = 25
    ourselves: Ourselves = NOBODY
    family: Family = "ipv4-first"
    logins: Logins = NO_LOGINS

    @classmethod
    def of(
        cls, configuration: Configuration, addresses: frozenset[str] = frozenset(), logins: Logins = NO_LOGINS
    ) -> SmtpOptions:
        """`addresses`: those of this host, normalised: mail that its MX sends there would come back."""
        own = addresses.union(configuration.outbound.own_addresses)
        return cls(
            configuration.hostname,
            configuration.queue.destination_concurrency,
            configuration.test_only.mx_port,
            Ourselves(configuration.hostname, own, configuration.test_only.allow_loopback_mx),
            configuration.outbound.family,
            logins,
        )


class OptionsInForce:
    """Those of the configuration in force, made once for each: they are asked for by every message.

    A new configuration makes the password files of [[credential]] be read again, and is told to `renewed`. `nonce` is for SCRAM;
    `addresses` gives this host's own, which may change at any time.
    """

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        nonce: Callable[[], str],
        addresses: Callable[[], frozenset[str]] = frozenset,
        renewed: Callable[[Configuration], None] = lambda _: None,
    ) -> None:
        self._configuration = configuration
        self._renewed = renewed
        self._nonce = nonce
        self._addresses = addresses
        self._made_from: Configuration | None = None
        self._own: frozenset[str] = frozenset()
        self._logins = NO_LOGINS
        self._options = SmtpOptions("")

    def __call__(self) -> SmtpOptions:
        configuration, own = self._configuration(), self._addresses()
        if configuration is self._made_from and own == self._own:
            return self._options
        if configuration is not self._made_from:
            self._logins = Logins.of(configuration.credential, self._nonce)
            self._renewed(configuration)
        self._options = SmtpOptions.of(configuration, own, self._logins)
        self._made_from, self._own = configuration, own
        return self._options
