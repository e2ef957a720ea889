"""One connection to a next hop: the Twisted face of the client engine. It decides nothing; it moves octets and keeps time.

Whoever opened it is told through `ConnectionOwner`; nothing is told twice, and nothing after `over`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from typing import Protocol as Interface

from twisted.internet.interfaces import IHandshakeListener, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TcpConnection
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.delivery.body import BodyStream, InThread
from mta.delivery.dial import why
from mta.delivery.maildir import BodyPath
from mta.delivery.peer import Peer, TlsForHost, TlsSide
from mta.mail.address import Address
from mta.mail.envelope import Content, Message, Recipient
from mta.smtp.client import ClientEngine
from mta.smtp.client_events import (
    Calculate,
    Cause,
    ClientEvent,
    Farewell,
    Finished,
    Phase,
    Ready,
    SendContent,
    SessionOver,
    StartTls,
)
from mta.smtp.stuffing import BareNewlineError

# Seconds a phase may take: SAFETY 1, RFC 5321 section 4.5.3.2. The wait for the last reply is never shortened: the peer may have
# the message already, and who gives up too early sends it twice.
TIMEOUTS_SECONDS = {
    Phase.GREETING: 300.0,
    Phase.HELLO: 300.0,
    Phase.STARTTLS: 300.0,
    Phase.HANDSHAKE: 60.0,
    Phase.AUTH: 300.0,
    Phase.CALCULATION: 60.0,  # ours
    Phase.READY: 300.0,
    Phase.MAIL: 300.0,
    Phase.RCPT: 300.0,
    Phase.DATA: 120.0,
    Phase.CONTENT: 180.0,
    Phase.DOT: 600.0,
    Phase.RESET: 20.0,
    Phase.QUIT: 5.0,
    Phase.CLOSED: 5.0,
}


class ConnectionOwner(Interface):
    def opened(self, connection: SmtpConnection) -> None:
        """The network connected it; from here it ends in `over`."""

    def ready(self, connection: SmtpConnection) -> None:
        """It can take a message: after the hello, and after each message."""

    def finished(self, connection: SmtpConnection, end: Finished) -> Callable[[], None] | None:
        """What became of the message it had. What is returned is called when all else has been told: then the connection is
        free, and who is told of his message and sends another finds it so."""

    def over(self, connection: SmtpConnection, end: SessionOver | None) -> None:
        """It is gone; None: in peace, by QUIT."""


@implementer(IHandshakeListener)
class SmtpConnection(Protocol):
    """`deadline` (of the clock given) is when the current phase has taken too long; the owner looks after it."""

    def __init__(
        self,
        engine: ClientEngine,
        owner: ConnectionOwner,
        clock: IReactorTime,
        peer: Peer,
        *,
        tls: TlsForHost | None,
        in_thread: InThread,
        body_path: BodyPath,
    ) -> None:
        self._engine = engine
        self._owner: ConnectionOwner | None = owner
        self._clock = clock
        self._peer = peer
        self._tls_for = tls
        self._tls_side: TlsSide | None = None
        self._in_thread = in_thread
        self._body_path = body_path
        self._content: Content | None = None
        self._message: Message | None = None
        self._stream: BodyStream | None = None
        self._replies = -1
        self._pumping = False
        self._direct = True  # nothing waits in the transport's buffer
        self._later: deque[Callable[[], None]] = deque()
        self.host, self.address = peer.host, peer.address
        self.tls = ""  # version and cipher
        self.verified = False  # the certificate proved one of the peer's names
        self.messages = 0  # that it was given
        self.idle_since = 0.0  # set by the owner
        self.deadline = 0.0

    # --- for the owner ------------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self._engine.phase

    @property
    def closed(self) -> bool:
        return self._engine.closed

    @property
    def heard_of_message(self) -> bool:
        """Has the peer said anything about the message that it has, or had?"""
        return self._engine.last_reply is not None

    @property
    def login(self) -> str:
        """The mechanism by which we logged in, or ""."""
        return self._engine.logged_in

    @property
    def note(self) -> str:
        """What went wrong on the way here and did not end it."""
        refusal = self._engine.starttls_refusal
        return f"STARTTLS refused: {refusal}" if refusal is not None else ""

    def transmit(
        self, message: Message, reverse_path: Address, recipients: Sequence[Recipient], content: Content
    ) -> None:
        """Send a message; the owner hears `finished`. Lawful after `ready`. Raises ValueError (see the engine)."""
        self._engine.send(message, reverse_path, recipients, content.size)
        self._direct = self._all_has_gone()
        self._message, self._content = message, content
        self.messages += 1
        self._pump()

    def quit(self) -> None:
        self._engine.quit()
        self._pump()
        if self._engine.closed:
            self.abort()

    def check_deadline(self, now: float) -> None:
        if now >= self.deadline:
            if self._engine.closed or self._engine.phase is Phase.QUIT:
                self.abort()
            else:
                self._engine.timed_out()
                self._pump()

    def abort(self) -> None:
        """Drop it now. A message under way is deferred."""
        self._engine.fail(Cause.OURS, "the connection was dropped by this host")
        self._pump()
        self._abort_transport()

    # --- Twisted's side -----------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        self.deadline = self._clock.seconds() + TIMEOUTS_SECONDS[Phase.GREETING]
        if self._owner is not None:
            self._owner.opened(self)
        self._pump()  # TLS at once is for us to begin

    def dataReceived(self, data: bytes) -> None:
        self._engine.receive(data)
        self._pump()

    def handshakeCompleted(self) -> None:
        transport: Any = self.transport
        handle = transport.getHandle()
        self.tls = f"{handle.get_protocol_version_name()} {handle.get_cipher_name() or ''}".rstrip()
        side = self._tls_side
        proven = side.proven if side is not None else ()
        self.verified = bool(proven)
        if (
            self._peer.insist and not proven
        ):  # never, for the handshake would have failed; what is at stake is a password
            self._engine.fail(Cause.TLS_FAILED, "the certificate could not be verified")
        else:
            self._engine.tls_started(verified=any(name in self._peer.secure_names for name in proven))
        self._pump()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_stream()
        if not self._engine.closed:
            in_quit = self._engine.phase is Phase.QUIT
            self._engine.connection_lost(self._loss(reason))
            if in_quit:
                self._let_go(None)
        self._pump()
        self._let_go(None)

    def _loss(self, reason: Failure) -> str:
        if self._engine.phase is not Phase.HANDSHAKE:
            return f"connection lost: {why(reason)}"
        side = self._tls_side
        if side is not None and side.problem and self._peer.insist:
            return f"the certificate can't be verified: {side.problem}"  # RFC 8460 section 4.3 has the word
        return f"TLS handshake failed: {why(reason)}"

    # --- between them -------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Tell what happened, send what is to be sent. A flat loop: what an owner does when it is told comes back in here."""
        if self._pumping:
            return
        self._pumping = True
        engine = self._engine
        later = self._later
        try:
            while True:
                if (event := engine.next_event()) is not None:
                    self._tell(event)
                elif later:
                    later.popleft()()
                else:
                    break
        finally:
            self._pumping = False
        data = engine.data_to_send()
        if data and self.transport is not None:
            self._write(data)
        if data or engine.replies != self._replies:
            # A reply or a command moves the deadline, a trickle of octets does not.
            self._replies = engine.replies
            self.deadline = self._clock.seconds() + TIMEOUTS_SECONDS[engine.phase]

    def _write(self, data: bytes) -> None:
        """Straight to the socket when nothing waits before it: the reactor's turn for writing costs more than the sending.

        What the socket does not take, and every trouble, is the transport's affair.
        """
        transport: Any = self.transport
        if self._direct and isinstance(transport, TcpConnection) and not transport.TLS:
            try:
                sent = transport.getHandle().send(data)
            except OSError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self._direct = False  # until the next message
        transport.write(data)

    def _all_has_gone(self) -> bool:
        """A peer may answer before it has heard all: nothing may overtake what still waits in the transport."""
        transport = self.transport
        return self._direct or (
            isinstance(transport, TcpConnection) and not (transport.dataBuffer or transport._tempDataLen)
        )

    def _tell(self, event: ClientEvent) -> None:
        kind = type(event)
        if kind is Finished:
            self._content = self._message = None
            self._stop_stream()
            if self._owner is not None and (step := self._owner.finished(self, event)) is not None:  # type: ignore[arg-type]
                self._later.append(step)
        elif kind is Ready:
            if self._owner is not None:
                self._owner.ready(self)
        elif kind is SendContent:
            self._send_content()
        elif kind is StartTls:
            self._start_tls()
        elif kind is Calculate:
            self._calculate(event)  # type: ignore[arg-type]
        elif kind is SessionOver:
            self._let_go(event)  # type: ignore[arg-type]
            self._abort_transport()
        elif kind is Farewell and self.transport is not None:
            # It is over when it is closed: a peer may leave its half open for ever, and the deadline is the owner's to keep.
            self.transport.loseConnection()
        # RecipientReplied and FinalReplied are in the outcomes of Finished

    def _let_go(self, end: SessionOver | None) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.over(self, end)

    def _abort_transport(self) -> None:
        self._stop_stream()
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _start_tls(self) -> None:
        transport: Any = self.transport
        peer = self._peer
        if self._tls_for is None:
            self._engine.fail(Cause.TLS_FAILED, "TLS is not to be had here")
            return
        try:
            self._tls_side = self._tls_for(peer.server_name, names=peer.names, insist=peer.insist)
            transport.startTLS(self._tls_side)
        except Exception as problem:  # noqa: BLE001 - contexts, names that are no SNI names: TLS is not to be had
            self._engine.fail(Cause.TLS_FAILED, f"TLS could not begin: {type(problem).__name__}")
            return
        self.deadline = self._clock.seconds() + TIMEOUTS_SECONDS[Phase.HANDSHAKE]

    def _calculate(self, event: Calculate) -> None:
        def done(result: bytes) -> None:
            self._engine.calculated(result)
            self._pump()

        def failed(failure: Failure) -> None:
            self._engine.fail(Cause.OURS, f"the login could not be calculated: {type(failure.value).__name__}")
            self._pump()

        self._in_thread(event.work).addCallbacks(done, failed)

    def _send_content(self) -> None:
        """Header, empty line, body and the end in one write, when the body is in memory."""
        engine, content, message = self._engine, self._content, self._message
        if content is None or message is None:
            return
        try:
            if isinstance(content.body, bytes):
                engine.content(content.header, b"\r\n", content.body)
                engine.end_content()
                return
            engine.content(content.header, b"\r\n")
        except BareNewlineError as problem:
            engine.fail(Cause.OURS, str(problem))
            return
        path = self._body_path(message, content.body)
        self._stream = BodyStream(path, content.body.size, self._in_thread, self._give, self._end, self._broken)
        transport: Any = self.transport
        self._direct = False
        transport.write(engine.data_to_send())
        transport.registerProducer(self._stream, True)
        self._stream.resumeProducing()

    def _give(self, block: bytes) -> None:
        self._guarded(lambda: self._engine.content(block))

    def _end(self) -> None:
        self._stop_stream()
        self._guarded(self._engine.end_content)

    def _broken(self, problem: Exception) -> None:
        self._engine.fail(Cause.OURS, f"the stored body can't be read: {problem}")
        self._pump()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BareNewlineError as problem:
            self._engine.fail(Cause.OURS, str(problem))
        self._pump()

    def _stop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.stopProducing()
            transport: Any = self.transport
            if transport is not None:
                transport.unregisterProducer()
