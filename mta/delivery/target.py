"""The key of a next hop, understood: where mail goes, and how private the way must be. Pure; the configuration writes such keys.

    mx:example.org                   smtp:[smart.example.org]:587           smtps:[smart.example.org]:465 (TLS at once)
    mx:example.org;tls=verify        smtp:[192.0.2.1]:25;tls=none

The level is a part of the key: mail that must go encrypted and mail that need not have connections of their own.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache

from mta.config.via import TLS_MARK


class TlsLevel(enum.IntEnum):
    """Each asks for more than the one before."""

    NONE = 0  # never
    MAY = 1  # when it is offered; clear text when the handshake fails (RFC 7435)
    ENCRYPT = 2  # or the mail waits
    VERIFY = 3  # with a certificate that proves the host's name, or the mail waits


@dataclass(frozen=True, slots=True)
class Target:
    """`domain` by its MX, or else the one `host`. `port` 0: that of MX hosts. `at_once`: TLS before the greeting (RFC 8314).

    `address` is the host's, when it is named by one.
    """

    domain: str
    host: str
    port: int
    level: TlsLevel
    at_once: bool = False
    address: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return self.domain or self.host


@lru_cache(maxsize=1024)  # a destination is forgotten and met again with each message, when its connection is not kept
def parse_target(key: str) -> Target:
    """Raises ValueError for a key that names no next hop."""
    place, mark, word = key.partition(TLS_MARK)
    try:
        level = TlsLevel[word.upper()] if mark else TlsLevel.MAY
    except KeyError:
        raise ValueError(f"unknown level of TLS in {key!r}") from None
    scheme, _, rest = place.partition(":")
    if scheme == "mx" and rest:
        return Target(rest, "", 0, level)
    host, bracket, port = rest.removeprefix("[").rpartition("]")
    if scheme not in {"smtp", "smtps"} or not bracket or not host:
        raise ValueError(f"no next hop: {key!r}")
    at_once = scheme == "smtps"
    if at_once:
        level = max(level, TlsLevel.ENCRYPT)
    number = int(port.removeprefix(":") or (465 if at_once else 25))
    host = host.removeprefix("IPv6:")
    return Target("", host, number, level, at_once, _address(host))


def _address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""
