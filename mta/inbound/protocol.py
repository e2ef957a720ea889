"""The Twisted adapter of one session: octets between transport and engine, events between engine and session.

It decides nothing. The pump is a flat loop: 20,000 pipelined commands are 20,000 turns of it. Reading is paused when the
engine's buffer is over its bound, when a disk is slower than the client, or when the client does not read its replies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, cast
from typing import Protocol as TypingProtocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.inbound.deadlines import Deadlines
from mta.inbound.listener import Listener
from mta.inbound.login import Login
from mta.inbound.patience import TimedSession
from mta.inbound.reception import Reception
from mta.inbound.session import Session
from mta.mail import reply
from mta.mail.reply import Reply
from mta.smtp import events
from mta.smtp.events import NEED_DATA, WAITING
from mta.smtp.extensions import ehlo_reply
from mta.smtp.server import INPUT_BOUND_OCTETS, ServerEngine
from mta.smtp.states import Mode
from mta.telemetry.metrics import counter
from mta.tls.describe import describe

PENALTY_SECONDS = 1.0  # what each reply past the soft error limit waits
CLOSING_SECONDS = 10.0  # how long a client may take to read our last word
EVENTS_A_TURN = 400  # law 13: a packet of thousands of commands gives way to others after about 2 ms

SESSIONS_ENDED = counter("mta_sessions_total", "Sessions that ended")
HANDSHAKES_FAILED = counter("mta_tls_handshakes_failed_total", "TLS handshakes of clients that failed")


class Host(TypingProtocol):
    """Who keeps the connections: what a connection needs of its factory."""

    listener: Listener
    reception: Reception
    deadlines: Deadlines
    clock: IReactorTime

    def admit(self, connection: ESMTP) -> Reply | None: ...

    def release(self, connection: ESMTP) -> None: ...

    def after_commit(self, connection: ESMTP) -> None: ...

    def note_refusal(self, connection: ESMTP, answer: Reply, line: bytes) -> None: ...

    def our_fault(self, failure: Failure, connection: ESMTP) -> None: ...


@implementer(IHandshakeListener, IPushProducer)
class ESMTP(TimedSession):
    """One connection."""

    __slots__ = ("_greeting", "_login", "_owed", "_pumping", "_resumption", "closed_because", "factory")
    factory: Host

    def __init__(self, factory: Host, peer: str, port: int) -> None:
        self.factory = factory
        listener = factory.listener
        normalize = listener.profile.normalize or _within(peer, listener.normalize_networks)
        engine = ServerEngine(listener.profile, over_tls=listener.implicit_tls, normalize=normalize)
        engine.mechanisms = listener.mechanisms(over_tls=listener.implicit_tls)
        session = Session(factory.reception, listener, peer, port, self._content_may_flow)
        super().__init__(session, engine, factory.reception.counts, factory.clock)
        self.closed_because = ""
        self._greeting: Reply | None = None  # of implicit TLS, until the handshake is done
        self._login: Login | None = None
        self._owed = 0  # octets of content that the disk has not dealt with
        self._pumping = False
        self._resumption: Any = None

    # --- the connection -------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        factory, listener = self.factory, self.session.listener
        transport = cast(Any, self.transport)
        transport.registerProducer(self, True)
        self.opened = now = factory.clock.seconds()
        refusal = factory.admit(self)
        if refusal is not None and not listener.implicit_tls:
            self.engine.greet(refusal)
            self._pump()
            return
        if listener.implicit_tls and listener.tls is not None:
            self.deadline = now + listener.handshake_timeout
            factory.deadlines.watch(self, self.deadline)
            # The greeting waits for the handshake: Twisted's TLS would pause its writer, and with it the reading that it needs.
            self._greeting = refusal or listener.greeting
            transport.startTLS(listener.tls)
            return
        self.deadline = now + self._command_seconds()
        factory.deadlines.watch(self, self.deadline)
        self.engine.greet(listener.greeting)
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        if self.content_began:
            self.content_octets += len(data)
        self.engine.receive(data)
        self._pump()
        if self.engine.buffered > INPUT_BOUND_OCTETS:
            self._pause("input")

    def handshakeCompleted(self) -> None:
        """IHandshakeListener: TLS is up, by STARTTLS or at once."""
        description = describe(cast(Any, self.transport).getHandle())
        self.engine.mechanisms = self.session.listener.mechanisms(over_tls=True)
        self.session.tls_started(description)
        self.deadline = self.factory.clock.seconds() + self._command_seconds()
        if self._greeting is None:
            self.engine.tls_started()
        else:
            self.engine.greet(self._greeting)
            self._greeting = None
            self._pump()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if self._resumption is not None:
            self._resumption.cancel()
            self._resumption = None
        if self.engine.mode is not Mode.CLOSED:
            self.engine.close(reply.SHUTTING_DOWN, "connection lost")
            self._drain_events()
        self.closed_because = self.closed_because or "connection lost"
        if self.engine.over_tls and not self.session.tls and reason.check(SSL.Error):
            HANDSHAKES_FAILED.value += 1
            self.closed_because = "TLS handshake failed: " + _tls_reason(reason)
        elif self.engine.mode is Mode.CLOSED and reason.check(SSL.Error):
            self.closed_because = "TLS: " + _tls_reason(reason)
        if self._login is not None:
            self._login.abort()
        SESSIONS_ENDED.value += 1
        self.factory.release(self)
        # No circle is left behind: a session's memory is free at once, and the garbage collector has nothing to look for.
        self.session.resume = _nobody_waits

    # --- flow -----------------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The client does not read: no more replies are made for it."""
        self._pause("output")

    def resumeProducing(self) -> None:
        self._go_on("output")
        self._pump()

    def stopProducing(self) -> None:
        """The connection is gone; connectionLost tells."""

    def _pause(self, why: str) -> None:
        if not self._paused_for and self.transport is not None:
            cast(Any, self.transport).pauseProducing()
        self._paused_for.add(why)

    def _go_on(self, why: str) -> None:
        if why in self._paused_for:
            self._paused_for.discard(why)
            if not self._paused_for and self.transport is not None and self.connected:
                cast(Any, self.transport).resumeProducing()

    def _content_may_flow(self) -> None:
        """The disk has caught up."""
        self._go_on("disk")
        self.engine.grant(self._owed)
        self._owed = 0
        self._pump()

    def _flush(self) -> None:
        octets = self.engine.data_to_send()
        if octets and self.transport is not None:
            self.transport.write(octets)

    # --- the pump -------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Flat: answers that come at once are taken in this loop; one that comes later starts it again."""
        if self._pumping or "output" in self._paused_for:
            return
        self._pumping = True
        engine, turns = self.engine, 0
        next_event = engine.next_event
        try:
            while True:
                event = next_event()
                if event is NEED_DATA or event is WAITING:
                    break
                _HANDLERS[type(event)](self, event)
                turns += 1
                if turns >= EVENTS_A_TURN:
                    self._yield_turn()
                    break
                if turns % 64 == 0:
                    self._flush()
                    if "output" in self._paused_for:
                        break
        finally:
            self._pumping = False
        octets = engine.data_to_send()
        mode = engine.mode
        if (turns or octets) and mode is not Mode.CLOSED and mode is not Mode.HANDSHAKE:  # these set their own
            counts, limits = self._counts, self._limits  # NOOP and RSET make no event
            self.deadline = self._seconds() + (limits.stress_timeout if counts.stress else limits.command_timeout)
        if octets and self.transport is not None:
            self.transport.write(octets)
        if self._paused_for and engine.buffered <= INPUT_BOUND_OCTETS:
            self._go_on("input")

    def _yield_turn(self) -> None:
        if self._resumption is None:
            self._resumption = self.factory.clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._resumption = None
        self._pump()

    def _drain_events(self) -> None:
        """After the end: let the session hear of its reset."""
        while (event := self.engine.next_event()) is not WAITING and event is not NEED_DATA:
            if type(event) is events.TransactionEnded:
                self.session.reset()

    def _answer_later(self, answer: Reply, ticket: int) -> None:
        if self.engine.mode is Mode.CLOSED:
            return  # the client is gone, or was sent away; what is stored stays stored
        self.engine.answer(ticket, answer)
        self._pump()
        self.factory.after_commit(self)

    def _fail_later(self, failure: Failure, ticket: int) -> None:
        self.factory.our_fault(failure, self)
        self._answer_later(reply.OUR_FAULT, ticket)

    def _ask(self, decide: Callable[[Any], Reply | Deferred[Reply]], event: Any) -> None:
        """A bug of ours costs a 451, never a lost or refused message (law 4)."""
        try:
            answer = decide(event)
        except Exception:  # noqa: BLE001 - whatever it is, it is ours
            self.factory.our_fault(Failure(), self)
            answer = reply.OUR_FAULT
        if isinstance(answer, Reply):  # asked so, because to ask for a Deferred goes through an abstract class
            self.engine.answer(event.ticket, answer)
        else:
            answer.addCallbacks(self._answer_later, self._fail_later, (event.ticket,), {}, (event.ticket,))

    # --- events ---------------------------------------------------------------------------------------------------

    def _on_hello(self, event: events.Hello) -> None:
        answer = self.session.hello_said(event)
        if event.verb != "HELO":
            engine = self.engine
            answer = ehlo_reply(engine.profile, engine.over_tls, engine.mechanisms)
        self.engine.answer(event.ticket, answer)

    def _on_mail(self, event: events.Mail) -> None:
        self._ask(self.session.mail, event)

    def _on_rcpt(self, event: events.Rcpt) -> None:
        self._ask(self.session.rcpt, event)

    def _on_data(self, event: events.Data) -> None:
        self.content_began, self.content_octets = self._seconds(), self.engine.buffered
        self._ask(self.session.data, event)

    def _on_block(self, event: events.ContentBlock) -> None:
        octets = len(event.data)
        if self.session.block(event.data):
            self.engine.grant(octets)
        else:
            self._owed += octets
            self._pause("disk")

    def _on_end(self, event: events.ContentEnd) -> None:
        self.content_began = 0.0
        self._ask(self.session.end, event)

    def _on_reset(self, event: events.TransactionEnded) -> None:
        self.content_began = 0.0
        self.session.reset()

    def _on_starttls(self, event: events.StartTls) -> None:
        tls = self.session.listener.tls
        if tls is None:
            self.engine.answer(event.ticket, reply.TLS_UNAVAILABLE)
            return
        self.engine.answer(event.ticket, reply.READY_FOR_TLS)
        self._flush()
        if self.engine.mode is Mode.HANDSHAKE:
            self.deadline = self.factory.clock.seconds() + self.session.listener.handshake_timeout
            cast(Any, self.transport).startTLS(tls)

    def _on_auth(self, event: events.AuthStart) -> None:
        if self._login is None:
            self._login = Login(self.session, self.factory.reception)
        self._step(event.ticket, self._login.begin(event.mechanism, event.initial))

    def _on_response(self, event: events.AuthResponse) -> None:
        if self._login is None:
            self.engine.answer(event.ticket, reply.OUR_FAULT)
        else:
            self._step(event.ticket, self._login.respond(event.data))

    def _step(self, ticket: int, step: Deferred[Reply | bytes]) -> None:
        step.addErrback(self._login_failed)
        step.addCallback(self._stepped, ticket)

    def _login_failed(self, failure: Failure) -> Reply:
        self.factory.our_fault(failure, self)
        return reply.AUTH_UNAVAILABLE

    def _stepped(self, step: Reply | bytes, ticket: int) -> None:
        if self.engine.mode is Mode.CLOSED:
            return
        if isinstance(step, bytes):
            self.engine.challenge(ticket, step)
        else:
            self.engine.answer(ticket, step)
            login = self._login
            if login is not None and login.failures >= self.session.listener.auth_failures:
                self.engine.close(reply.TOO_MANY_AUTH_FAILURES, "too many failed logins")
        self._pump()

    def _on_auth_aborted(self, event: events.AuthAborted) -> None:
        if self._login is not None:
            self._login.abort()

    def _on_inquiry(self, event: events.Inquiry) -> None:
        self._ask(self.session.inquiry, event)

    def _on_penalty(self, event: events.Penalty) -> None:
        self.factory.clock.callLater(PENALTY_SECONDS, self._answer_later, event.reply, event.ticket)

    def _on_refused(self, event: events.Refused) -> None:
        self.factory.note_refusal(self, event.reply, event.line)

    def _on_close(self, event: events.Close) -> None:
        self.closed_because = event.reason
        self._flush()
        self.deadline = self.factory.clock.seconds() + CLOSING_SECONDS
        transport = cast(Any, self.transport)
        if transport is not None:
            transport.unregisterProducer()
            transport.loseConnection()


def _nobody_waits() -> None:
    """The disk has caught up with a client that is gone."""


def _within(peer: str, networks: tuple[Any, ...]) -> bool:
    return bool(networks and peer) and any(ipaddress.ip_address(peer) in network for network in networks)


def _tls_reason(reason: Failure) -> str:
    arguments = getattr(reason.value, "args", ())
    if arguments and isinstance(arguments[0], list):
        return "; ".join(str(each[-1]) for each in arguments[0] if each) or "closed"
    return reason.getErrorMessage() or type(reason.value).__name__


_HANDLERS: dict[type, Callable[[ESMTP, Any], None]] = {
    events.Hello: ESMTP._on_hello,
    events.Mail: ESMTP._on_mail,
    events.Rcpt: ESMTP._on_rcpt,
    events.Data: ESMTP._on_data,
    events.ContentBlock: ESMTP._on_block,
    events.ContentEnd: ESMTP._on_end,
    events.TransactionEnded: ESMTP._on_reset,
    events.StartTls: ESMTP._on_starttls,
    events.AuthStart: ESMTP._on_auth,
    events.AuthResponse: ESMTP._on_response,
    events.AuthAborted: ESMTP._on_auth_aborted,
    events.Inquiry: ESMTP._on_inquiry,
    events.Penalty: ESMTP._on_penalty,
    events.Refused: ESMTP._on_refused,
    events.Close: ESMTP._on_close,
}
