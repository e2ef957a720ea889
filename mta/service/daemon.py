"""The daemon: its parts in the order of the mail's way, started from the far end, stopped from the near one.

start: event log → spools → logins, TLS, router → schedulers → listeners → control socket, metrics → READY
stop:  no new connections → 421 to the open ones, commits in flight finish → schedulers, agents → spools → event log
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from mta.admin.archive import FileArchive
from mta.admin.control import ControlFactory, SocketTaken
from mta.admin.control import listen as listen_for_control
from mta.admin.house import House, Reloaded
from mta.config.load import load_settings
from mta.config.problem import ConfigurationError
from mta.config.settings import Settings, restart_keys
from mta.dns.servers import DnsOptions
from mta.dns.stub import StubResolver
from mta.routing.router import RoutingError
from mta.sasl.authenticator import build_authenticator
from mta.service.listeners import EndpointTaken, listen_now
from mta.service.mail_way import MailWay, make_router
from mta.service.own_addresses import OwnAddresses
from mta.service.process import notify_systemd, settle_memory, watchdog_seconds
from mta.spool.contract import SpoolError, SpoolLocked
from mta.spool.root import SpoolRoot
from mta.telemetry.eventlog import EventLog
from mta.telemetry.exposition import MetricsFactory
from mta.tls.certificate import TlsError
from mta.tls.client import ClientContexts
from mta.tls.server import ServerContexts

EX_UNAVAILABLE, EX_TEMPFAIL, EX_CONFIG = 69, 75, 78  # sysexits.h
SESSIONS_END_SECONDS = 20.0  # for open sessions at a shutdown; then their connections are cut
HOUSEKEEPING_SECONDS = 5.0
RETENTION_SECONDS = 600.0  # how often old days of the history are looked for
USERS_LOOK_SECONDS = 2.0
_log = Logger()


class Daemon(Service):
    """Everything of one process. Nothing is opened before startService."""

    def __init__(self, settings: Settings, reactor: Any, now: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._reactor = reactor
        self._now = now
        self._owner = int.from_bytes(os.urandom(7), "big") | 1  # names this boot in the rows it claims
        self._calls: list[LoopingCall] = []
        self._ports: list[IListeningPort] = []
        self._started_at = 0.0
        self._retained_at = float("-inf")
        self._ready = False

    # --- start ----------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Leaves with 75 when another daemon has the spool, 69 when a port is taken, 78 for what configuration can mend."""
        super().startService()  # type: ignore[no-untyped-call]
        self._started_at = self._now()
        log = self.settings.configuration.log
        self._event_log = EventLog(self._reactor, log.path, form=log.format)
        try:
            self._event_log.start()
            self._open_spools()
            self._build()
            self._way.open(self.settings)
            self._open_admin()
        except SpoolLocked as error:
            self._leave(EX_TEMPFAIL, error)
        except EndpointTaken as error:
            self._leave(EX_UNAVAILABLE, error)
        except (SpoolError, TlsError, RoutingError, SocketTaken) as error:
            self._leave(EX_CONFIG, error)
        except OSError as error:
            self._leave(EX_CONFIG, f"{error.filename}: {error.strerror}" if error.filename else error)
        self._reactor.callWhenRunning(self._begin)

    def _leave(self, code: int, why: object) -> None:
        sys.stderr.write(f"mta: {why}\n")
        sys.stderr.flush()
        # Threads of the spool and the log may be running; nothing was accepted, so nothing is owed to anybody.
        os._exit(code)

    def _open_spools(self) -> None:
        self._root = SpoolRoot(self.settings.configuration.spool, reactor=self._reactor, now=self._now)
        self._spools = self._root.open()

    def _build(self) -> None:
        configuration, reactor = self.settings.configuration, self._reactor
        self._authenticator = build_authenticator(configuration, reactor=reactor)
        self._authenticator.start()
        server_contexts = ServerContexts(configuration.tls) if configuration.tls.certificate else None
        self._resolver = StubResolver(reactor, DnsOptions.of(configuration))
        self._way = MailWay(
            reactor,
            lambda: self.settings,
            spools=self._spools,
            refusals=self._root.refusals,
            authenticator=self._authenticator,
            server_contexts=server_contexts,
            client_contexts=ClientContexts(),
            resolver=self._resolver,
            log=self._event_log,
            now=self._now,
            owner=self._owner,
            random=random.SystemRandom(),
            addresses=OwnAddresses(lambda: self.settings.configuration, reactor.seconds),
        )

    def _open_admin(self) -> None:
        configuration = self.settings.configuration
        self.house = House(
            settings=lambda: self.settings,
            spools=self._spools,
            archive=FileArchive(self._root.history, self._root.refusals.folder, self._root.in_thread),
            schedulers=tuple(self._way.schedulers.values()),
            reception=self._way.reception,
            log=self._event_log,
            reload=self.reload,
            now=self._now,
            started_at=self._started_at,
            boot=self._owner,
            pause=lambda: deferLater(self._reactor, 0),
            parts={"sessions": lambda: self._way.doors.sessions},
        )
        factory = ControlFactory(self.house, lambda work: self._reactor.callLater(0, work))
        self._ports.append(listen_for_control(self._reactor, configuration.control.socket, factory))
        if configuration.metrics.endpoint:
            self._ports.append(listen_now(self._reactor, configuration.metrics.endpoint, MetricsFactory()))

    def _begin(self) -> None:
        """The reactor runs: mail that waits in the spool may go."""
        self._way.start().addCallbacks(lambda _: self._say_ready(), self._failed_to_start)

    def _say_ready(self) -> None:
        self._every(HOUSEKEEPING_SECONDS, self._keep_house)
        self._every(USERS_LOOK_SECONDS, self._refresh_users)
        if watchdog_seconds():
            self._every(watchdog_seconds(), lambda: notify_systemd("WATCHDOG=1"))
        settle_memory()
        self._ready = True
        notify_systemd("READY=1")
        self._event_log.event("started", generation=self.settings.generation, pid=os.getpid(), shards=len(self._spools))

    def _failed_to_start(self, failure: Any) -> None:
        _log.failure("the queue could not be taken up", failure)
        self._leave(EX_TEMPFAIL, f"the queue could not be taken up: {failure.getErrorMessage()}")

    def _every(self, seconds: float, work: Callable[[], object]) -> None:
        call = LoopingCall(work)
        call.clock = self._reactor
        call.start(seconds, now=False).addErrback(lambda failure: _log.failure("a periodic task failed", failure))
        self._calls.append(call)

    def _refresh_users(self) -> Deferred[bool]:
        """Of the authenticator in force: a reload makes a new one."""
        return self._authenticator.refresh()

    async def _keep_spools(self) -> None:
        """Finished mail into the history; the history within its bounds."""
        now = self._now()
        for spool in self._spools:
            while await spool.move_finished(now) and not self._way.reception.closing:
                pass
        if self._reactor.seconds() - self._retained_at >= RETENTION_SECONDS:
            self._retained_at = self._reactor.seconds()
            await self._root.retain(now)

    def _keep_house(self) -> Deferred[None]:
        """History moves on; a spool that is failing at the moment is tried again next time."""
        return ensureDeferred(self._keep_spools()).addErrback(
            lambda failure: self._event_log.event("housekeeping-failed", error=failure.getErrorMessage())
        )

    # --- reload ---------------------------------------------------------------------------------------------------

    def reload(self) -> Deferred[Reloaded]:
        """New settings, all or nothing: with any problem the old ones stay in force."""
        return ensureDeferred(self._reload())

    async def _reload(self) -> Reloaded:
        old = self.settings
        try:
            new = load_settings(old.path, old.generation + 1)
            authenticator = build_authenticator(new.configuration, reactor=self._reactor, previous=self._authenticator)
            router = make_router(new, authenticator)
        except ConfigurationError as error:
            return Reloaded(old.generation, problems=tuple(str(problem) for problem in error.problems))
        except RoutingError as error:
            return Reloaded(old.generation, problems=(str(error),))
        try:
            await self._event_log.reopen()
        except OSError as error:
            return Reloaded(old.generation, problems=(f"the event log can't be opened: {error}",))
        contexts = self._way.server_contexts
        problems = contexts.reload(new.configuration.tls) if contexts is not None else []
        if problems:
            return Reloaded(old.generation, problems=tuple(str(problem) for problem in problems))
        self.settings, self._authenticator = new, authenticator
        self._root.table = new.configuration.spool
        self._resolver.configure(DnsOptions.of(new.configuration))
        self._way.renew(new, authenticator, router)
        return Reloaded(new.generation, tuple(restart_keys(old, new)))

    # --- stop -----------------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        notify_systemd("STOPPING=1")
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        for call in self._calls:
            if call.running:
                call.stop()
        doors = self._way.doors
        await doors.stop_listening()
        await self._within(SESSIONS_END_SECONDS, doors.close_sessions(), doors.abort_sessions)
        for port in self._ports:
            await self._step("a port", port.stopListening())
        for scheduler in self._way.schedulers.values():
            await self._step("a scheduler", scheduler.stop())
        await self._step("the agents", self._way.agents.stop())
        self._resolver.close()
        self._authenticator.stop()
        await self._step("the spool", self._root.close())
        doors.close()
        self._event_log.event("stopped", seconds=round(self._now() - self._started_at, 1))
        await self._event_log.stop()

    async def _step(self, what: str, work: Awaitable[Any] | None) -> None:
        """What fails in stopping must not keep the rest from stopping."""
        try:
            if work is not None:
                await work
        except Exception:  # noqa: BLE001
            _log.failure("{what} did not stop well", what=what)

    async def _within(self, seconds: float, work: Deferred[Any], otherwise: Callable[[], None]) -> None:
        timer = self._reactor.callLater(seconds, otherwise)
        await work
        if timer.active():
            timer.cancel()
