"""The ESMTP factory: holds the twisted.cred portal and makes a session for each connection that is admitted."""

from __future__ import annotations

from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from mta.inbound.deadlines import Deadlines
from mta.inbound.listener import Listener
from mta.inbound.protocol import ESMTP
from mta.inbound.reception import Reception
from mta.mail.address import normalise_peer
from mta.mail.reply import SHUTTING_DOWN, Reply
from mta.telemetry.metrics import counter

CONNECTIONS_REFUSED = counter("mta_connections_refused_total", "Connections refused because there were too many")


class ESMTPFactory(ServerFactory):
    """One listener's factory. `listener` may be replaced at any time: sessions that are open keep theirs."""

    noisy = False

    def __init__(
        self, portal: Portal | None, listener: Listener, reception: Reception, deadlines: Deadlines, clock: IReactorTime
    ) -> None:
        self.portal = portal
        self.listener = listener
        self.reception = reception
        self.deadlines = deadlines
        self.clock = clock
        self.sessions: set[ESMTP] = set()
        self._emptied: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> ESMTP:  # type: ignore[override] # it has its factory from the start
        host, port = getattr(addr, "host", ""), getattr(addr, "port", 0)
        return ESMTP(self, normalise_peer(host) if host else "", port)

    # --- called by the protocols ----------------------------------------------------------------------------------

    def admit(self, connection: ESMTP) -> Reply | None:
        """None: come in. Every protocol that asked is counted until `release`."""
        limits, counts = self.listener.limits, self.reception.counts
        client = connection.session.facts.client_ip
        decision = counts.decide(
            client,
            submission=self.listener.submission,
            most=limits.connections,
            most_per_client=limits.connections_per_client,
            reserved_share=limits.reserved_for_submission,
        )
        counts.enter(client, limits.connections)
        self.sessions.add(connection)
        if self.reception.closing:
            return SHUTTING_DOWN
        if decision.reply is not None:
            CONNECTIONS_REFUSED.value += 1
            self.reception.log.event(
                "connection-refused", client=client, listener=self.listener.name, rule=decision.rule
            )
        return decision.reply

    def release(self, connection: ESMTP) -> None:
        self.sessions.discard(connection)
        self.deadlines.forget(connection)
        session = connection.session
        self.reception.counts.leave(session.facts.client_ip, session.listener.limits.connections)
        self.reception.log.event(
            "disconnected",
            client=session.facts.client_ip,
            port=session.client_port,
            listener=session.facts.listener,
            seconds=round(self.clock.seconds() - connection.opened, 3),
            messages=session.accepted,
            errors=connection.engine.errors,
            tls=session.tls,
            auth=session.facts.authcid,
            reason=connection.closed_because,
        )
        if not self.sessions and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def note_refusal(self, connection: ESMTP, answer: Reply, line: bytes) -> None:
        session = connection.session
        self.reception.log.event(
            "refused",
            client=session.facts.client_ip,
            listener=session.facts.listener,
            helo=session.hello,
            reply=str(answer),
            command=line[:200].decode("utf-8", "backslashreplace"),
        )

    def our_fault(self, failure: Failure, connection: ESMTP) -> None:
        session = connection.session
        self.reception.log.event(
            "fault",
            client=session.facts.client_ip,
            listener=session.facts.listener,
            error=failure.getErrorMessage(),
            traceback=failure.getBriefTraceback(),
        )

    # --- the end --------------------------------------------------------------------------------------------------

    def after_commit(self, connection: ESMTP) -> None:
        """A reply that waited for the disk went out: if we are closing, the session has heard what it must hear."""
        if self.reception.closing and not connection.session.accepting:  # the next message may be on its way already
            connection.close(SHUTTING_DOWN, "shutdown")

    def close_sessions(self) -> Deferred[None]:
        """421 to every session; those with a commit in flight hear its outcome first. Fires when all are gone."""
        for protocol in list(self.sessions):
            if not protocol.session.accepting:
                protocol.close(SHUTTING_DOWN, "shutdown")
        if not self.sessions:
            return succeed(None)
        self._emptied = Deferred()
        return self._emptied

    def abort_sessions(self) -> None:
        for protocol in list(self.sessions):
            transport: Any = protocol.transport
            if transport is not None:
                transport.abortConnection()
