"""The client's side of an SMTP or LMTP session, without I/O and without a clock.

    engine = ClientEngine("mail.example.org")
    engine.receive(octets)                       # from the peer
    while (event := engine.next_event()): ...    # what happened
    transport.write(engine.data_to_send())

States, each named by the reply that is awaited (`phase`; its time limit is the adapter's):

    GREETING ─→ HELLO ─→ [STARTTLS ─→ HANDSHAKE ─→ HELLO] ─→ READY ─send()─→ MAIL ─→ RCPT ─→ DATA ─→ CONTENT ─→ DOT ─→ READY
                  └─ refused: HELO, once                                      └── nobody taken, or refused: RESET ─→ READY
    quit(): QUIT ─→ CLOSED.        Anything that no reply should be: CLOSED, by a SessionOver that defers.

With PIPELINING (RFC 2920) MAIL, every RCPT and DATA go out together, in lock step otherwise; outcomes are the same.
Laws: a 5xx to the greeting, EHLO or STARTTLS fails nobody; 421 anywhere defers; whatever the peer does, each recipient of
`send` gets exactly one outcome in one Finished; once the final dot was given out, a lost connection is `uncertain`.
What the peer says in clear text behind its 220 to STARTTLS is an attack (CVE-2011-0411, the client's side): the session ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from mta.mail.address import Address
from mta.mail.envelope import Message, Notify, Recipient
from mta.mail.outcome import Deferred, Failed, Outcome, Relayed
from mta.smtp.client_events import (
    Cause,
    ClientEvent,
    Farewell,
    FinalReplied,
    Finished,
    Lack,
    Phase,
    Ready,
    RecipientReplied,
    SendContent,
    SessionOver,
    StartTls,
)
from mta.smtp.replies import PeerReply, ReplyError, ReplyParser
from mta.smtp.stuffing import DotStuffer
from mta.smtp.verdict import refusal, refused_recipient, temporary_status
from mta.smtp.xtext import encode_xtext

_LACK_STATUS = {Lack.EIGHT_BIT: "5.6.3", Lack.UTF8: "5.6.7", Lack.REQUIRETLS: "5.7.30"}
_READY, _START_TLS, _SEND_CONTENT, _FAREWELL = Ready(), StartTls(), SendContent(), Farewell()
_NOTIFY_WORDS = ((Notify.SUCCESS, "SUCCESS"), (Notify.FAILURE, "FAILURE"), (Notify.DELAY, "DELAY"))


class ClientEngine:
    """One session. `starttls`: use it when it is offered. `lmtp`: LHLO, and a final reply for each recipient."""

    def __init__(self, hostname: str, *, starttls: bool = True, lmtp: bool = False) -> None:
        self._hostname = hostname
        self._starttls = starttls
        self._lmtp = lmtp
        self._parser = ReplyParser()
        self._out: list[bytes] = []
        self._events: deque[ClientEvent] = deque()
        self._expected: deque[Phase] = deque((Phase.GREETING,))
        self._resting = Phase.READY  # the phase when no reply is awaited
        self._helo = False
        self._eight_bit = self._pipelining = False
        self.extensions: dict[str, str] = {}  # keyword in upper case -> parameters
        self.tls_active = False
        self._tls_verified = False
        self.replies = 0  # heard so far: a sign of life for the adapter's timer
        self.last_reply: PeerReply | None = None  # to MAIL, RCPT, DATA or the end of data of this transaction
        self._heard = Phase.GREETING
        self._stuffer = DotStuffer()
        self._recipients: Sequence[Recipient] = ()
        self._outcomes: list[Outcome | None] = []
        self._accepted: list[int] = []
        self._replied = 0  # RCPT replies of this transaction
        self._final = 0  # end-of-data replies of this transaction
        self._mail_refused: Outcome | None = None
        self._in_transaction = self._dot_sent = self._lock_step = False
        self._on: dict[Phase, Callable[[PeerReply], None]] = {
            Phase.GREETING: self._on_greeting,
            Phase.HELLO: self._on_hello,
            Phase.STARTTLS: self._on_starttls,
            Phase.MAIL: self._on_mail,
            Phase.RCPT: self._on_rcpt,
            Phase.DATA: self._on_data,
            Phase.DOT: self._on_dot,
            Phase.RESET: self._on_reset,
            Phase.QUIT: self._on_quit,
        }

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
        if self.closed or not data:
            return
        if self._resting is Phase.HANDSHAKE:
            self._fail(Cause.TLS_INJECTION, "4.7.0", "clear text behind the reply to STARTTLS")
            return
        self._parser.feed(data)
        while True:
            try:
                reply = self._parser.next_reply()
            except ReplyError as error:
                self._fail(Cause.MALFORMED, "4.5.0", str(error))
                return
            if reply is None:
                # What stands here while no reply is awaited need not even be complete to be wrong; an idle session may
                # just be hearing the beginning of its 421.
                if not self._expected and self._resting is Phase.CONTENT and self._parser.pending:
                    self._fail(Cause.OUT_OF_TURN, "4.5.0", "the peer spoke while content was being sent")
                return
            self._take(reply)
            if self.closed:
                return

    def send(self, message: Message, reverse_path: Address, recipients: Sequence[Recipient], size: int) -> None:
        """Begin a transaction; lawful in READY alone. `size`: octets of the content as it will be given, unstuffed.

        RuntimeError when the session is not READY; ValueError when an address would break a command line.
        """
        if self.phase is not Phase.READY or not recipients:
            raise RuntimeError(f"a transaction while the session waits for {self.phase.value}")
        utf8 = message.needs_utf8 or not (reverse_path.is_ascii and all(r.address.is_ascii for r in recipients))
        lack = self._lack(message, utf8)
        if lack is not None:
            failed = Failed(0, _LACK_STATUS[lack], f"the message needs {lack.value}, which the next hop does not offer")
            self._events.append(Finished((failed,) * len(recipients), "", Phase.READY, lack))
            self._events.append(_READY)
            return
        mail = self._mail_command(message, reverse_path, size, utf8)
        dsn = "DSN" in self.extensions
        count = len(recipients)
        if self._pipelining:
            # RFC 2920 section 3.1: one group, DATA last
            group = mail + "".join([_rcpt_command(r, dsn) for r in recipients]) + "DATA\r\n"
            self._command(group, count + 2)
            self._expected.append(Phase.MAIL)
            self._expected.extend([Phase.RCPT] * count)
            self._expected.append(Phase.DATA)
        else:
            self._command(mail, 1)
            self._expected.append(Phase.MAIL)
        self._lock_step = not self._pipelining
        self._recipients = recipients
        self._outcomes = [None] * count
        self._accepted = []
        self._replied = self._final = 0
        self._mail_refused = None
        self._in_transaction, self._dot_sent = True, False
        self.last_reply = None

    def content(self, *blocks: bytes) -> None:
        """Content after SendContent, unstuffed, cut anywhere. Raises BareNewlineError: then call `fail`."""
        if self._resting is Phase.CONTENT:
            block = blocks[0] if len(blocks) == 1 else b"".join(blocks)
            self._out.append(self._stuffer.feed(block))

    def end_content(self) -> None:
        """All content was given. From here a lost connection is uncertain. Raises BareNewlineError."""
        if self._resting is not Phase.CONTENT:
            return
        self._out.append(self._stuffer.finish())
        self._resting = Phase.READY
        self._dot_sent = True
        self._expected.extend([Phase.DOT] * (len(self._accepted) if self._lmtp else 1))

    def tls_started(self, *, verified: bool = False) -> None:
        """The handshake is done. RFC 3207 section 4.2: forget all that was learned, say EHLO again.

        `verified`: the certificate proved the name of the host (RFC 8689 section 4.2.1 asks for it).
        """
        if self._resting is not Phase.HANDSHAKE:
            return
        self.tls_active, self._tls_verified = True, verified
        self._parser = ReplyParser()
        self._learn({})
        self._resting = Phase.READY
        self._hello()

    def quit(self) -> None:
        """Say goodbye; lawful in READY. Anywhere else the session just ends."""
        if self.phase is Phase.READY:
            self._command("QUIT\r\n", 1)
            self._expected.append(Phase.QUIT)
        else:
            self._close()

    def connection_lost(self, text: str) -> None:
        """The peer, or the network, closed the connection (or the handshake failed)."""
        cause = Cause.TLS_FAILED if self._resting is Phase.HANDSHAKE else Cause.LOST
        self.fail(cause, text)

    def timed_out(self) -> None:
        """The peer took too long in this phase."""
        cause = Cause.TLS_FAILED if self._resting is Phase.HANDSHAKE else Cause.TIMEOUT
        self.fail(cause, f"timed out waiting for {self.phase.value}")

    def fail(self, cause: Cause, text: str) -> None:
        """The session can't go on, for a reason outside the dialogue."""
        status = {Cause.OURS: "4.3.0", Cause.TLS_FAILED: "4.7.5"}.get(cause, "4.4.2")
        self._fail(cause, status, text)

    # --- replies ------------------------------------------------------------------------------------------------------

    def _take(self, reply: PeerReply) -> None:
        self.replies += 1
        expected = self._expected
        if reply.code == 421:  # RFC 5321 section 3.8: it may come at any time, and the connection ends
            self._fail(Cause.CLOSING, temporary_status(reply, "4.3.2"), reply.text, reply)
            return
        if not expected:
            self._fail(Cause.OUT_OF_TURN, "4.5.0", f"a reply to nothing: {reply}", reply)
            return
        phase = expected.popleft()
        early = not expected and self._parser.pending
        if early and phase is Phase.STARTTLS:
            self._fail(Cause.TLS_INJECTION, "4.7.0", "clear text behind the reply to STARTTLS")
            return
        if early and phase is Phase.DATA:
            expected.append(phase)
            self._fail(Cause.OUT_OF_TURN, "4.5.0", "the peer spoke before content was sent")
            return
        self._heard = phase
        self._on[phase](reply)
        if early and not self.closed:
            # Nothing that we said can be answered yet: what comes would be taken for the answer to our next command.
            self._fail(Cause.OUT_OF_TURN, "4.5.0", f"more than a reply to {phase.value}")

    def _on_greeting(self, reply: PeerReply) -> None:
        if reply.code == 220:
            self._hello()
        else:
            self._refused(Phase.GREETING, reply)

    def _on_hello(self, reply: PeerReply) -> None:
        if not reply.positive:
            if reply.code >= 500 and not (self._helo or self._lmtp or self.tls_active):
                self._helo = True  # RFC 5321 section 3.2: a server that does not know EHLO
                self._hello()
            else:
                self._refused(Phase.HELLO, reply)
            return
        learned: dict[str, str] = {}
        if not self._helo:
            for line in reply.lines[1:]:
                keyword, _, parameters = line.partition(" ")
                if keyword:
                    learned[keyword.upper()] = parameters
        self._learn(learned)
        if self._starttls and not self.tls_active and "STARTTLS" in learned:
            self._command("STARTTLS\r\n", 1)
            self._expected.append(Phase.STARTTLS)
        else:
            self._events.append(_READY)

    def _on_starttls(self, reply: PeerReply) -> None:
        if reply.code == 220:
            self._resting = Phase.HANDSHAKE
            self._events.append(_START_TLS)
        else:  # offered, and then refused (RFC 3207 section 4.1): opportunistic, so clear text is what is left
            self._events.append(_READY)

    def _on_mail(self, reply: PeerReply) -> None:
        self.last_reply = reply
        if reply.positive:
            if self._lock_step:
                self._next_rcpt()
            return
        if reply.code < 400:
            self._wrong_code(Phase.MAIL, reply)
            return
        self._mail_refused = refused = refusal(reply)
        self._outcomes = [refused] * len(self._recipients)
        if self._lock_step:
            self._finish()

    def _on_rcpt(self, reply: PeerReply) -> None:
        index = self._replied
        self._replied += 1
        if self._mail_refused is None:
            self.last_reply = reply
            if reply.positive:
                self._accepted.append(index)
            elif reply.code < 400:
                self._wrong_code(Phase.RCPT, reply)
                return
            else:
                self._outcomes[index] = refused_recipient(reply, len(self._accepted))
            self._events.append(RecipientReplied(index, reply))
        if self._lock_step:
            if self._replied < len(self._recipients):
                self._next_rcpt()
            elif self._accepted:
                self._command("DATA\r\n", 1)
                self._expected.append(Phase.DATA)
            else:
                self._reset()
                self._finish()

    def _on_data(self, reply: PeerReply) -> None:
        if 300 <= reply.code < 400:
            if self._accepted:
                self._stuffer = DotStuffer()
                self._resting = Phase.CONTENT
                self._events.append(_SEND_CONTENT)
            else:  # RFC 2920 section 3.1: nobody was taken, yet the server wants content: an empty message to nobody
                self._out.append(b".\r\n")
                self._expected.append(Phase.DOT)
            return
        if reply.positive:
            self._wrong_code(Phase.DATA, reply)
            return
        if self._accepted:
            self.last_reply = reply
            refused = refusal(reply)
            for index in self._accepted:
                self._outcomes[index] = refused
        self._reset()
        self._finish()

    def _on_dot(self, reply: PeerReply) -> None:
        accepted = self._accepted
        if not accepted:  # the answer to the empty message to nobody, whatever it is
            self._finish()
            return
        self.last_reply = reply
        if 300 <= reply.code < 400:
            self._wrong_code(Phase.DOT, reply)
            return
        outcome: Outcome
        if reply.positive:
            outcome = Relayed(reply.code, reply.status or "2.0.0", reply.text, "DSN" in self.extensions)
        else:
            outcome = refusal(reply)
        if self._lmtp:
            index = accepted[self._final]
            self._final += 1
            self._outcomes[index] = outcome
            self._events.append(FinalReplied(index, reply))
            if self._final < len(accepted):
                return
        else:
            for index in accepted:
                self._outcomes[index] = outcome
            self._events.append(FinalReplied(None, reply))
        self._finish()

    def _on_reset(self, reply: PeerReply) -> None:
        if reply.positive:
            self._events.append(_READY)
        else:
            self._wrong_code(Phase.RESET, reply)

    def _on_quit(self, _reply: PeerReply) -> None:
        self._close()
        self._events.append(_FAREWELL)

    # --- steps --------------------------------------------------------------------------------------------------------

    def _hello(self) -> None:
        verb = "LHLO" if self._lmtp else "HELO" if self._helo else "EHLO"
        self._command(f"{verb} {self._hostname}\r\n", 1)
        self._expected.append(Phase.HELLO)

    def _learn(self, extensions: dict[str, str]) -> None:
        self.extensions = extensions
        self._pipelining = "PIPELINING" in extensions
        self._eight_bit = "8BITMIME" in extensions

    def _lack(self, message: Message, utf8: bool) -> Lack | None:
        if utf8 and "SMTPUTF8" not in self.extensions:
            return Lack.UTF8
        if message.has_8bit and not self._eight_bit:
            return Lack.EIGHT_BIT
        if message.requiretls and not (self._tls_verified and "REQUIRETLS" in self.extensions):
            return Lack.REQUIRETLS
        return None

    def _mail_command(self, message: Message, reverse_path: Address, size: int, utf8: bool) -> str:
        offered = self.extensions
        command = f"MAIL FROM:<{reverse_path}>"
        if "SIZE" in offered:
            command += f" SIZE={size}"  # RFC 1870; the server judges it, for another host may have another limit
        if (message.has_8bit or utf8) and self._eight_bit:
            command += " BODY=8BITMIME"
        if utf8:
            command += " SMTPUTF8"
        if message.requiretls:
            command += " REQUIRETLS"
        if "DSN" in offered:
            if message.ret:
                command += f" RET={message.ret}"
            if message.envid:
                command += f" ENVID={encode_xtext(message.envid)}"
        return command + "\r\n"

    def _next_rcpt(self) -> None:
        self._command(_rcpt_command(self._recipients[self._replied], "DSN" in self.extensions), 1)
        self._expected.append(Phase.RCPT)

    def _command(self, lines: str, count: int) -> None:
        data = lines.encode("utf-8")
        if data.count(b"\n") != count or data.count(b"\r") != count:
            raise ValueError("a CR or LF inside a command")  # SAFETY 3.5; parsed addresses can't have one
        self._out.append(data)

    def _reset(self) -> None:
        self._command("RSET\r\n", 1)
        self._expected.append(Phase.RESET)

    def _finish(self) -> None:
        """End the transaction, the only way out of it but `_fail`."""
        self._in_transaction = False
        outcomes = tuple(_certain(outcome) for outcome in self._outcomes)
        self._events.append(Finished(outcomes, str(self.last_reply or ""), self._heard))
        if not self._expected:
            self._events.append(_READY)
        elif self._expected[0] is not Phase.RESET:
            self._fail(Cause.OURS, "4.3.0", "a transaction ended with replies outstanding")

    def _refused(self, phase: Phase, reply: PeerReply) -> None:
        self._expected.appendleft(phase)
        self._fail(Cause.REFUSED, temporary_status(reply, "4.3.0"), reply.text, reply)

    def _wrong_code(self, phase: Phase, reply: PeerReply) -> None:
        self._expected.appendleft(phase)
        self._fail(Cause.WRONG_CODE, "4.5.0", f"a reply to {phase.value} that makes no sense: {reply}", reply)

    def _fail(self, cause: Cause, status: str, text: str, reply: PeerReply | None = None) -> None:
        """End the session. Whoever has no outcome yet is deferred; uncertain, if the peer may have the whole message."""
        if self.closed:
            return
        if self._events and self._events[-1] is _READY:
            self._events.pop()  # not any more
        phase = self.phase
        code = reply.code if reply is not None and cause in {Cause.REFUSED, Cause.CLOSING} else 0
        outcome = Deferred(code, status, text)
        said = str(reply) if reply is not None else text
        if self._in_transaction:
            self._in_transaction = False
            # A peer that says 421 to the end of data has not taken the message; any other end tells nothing.
            uncertain = self._dot_sent and not (cause is Cause.CLOSING and phase is Phase.DOT)
            pending = Deferred(code, status, text, uncertain)
            outcomes = tuple(pending if one is None else one for one in self._outcomes)
            self._events.append(Finished(outcomes, said, phase))
        self._close()
        self._events.append(SessionOver(cause, phase, outcome))

    def _close(self) -> None:
        self._expected.clear()
        self._out.clear()
        self._resting = Phase.CLOSED


def _certain(outcome: Outcome | None) -> Outcome:
    # Every recipient has been answered when a transaction finishes; if not, law 4: it is temporary.
    return outcome if outcome is not None else Deferred(0, "4.3.0", "no reply was recorded", True)


def _rcpt_command(recipient: Recipient, dsn: bool) -> str:
    if not dsn:
        return f"RCPT TO:<{recipient.address}>\r\n"
    command = f"RCPT TO:<{recipient.address}>"
    if recipient.notify:
        if recipient.notify & Notify.NEVER:
            command += " NOTIFY=NEVER"
        else:
            command += " NOTIFY=" + ",".join(word for flag, word in _NOTIFY_WORDS if recipient.notify & flag)
    if recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        command += f" ORCPT={kind};{encode_xtext(address)}"  # RFC 3461 section 4.2
    return command + "\r\n"
