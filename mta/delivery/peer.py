"""Who should be at the other end of a connection, and how its certificate is held against that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface


class TlsSide(Interface):
    """Our side of one TLS connection (an IOpenSSLClientConnectionCreator); see mta.tls.client.ClientConnection."""

    problem: str
    proven: tuple[str, ...]


class TlsForHost(Interface):
    """Makes it. `names`: what the certificate may prove; `insist`: it must prove one of them."""

    def __call__(self, host: str, /, *, names: Sequence[str], insist: bool) -> TlsSide: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """Who should be at the other end.

    `names`: any of them in a trusted certificate makes the connection verified. `secure_names`: those that nobody could have
    forged, so not what an unsigned MX record says (RFC 8689 section 4.2.1). `insist`: no session unless it is verified.
    """

    host: str
    address: str
    names: tuple[str, ...] = ()
    secure_names: tuple[str, ...] = ()
    insist: bool = False

    @property
    def server_name(self) -> str:
        """For SNI: `[192.0.2.1]` is none."""
        return self.address if self.host.startswith("[") else self.host
