"""How a connection begins. Straight to the reactor: an endpoint makes five objects and two Deferreds for each connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

from twisted.internet.interfaces import IAddress, IConnector, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.python.failure import Failure

CONNECT_TIMEOUT_SECONDS = 30.0  # SAFETY 1


class Dial(Interface):
    """Connects `protocol`, or calls `failed` with the reason; never neither. What is returned gives up a connection not made yet."""

    def __call__(
        self, address: str, port: int, protocol: Protocol, failed: Callable[[str], None], /
    ) -> Callable[[], object]: ...


class _Once(ClientFactory):
    """For one connection. `protocol` is made already: it knows its host and its owner."""

    noisy = False

    def __init__(self, protocol: Protocol, failed: Callable[[str], None]) -> None:
        self._protocol = protocol
        self._failed = failed

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._failed(why(reason))


def dial_tcp(reactor: Any) -> Dial:
    """`address` is an address, IPv4 or IPv6: nothing is looked up."""

    def dial(address: str, port: int, protocol: Protocol, failed: Callable[[str], None]) -> Callable[[], object]:
        connector = reactor.connectTCP(address, port, _Once(protocol, failed), timeout=CONNECT_TIMEOUT_SECONDS)
        stop: Callable[[], object] = connector.stopConnecting
        return stop

    return dial


def dial_endpoint(endpoint_for: Callable[[str, int], IStreamClientEndpoint]) -> Dial:
    """Through endpoints of the caller's choice: for what is no plain TCP."""

    def dial(address: str, port: int, protocol: Protocol, failed: Callable[[str], None]) -> Callable[[], object]:
        factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        attempt = endpoint_for(address, port).connect(factory)
        attempt.addErrback(lambda reason: failed(why(reason)))
        return attempt.cancel

    return dial


def why(reason: Failure) -> str:
    """In words that fit into a journal line."""
    return reason.getErrorMessage().rstrip(".")[:200] or type(reason.value).__name__
