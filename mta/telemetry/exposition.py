"""Metrics over HTTP: one page, GET /metrics, for Prometheus on this machine.

twisted.web would add 15 MB to a process for it. One request a connection, bounded in octets and in time; the endpoint comes from
[metrics], which insists on a named interface.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from mta.telemetry.metrics import exposition

REQUEST_LIMIT_OCTETS = 8192
REQUEST_TIMEOUT_SECONDS = 10
CONNECTIONS_MAX = 20
_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class MetricsProtocol(Protocol, TimeoutMixin):
    """Reads a request's head, answers, closes."""

    def __init__(self, factory: MetricsFactory) -> None:
        self._factory = factory
        self._received = b""
        self._answered = False

    def connectionMade(self) -> None:
        self.setTimeout(REQUEST_TIMEOUT_SECONDS)  # type: ignore[no-untyped-call]
        self._factory.connections += 1
        if self._factory.connections > CONNECTIONS_MAX:
            self._answer(b"503 Service Unavailable", b"too many connections\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.connections -= 1
        self.setTimeout(None)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        if self._answered:
            return
        self._received += data
        if b"\r\n\r\n" in self._received or b"\n\n" in self._received:
            self._request(self._received.split(b"\n", 1)[0].strip().split(b" "))
        elif len(self._received) > REQUEST_LIMIT_OCTETS:
            self._answer(b"431 Request Header Fields Too Large", b"too much\n")

    def _request(self, words: list[bytes]) -> None:
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            self._answer(b"400 Bad Request", b"this is an HTTP port for metrics\n")
        elif words[0] not in {b"GET", b"HEAD"}:
            self._answer(b"405 Method Not Allowed", b"GET only\n")
        elif words[1].partition(b"?")[0] != b"/metrics":
            self._answer(b"404 Not Found", b"see /metrics\n")
        else:
            self._answer(b"200 OK", self._factory.page(), head_only=words[0] == b"HEAD")

    def _answer(self, status: bytes, body: bytes, *, head_only: bool = False) -> None:
        self._answered = True
        head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        assert self.transport is not None
        self.transport.write(head % (status, _TYPE, len(body)) + (b"" if head_only else body))
        self.transport.loseConnection()


class MetricsFactory(Factory):
    """For an endpoint's `listen`."""

    noisy = False

    def __init__(self, page: Callable[[], bytes] = exposition) -> None:
        self.page = page
        self.connections = 0

    def buildProtocol(self, addr: IAddress | None) -> MetricsProtocol:
        return MetricsProtocol(self)
