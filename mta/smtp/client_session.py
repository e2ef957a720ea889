"""What every part of a client's session stands on: commands out, replies in, each reply given to the phase that awaits it.

Nothing here knows what a reply means. Laws: replies are taken in the order of the commands, one for each; what comes when nothing
is awaited ends the session, and so does 421 at any time (RFC 5321 section 3.8); an ended session stays ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from mta.mail.outcome import Deferred
from mta.smtp.client_events import Cause, ClientEvent, Phase, Ready, SessionOver
from mta.smtp.replies import PeerReply, ReplyError, ReplyParser
from mta.smtp.verdict import temporary_status

READY = Ready()
_STATUS = {
    Cause.OURS: "4.3.0",
    Cause.TLS_FAILED: "4.7.5",  # RFC 3463: cryptographic failure
    Cause.TLS_INJECTION: "4.7.0",
    Cause.TLS_MISSING: "4.7.4",  # RFC 3463: security features not supported
    Cause.LOGIN_FAILED: "4.7.0",
    Cause.MALFORMED: "4.5.0",
    Cause.OUT_OF_TURN: "4.5.0",
    Cause.WRONG_CODE: "4.5.0",
}
_SPEAKING = frozenset({Cause.REFUSED, Cause.CLOSING, Cause.LOGIN_FAILED})  # the peer's own words are the reason


class ClientSession:
    """`on`: the table of who takes the reply to what."""

    def __init__(self, on: Mapping[Phase, Callable[[PeerReply], None]]) -> None:
        self._on = on
        self._parser = ReplyParser()
        self._out: list[bytes] = []
        self._events: deque[ClientEvent] = deque()
        self._expected: deque[Phase] = deque()
        self._resting = Phase.READY  # the phase when no reply is awaited
        self._heard = Phase.GREETING
        self.extensions: Mapping[str, str] = {}  # keyword in upper case -> parameters
        self.replies = 0  # heard so far: a sign of life for the adapter's timer

    # --- what the adapter calls ---------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self._expected[0] if self._expected else self._resting

    @property
    def closed(self) -> bool:
        """The session is over: nothing that is given or received changes it."""
        return self._resting is Phase.CLOSED

    def next_event(self) -> ClientEvent | None:
        return self._events.popleft() if self._events else None

    def data_to_send(self) -> bytes:
        """Octets for the peer since the last call."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def receive(self, data: bytes) -> None:
        """Octets from the peer. Never raises for what they are."""
        if not data or self._resting is Phase.CLOSED:
            return
        if self._resting is Phase.HANDSHAKE:
            self._fail(Cause.TLS_INJECTION, "clear text behind the reply to STARTTLS")
            return
        parser = self._parser
        parser.feed(data)
        while True:
            try:
                reply = parser.next_reply()
            except ReplyError as error:
                self._fail(Cause.MALFORMED, str(error))
                return
            if reply is None:
                # What stands here while no reply is awaited need not even be complete to be wrong; an idle session may
                # just be hearing the beginning of its 421.
                if not self._expected and self._resting is Phase.CONTENT and parser.pending:
                    self._fail(Cause.OUT_OF_TURN, "the peer spoke while content was being sent")
                return
            self._take(reply)
            if self.closed:
                return

    def connection_lost(self, text: str) -> None:
        """The peer, or the network, closed the connection (or the handshake failed)."""
        self.fail(Cause.TLS_FAILED if self._resting is Phase.HANDSHAKE else Cause.LOST, text)

    def timed_out(self) -> None:
        """The peer took too long in this phase."""
        cause = Cause.TLS_FAILED if self._resting is Phase.HANDSHAKE else Cause.TIMEOUT
        self.fail(cause, f"timed out waiting for {self.phase.value}")

    def fail(self, cause: Cause, text: str) -> None:
        """The session can't go on, for a reason outside the dialogue."""
        self._fail(cause, text)

    # --- for the parts ------------------------------------------------------------------------------------------------

    def _take(self, reply: PeerReply) -> None:
        self.replies += 1
        expected = self._expected
        if reply.code == 421:
            self._fail(Cause.CLOSING, reply.text, reply)
            return
        if not expected:
            self._fail(Cause.OUT_OF_TURN, f"a reply to nothing: {reply}", reply)
            return
        phase = expected.popleft()
        early = not expected and self._parser.pending
        if early and phase is Phase.STARTTLS:
            expected.append(phase)
            self._fail(Cause.TLS_INJECTION, "clear text behind the reply to STARTTLS")
            return
        if early and phase is Phase.DATA:
            expected.append(phase)
            self._fail(Cause.OUT_OF_TURN, "the peer spoke before content was sent")
            return
        self._heard = phase
        self._on[phase](reply)
        if early and not self.closed:
            # Nothing that we said can be answered yet: what comes would be taken for the answer to our next command.
            self._fail(Cause.OUT_OF_TURN, f"more than a reply to {phase.value}")

    def _command(self, lines: str, *awaited: Phase) -> None:
        """Say one line for each reply that is awaited. Raises ValueError when an argument would break a line (SAFETY 3.5)."""
        data = lines.encode("utf-8")
        count = len(awaited)
        if data.count(b"\n") != count or data.count(b"\r") != count:
            raise ValueError("a CR or LF inside a command")
        self._out.append(data)
        self._expected.extend(awaited)

    def _refused(self, phase: Phase, cause: Cause, reply: PeerReply) -> None:
        """The host says no, in its own words."""
        self._expected.appendleft(phase)
        self._fail(cause, reply.text, reply)

    def _wrong_code(self, phase: Phase, reply: PeerReply) -> None:
        self._expected.appendleft(phase)
        self._fail(Cause.WRONG_CODE, f"a reply to {phase.value} that makes no sense: {reply}", reply)

    def _fail(self, cause: Cause, text: str, reply: PeerReply | None = None) -> None:
        """End the session; whoever waits for this host is deferred (law 4)."""
        if self._resting is Phase.CLOSED:
            return
        if self._events and self._events[-1] is READY:
            self._events.pop()  # not any more
        phase = self.phase
        code, status, said = 0, _STATUS.get(cause, "4.4.2"), text
        if reply is not None and cause in _SPEAKING:
            code, said = reply.code, str(reply)
            status = temporary_status(reply, "4.3.2" if cause is Cause.CLOSING else _STATUS.get(cause, "4.3.0"))
        outcome = Deferred(code, status, text)
        self._break_off(cause, phase, outcome, str(reply) if reply is not None else text)
        self._close()
        self._events.append(SessionOver(cause, phase, outcome, said))

    def _break_off(self, cause: Cause, phase: Phase, outcome: Deferred, said: str) -> None:
        """The session ends: what was under way ends first."""

    def _close(self) -> None:
        self._expected.clear()
        self._out.clear()
        self._resting = Phase.CLOSED
