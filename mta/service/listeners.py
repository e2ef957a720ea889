"""The doors: one factory for each [[listener]], its endpoints opened, its settings renewed by a reload."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from mta.config import model
from mta.config.model import Configuration
from mta.inbound.deadlines import Deadlines
from mta.inbound.factory import ESMTPFactory
from mta.inbound.listener import Listener, make_listener
from mta.inbound.reception import Reception
from mta.inbound.streams import ClearStreams
from mta.sasl.authenticator import Authenticator
from mta.tls.server import ServerContexts

BACKLOG_CONNECTIONS = 1000  # waiting in the kernel while we are busy


class EndpointTaken(Exception):
    """An endpoint can't be listened on; the text says which and why."""


def listen_now(reactor: Any, endpoint: str, factory: Any) -> IListeningPort:
    """Listen on an endpoint string, or raise EndpointTaken. Twisted's server endpoints bind at once."""
    results: list[Any] = []
    serverFromString(reactor, _with_backlog(endpoint)).listen(factory).addBoth(results.append)
    if not results:
        raise EndpointTaken(f"{endpoint}: did not open at once")
    if isinstance(results[0], Failure):
        error = results[0].value
        why = error.socketError if isinstance(error, CannotListenError) else error
        raise EndpointTaken(f"can't listen on {endpoint}: {getattr(why, 'strerror', None) or why}")
    port: IListeningPort = results[0]
    return port


def _with_backlog(endpoint: str) -> str:
    if endpoint.startswith(("tcp:", "tcp6:")) and "backlog=" not in endpoint:
        return f"{endpoint}:backlog={BACKLOG_CONNECTIONS}"
    return endpoint


class Doors:
    """All listeners of a process."""

    def __init__(self, reactor: Any, reception: Reception) -> None:
        self._reactor = reactor
        self._reception = reception
        self._streams = ClearStreams(reactor)
        self._deadlines: Deadlines | None = None
        self._factories: dict[str, ESMTPFactory] = {}
        self._ports: list[IListeningPort] = []

    def open(self, configuration: Configuration, authenticator: Authenticator, contexts: ServerContexts | None) -> None:
        """Raises EndpointTaken; what was opened before it is closed again by `close`."""
        self._deadlines = Deadlines(self._reactor)
        self._streams.start()
        for section in configuration.listener:
            listener = self._listener(section, configuration, authenticator, contexts)
            portal = authenticator.portal if listener.profile.auth else None
            factory = ESMTPFactory(portal, listener, self._reception, self._deadlines, self._reactor)
            self._factories[section.name] = factory
            for endpoint in section.endpoints:
                port = listen_now(self._reactor, endpoint, factory)
                self._streams.adopt(port)
                self._ports.append(port)
                self._reception.log.event("listening", listener=section.name, endpoint=endpoint, tls=section.tls)

    def renew(
        self, configuration: Configuration, authenticator: Authenticator, contexts: ServerContexts | None
    ) -> None:
        """New sessions take the new settings; open ones keep theirs. Endpoints stay as they are."""
        for section in configuration.listener:
            factory = self._factories.get(section.name)
            if factory is not None:
                factory.listener = self._listener(section, configuration, authenticator, contexts)
                factory.portal = authenticator.portal if factory.listener.profile.auth else None

    def _listener(
        self,
        section: model.Listener,
        configuration: Configuration,
        authenticator: Authenticator,
        contexts: ServerContexts | None,
    ) -> Listener:
        tls = contexts.context_factory(section.name) if contexts is not None and section.tls != "none" else None
        return make_listener(section, configuration, authenticator=authenticator, tls=tls)

    @property
    def sessions(self) -> int:
        return sum(len(factory.sessions) for factory in self._factories.values())

    def stop_listening(self) -> Deferred[Any]:
        """No new connections; those that wait in the kernel are refused by it."""
        self._reception.closing = True
        ports, self._ports = self._ports, []
        stopping: list[Deferred[Any]] = []
        for port in ports:
            stopped = port.stopListening()
            if isinstance(stopped, Deferred):
                stopping.append(stopped)
        return DeferredList(stopping, consumeErrors=True)

    def close_sessions(self) -> Deferred[Any]:
        """421 to every session; fires when all are gone."""
        return DeferredList([factory.close_sessions() for factory in self._factories.values()], consumeErrors=True)

    def abort_sessions(self) -> None:
        for factory in self._factories.values():
            factory.abort_sessions()

    def close(self) -> None:
        """Last of all."""
        if self._deadlines is not None:
            self._deadlines.stop()
            self._deadlines = None
            self._streams.stop()
