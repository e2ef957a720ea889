"""The client's side of an SMTP or LMTP session, without I/O and without a clock.

    engine = ClientEngine("mail.example.org")
    engine.receive(octets)                       # from the peer
    while (event := engine.next_event()): ...    # what happened
    transport.write(engine.data_to_send())

States, each named by the reply that is awaited (`phase`; its time limit is the adapter's):

    GREETING ─→ HELLO ─→ [STARTTLS ─→ HANDSHAKE ─→ HELLO] ─→ [AUTH] ─→ READY            (client_opening)
    READY ─send()─→ MAIL ─→ RCPT ─→ DATA ─→ CONTENT ─→ DOT ─→ READY                     (here)
                     └── nobody taken, or refused: RESET ─→ READY
    quit(): QUIT ─→ CLOSED.        Anything that no reply should be: CLOSED, by a SessionOver that defers.

With PIPELINING (RFC 2920) MAIL, every RCPT and DATA go out together, in lock step otherwise; outcomes are the same.
Laws: a 5xx to the greeting, EHLO, STARTTLS or AUTH fails nobody; 421 anywhere defers; whatever the peer does, each recipient of
`send` gets exactly one outcome in one Finished; once the final dot was given out, a lost connection is `uncertain`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mta.mail.address import Address
from mta.mail.envelope import Message, Recipient
from mta.mail.outcome import Deferred, Failed, Outcome, Relayed
from mta.smtp.client_commands import mail_command, rcpt_command
from mta.smtp.client_events import (
    Cause,
    Farewell,
    FinalReplied,
    Finished,
    Lack,
    Phase,
    RecipientReplied,
    SendContent,
)
from mta.smtp.client_login import Login
from mta.smtp.client_opening import OpeningSession
from mta.smtp.client_session import READY
from mta.smtp.replies import PeerReply
from mta.smtp.stuffing import DotStuffer
from mta.smtp.verdict import refusal, refused_recipient

_LACK_STATUS = {Lack.EIGHT_BIT: "5.6.3", Lack.UTF8: "5.6.7", Lack.REQUIRETLS: "5.7.30", Lack.SIZE: "5.3.4"}
_SEND_CONTENT, _FAREWELL = SendContent(), Farewell()


class ClientEngine(OpeningSession):
    """One session.

    `starttls`: use it when it is offered. `tls_required`: no session without it. `tls_at_once`: the handshake comes first
    (RFC 8314). `lmtp`: LHLO, and a final reply for each recipient. `login`: log in, or end the session.
    """

    def __init__(
        self,
        hostname: str,
        *,
        starttls: bool = True,
        tls_required: bool = False,
        tls_at_once: bool = False,
        lmtp: bool = False,
        login: Login | None = None,
    ) -> None:
        super().__init__(
            hostname,
            {
                Phase.GREETING: self._on_greeting,
                Phase.HELLO: self._on_hello,
                Phase.STARTTLS: self._on_starttls,
                Phase.AUTH: self._on_auth,
                Phase.MAIL: self._on_mail,
                Phase.RCPT: self._on_rcpt,
                Phase.DATA: self._on_data,
                Phase.DOT: self._on_dot,
                Phase.RESET: self._on_reset,
                Phase.QUIT: self._on_quit,
            },
            starttls=starttls,
            tls_required=tls_required,
            tls_at_once=tls_at_once,
            lmtp=lmtp,
            login=login,
        )
        self.last_reply: PeerReply | None = None  # to MAIL, RCPT, DATA or the end of data of this transaction
        self._stuffer = DotStuffer()
        self._recipients: Sequence[Recipient] = ()
        self._outcomes: list[Outcome | None] = []
        self._accepted: list[int] = []
        self._replied = 0  # RCPT replies of this transaction
        self._final = 0  # end-of-data replies of this transaction
        self._mail_refused: Outcome | None = None
        self._in_transaction = self._dot_sent = self._lock_step = self._dsn = False

    # --- what the adapter calls ---------------------------------------------------------------------------------------

    def send(self, message: Message, reverse_path: Address, recipients: Sequence[Recipient], size: int) -> None:
        """Begin a transaction; lawful in READY alone. `size`: octets of the content as it will be given, unstuffed.

        RuntimeError when the session is not READY; ValueError when an address would break a command line.
        """
        if self.phase is not Phase.READY or not recipients:
            raise RuntimeError(f"a transaction while the session waits for {self.phase.value}")
        utf8 = message.needs_utf8 or not (reverse_path.is_ascii and all(r.address.is_ascii for r in recipients))
        lack = self._lack(message, utf8, size)
        if lack is not None:
            failed = Failed(0, _LACK_STATUS[lack], self._in_words(lack, size))
            self._events.append(Finished((failed,) * len(recipients), "", Phase.READY, lack))
            self._events.append(READY)
            return
        offered = self.extensions
        self._dsn = dsn = "DSN" in offered
        mail = mail_command(message, reverse_path, size, offered, utf8=utf8, logged_in=bool(self.logged_in))
        count = len(recipients)
        if self._pipelining:
            # RFC 2920 section 3.1: one group, DATA last
            group = mail + "".join([rcpt_command(each, dsn) for each in recipients]) + "DATA\r\n"
            self._command(group, Phase.MAIL, *(Phase.RCPT,) * count, Phase.DATA)
        else:
            self._command(mail, Phase.MAIL)
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

    def quit(self) -> None:
        """Say goodbye; lawful in READY. Anywhere else the session just ends."""
        if self.phase is Phase.READY:
            self._command("QUIT\r\n", Phase.QUIT)
        else:
            self._close()

    # --- replies ------------------------------------------------------------------------------------------------------

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
                self._command("DATA\r\n", Phase.DATA)
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
            outcome = Relayed(reply.code, reply.status or "2.0.0", reply.text, self._dsn)
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
            self._events.append(READY)
        else:
            self._wrong_code(Phase.RESET, reply)

    def _on_quit(self, _reply: PeerReply) -> None:
        self._close()
        self._events.append(_FAREWELL)

    # --- steps --------------------------------------------------------------------------------------------------------

    def _lack(self, message: Message, utf8: bool, size: int) -> Lack | None:
        if utf8 and "SMTPUTF8" not in self.extensions:
            return Lack.UTF8
        if message.has_8bit and not self._eight_bit:
            return Lack.EIGHT_BIT
        if message.requiretls and not (self._tls_verified and "REQUIRETLS" in self.extensions):
            return Lack.REQUIRETLS
        if size > self._size_limit > 0:
            return Lack.SIZE
        return None

    def _in_words(self, lack: Lack, size: int) -> str:
        if lack is Lack.SIZE:
            return f"the message has {size} octets, of which the next hop takes {self._size_limit}"
        if lack is Lack.REQUIRETLS and not self._tls_verified:
            return "the message needs REQUIRETLS, and the next hop's TLS is missing or can't be verified"
        return f"the message needs {lack.value}, which the next hop does not offer"

    def _next_rcpt(self) -> None:
        self._command(rcpt_command(self._recipients[self._replied], self._dsn), Phase.RCPT)

    def _reset(self) -> None:
        self._command("RSET\r\n", Phase.RESET)

    def _finish(self) -> None:
        """End the transaction, the only way out of it but `_break_off`."""
        self._in_transaction = False
        outcomes = tuple([_certain(outcome) for outcome in self._outcomes])
        self._events.append(Finished(outcomes, str(self.last_reply or ""), self._heard))
        if not self._expected:
            self._events.append(READY)
        elif self._expected[0] is not Phase.RESET:
            self._fail(Cause.OURS, "a transaction ended with replies outstanding")

    def _break_off(self, cause: Cause, phase: Phase, outcome: Deferred, said: str) -> None:
        """Whoever has no outcome yet is deferred; uncertain, if the peer may have the whole message."""
        if not self._in_transaction:
            return
        self._in_transaction = False
        # A peer that says 421 to the end of data has not taken the message; any other end tells nothing.
        uncertain = self._dot_sent and not (cause is Cause.CLOSING and phase is Phase.DOT)
        pending = Deferred(outcome.code, outcome.status, outcome.text, uncertain)
        outcomes = tuple([pending if one is None else one for one in self._outcomes])
        self._events.append(Finished(outcomes, said, phase))


def _certain(outcome: Outcome | None) -> Outcome:
    # Every recipient has been answered when a transaction finishes; if not, law 4: it is temporary.
    return outcome if outcome is not None else Deferred(0, "4.3.0", "no reply was recorded", True)
