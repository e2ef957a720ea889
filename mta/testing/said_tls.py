"""TLS on a fake network, where a handshake is a word: what each side is like, without a single prime number.

A server's side is a Certificate for some names, or NoTls. The client's side learns which of the names that it wants are proven, as
mta.tls.client's does; with `insist` it ends the connection when none is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Certificate:
    """Trusted, for these names; for none, it is signed by itself."""

    names: tuple[str, ...] = ()


class NoTls:
    """A server with which no handshake succeeds."""


class ClientSide:
    """A mta.delivery.peer.TlsSide."""

    def __init__(self, names: Sequence[str], insist: bool) -> None:
        self._names, self._insist = tuple(names), insist
        self.problem = ""
        self.proven: tuple[str, ...] = ()

    def accepts(self, certificate: object) -> bool:
        """Look at what the other side showed."""
        shown = certificate.names if isinstance(certificate, Certificate) else ()
        self.proven = tuple(name for name in self._names if name in shown)
        if self._names and not self.proven:
            self.problem = "certificate-host-mismatch" if shown else "validation-failure"
        return not (self._insist and self.problem)


class SaidContexts:
    """In the place of ServerContexts and ClientContexts."""

    def __init__(self, *names: str) -> None:
        self._certificate = Certificate(names)

    def context_factory(self, name: str, *, names: Sequence[str] | None = None, insist: bool = False) -> object:
        """A listener's side, or, with `names`, a client's."""
        return self._certificate if names is None else ClientSide(names, insist)

    def reload(self, *_: object) -> list[object]:
        """There is nothing to read."""
        return []
