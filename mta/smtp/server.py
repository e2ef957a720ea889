"""The server's side of an SMTP session, without I/O: octets in, events out, answers in, octets out (RFC 5321).

    engine.receive(octets)
    while (event := engine.next_event()) not in (NEED_DATA, WAITING): ...engine.answer(event.ticket, reply)...
    transport.write(engine.data_to_send())

The laws it keeps: a command is not looked at before the last one is answered (law 8); one function ends a transaction (law
10); commands and content that come before they may (behind STARTTLS, before 354) close the session; the same octets cut
anywhere give the same events. It knows no clock, no policy and no password.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from mta.mail import reply
from mta.mail.reply import Reply
from mta.smtp import events, states
from mta.smtp.commands import (
    CONTROL,
    CommandError,
    decode_argument,
    decode_base64,
    parse_auth,
    parse_mail,
    parse_rcpt,
)
from mta.smtp.events import NEED_DATA, WAITING, Event, Pause
from mta.smtp.extensions import ServerProfile, offered_extensions
from mta.smtp.lines import OVERLONG, Oddity
from mta.smtp.receiving import Receiving
from mta.smtp.states import Mode, State
from mta.smtp.turns import NO_TICKET

INPUT_BOUND_OCTETS = 64 * 1024  # the adapter pauses reading only beyond it (law 8)
_SHOWN = 200  # octets of a refused command that the log is shown
_MAY_BE_FOLLOWED = frozenset({b"QUIT", b"BDAT"})  # BDAT by its own octets
_TLS_RECORD = b"\x16\x03"  # RFC 8446 section 5.1: a handshake record


class ServerEngine(Receiving):
    """One session. `mechanisms` are the SASL mechanisms offered now; the adapter sets them when the TLS state changes."""

    __slots__ = ("_esmtp", "_secrets", "_utf8", "authenticated", "hello", "mechanisms", "over_tls")

    def __init__(self, profile: ServerProfile, *, over_tls: bool = False, normalize: bool | None = None) -> None:
        super().__init__(profile, profile.normalize if normalize is None else normalize)
        self.over_tls = over_tls
        self.mechanisms: tuple[str, ...] = ()
        self.authenticated = False
        self.hello = ""
        self._secrets = False  # AUTH was tried: a line that is no command may be a password
        self._esmtp = False
        self._utf8 = False

    # --- the adapter's side ---------------------------------------------------------------------------------------

    def receive(self, octets: bytes) -> None:
        if self.mode is not Mode.CLOSED:
            self._input.receive(octets)

    @property
    def buffered(self) -> int:
        """Octets received and not yet looked at; past INPUT_BOUND_OCTETS stop reading."""
        return self._input.octets

    @property
    def in_transaction(self) -> bool:
        return self._state >= State.MAIL

    def next_event(self) -> Event | Pause:
        """The next event, NEED_DATA, or WAITING. Flat: 20,000 pipelined commands are 20,000 turns of this loop."""
        while True:
            if self._events:
                return self._events.popleft()
            if self._ticket:
                return WAITING
            mode = self.mode
            if mode is Mode.LINE or mode is Mode.SASL:
                if not self._input.octets or not self._take_line():
                    return NEED_DATA
            elif mode is Mode.CONTENT or mode is Mode.CHUNK:
                if self._window <= 0:
                    return WAITING
                if not (self._take_content() if mode is Mode.CONTENT else self._take_chunk()):
                    return NEED_DATA
            else:
                return WAITING

    def answer(self, ticket: int, answer: Reply | tuple[Reply, ...]) -> None:
        """Reply to an event. A tuple answers an LMTP ContentEnd: one reply for each accepted recipient (RFC 2033)."""
        settle = self._settle
        if ticket != self._ticket or settle is None:
            raise ValueError(f"ticket {ticket} is not open")
        self._ticket, self._settle = NO_TICKET, None
        if isinstance(answer, tuple):
            self._out.extend(each.wire for each in answer)
            self._finish_content(any(each.positive for each in answer))
        else:
            settle(answer)

    def challenge(self, ticket: int, data: bytes) -> None:
        """Go on with a SASL exchange (334)."""
        if ticket != self._ticket or self._settle is None:
            raise ValueError(f"ticket {ticket} is not open")
        self._ticket, self._settle = NO_TICKET, None
        self._out.append(b"334 " + base64.b64encode(data) + b"\r\n")
        self.mode = Mode.SASL

    def tls_started(self) -> None:
        """The handshake is done: the session begins anew (RFC 3207 section 4.2)."""
        self.over_tls = True
        self.authenticated = False
        self.hello, self._esmtp = "", False
        self._input.clear()
        self._end_transaction()
        self._state, self.mode = State.START, Mode.LINE

    # --- lines ----------------------------------------------------------------------------------------------------

    def _take_line(self) -> bool:
        """Deal with one line; False when there is none."""
        profile = self.profile
        if self.mode is Mode.SASL:
            line = self._input.take_line(profile.auth_line_limit)
            if line is not None:
                self._take_sasl(line)
            return line is not None
        if self._state is State.START and not self.over_tls and self._input.starts_with(_TLS_RECORD):
            self._refuse_and_close(reply.TLS_HELLO_ON_CLEAR, "TLS on a clear-text port")
            return True
        line = self._input.take_line(profile.command_line_limit, b"AUTH ", profile.auth_line_limit)
        if line is None:
            return False
        if type(line) is not bytes:
            # RFC 5321 section 2.3.8: LF alone ends no line
            self._refuse(reply.LINE_TOO_LONG if line is OVERLONG else reply.BAD_OCTETS, b"")
        elif CONTROL.search(line) is not None:
            verb = line.partition(b" ")[0].upper()
            known = verb in _COMMANDS
            self._refuse(reply.BAD_ARGUMENT if known else reply.BAD_OCTETS, self._shown(verb, line))
        else:
            self._take_command(line)
        return True

    def _take_command(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        take = _COMMANDS.get(verb)
        if take is None:
            verb = verb.upper()
            take = _COMMANDS.get(verb)
            if take is None:
                self._take_unknown(verb, line)
                return
        if self._state is not State.START and not self._esmtp and self._input.octets and verb not in _MAY_BE_FOLLOWED:
            # RFC 2920: nobody pipelines to a server that did not announce it
            self._refuse_and_close(reply.PIPELINED_TOO_EARLY, "pipelined without EHLO")
            return
        if verb in states.JUNK:
            self._junk += 1
            if self._junk > self.profile.junk_limit:
                self.errors += 1
                self._strikes += 1
                if self._strikes >= self.profile.hard_errors:
                    self._refuse_and_close(reply.TOO_MANY_ERRORS, "too many commands without mail")
                    return
        refusal = states.REFUSALS[self._state].get(verb)
        if refusal is not None:
            if verb == b"BDAT":
                self._swallow_chunk(argument, refusal, line)
            else:
                self._refuse(refusal, self._shown(verb, line))
            return
        try:
            take(self, decode_argument(argument), line)
        except CommandError as error:
            self._refuse(error.reply, self._shown(verb, line))

    def _shown(self, verb: bytes, line: bytes) -> bytes:
        """What the log may have of a refused line: no initial response, and nothing that may be a password gone astray."""
        if verb == b"AUTH":
            return verb
        return b"" if self._secrets and verb not in _COMMANDS else line[:_SHOWN]

    def _take_unknown(self, verb: bytes, line: bytes) -> None:
        if verb in states.FOREIGN:
            self._refuse_and_close(reply.NOT_SMTP, "another protocol")
        else:
            self._refuse(reply.UNKNOWN_COMMAND, self._shown(verb, line))

    # --- commands -------------------------------------------------------------------------------------------------

    def _helo(self, text: str, line: bytes) -> None:
        verb = line[:4].upper().decode("ascii")
        name = text.strip()
        if not name or (verb == "LHLO") != self.profile.lmtp:
            self._refuse(reply.BAD_SYNTAX if not name else reply.UNKNOWN_COMMAND, line)
            return
        if self.buffered and self._state is State.START:
            # RFC 2920 section 3.1: EHLO is the last of a group; what follows was sent blind
            self._refuse_and_close(reply.PIPELINED_TOO_EARLY, "pipelined before the answer to the hello")
            return

        def settle(answer: Reply) -> None:
            if answer.positive:
                self._end_transaction()
                self._state = State.READY
                self.hello, self._esmtp = name, verb != "HELO"
            self._say(answer)

        self._events.append(events.Hello(self._open(settle), verb, name))

    def _mail(self, text: str, line: bytes) -> None:
        reverse_path, parameters = parse_mail(text, self._offered)
        if self._messages >= self.profile.messages_limit:
            self._refuse_and_close(reply.TOO_MANY_MESSAGES, "too many messages")
        elif parameters.size > self.profile.size_limit:
            self._refuse(reply.MESSAGE_TOO_BIG, line)  # RFC 1870 section 6.1
        else:
            self._utf8 = parameters.smtputf8
            self._events.append(events.Mail(self._open(self._after_mail), reverse_path, parameters))

    def _offered(self) -> tuple[frozenset[str], bool]:
        return offered_extensions(self.profile, self.over_tls, self.mechanisms), self.over_tls

    def _after_mail(self, answer: Reply) -> None:
        if answer.positive:
            self._state = State.MAIL
        self._say(answer)

    def _rcpt(self, text: str, line: bytes) -> None:
        address, original, parameters = parse_rcpt(text, utf8=self._utf8)
        if self._recipients >= self.profile.recipients_limit:
            self._refuse_recipient_over_limit(line)
        else:
            self._events.append(events.Rcpt(self._open(self._after_rcpt), address, original, parameters))

    def _refuse_recipient_over_limit(self, line: bytes) -> None:
        """RFC 5321 section 4.5.3.1.10: the client sends to those we took and comes back for the rest, so that as many
        again are no error of its own. Else a list of some more than the limit could never be sent."""
        self._overshoot += 1
        if self._overshoot > self.profile.recipients_limit:
            self._refuse(reply.TOO_MANY_RECIPIENTS, line)
        else:
            self._events.append(events.Refused(reply.TOO_MANY_RECIPIENTS, line))
            self._out.append(reply.TOO_MANY_RECIPIENTS.wire)

    def _after_rcpt(self, answer: Reply) -> None:
        if answer.positive:
            self._recipients += 1
            self._state = State.RCPT
        self._say(answer)

    def _data(self, text: str, line: bytes) -> None:
        if text:
            self._refuse(reply.BAD_SYNTAX, line)
            return
        if self.buffered:
            self._refuse_and_close(reply.PIPELINED_TOO_EARLY, "content before 354")
            return
        self._events.append(events.Data(self._open(self._after_data), chunked=False))

    def _after_data(self, answer: Reply) -> None:
        if answer.code == 354:
            if self.buffered:
                self._refuse_and_close(reply.PIPELINED_TOO_EARLY, "content before 354")
                return
            self._begin_content()
            self._out.append(answer.wire)
        else:
            self._end_transaction()
            self._say(answer)

    def _rset(self, text: str, line: bytes) -> None:
        if text:
            self._refuse(reply.BAD_SYNTAX, line)
            return
        self._end_transaction()
        self._say(reply.RESET_OK)

    def _noop(self, text: str, line: bytes) -> None:
        self._say(reply.NOOP_OK)

    def _help(self, text: str, line: bytes) -> None:
        self._say(reply.HELP)

    def _quit(self, text: str, line: bytes) -> None:
        self._refuse_and_close(reply.CLOSING, "quit")

    def _inquire(self, text: str, line: bytes) -> None:
        argument = text.strip()
        if not argument:
            self._refuse(reply.BAD_SYNTAX, line)
            return
        verb = line[:4].upper().decode("ascii")
        self._events.append(events.Inquiry(self._open(self._say), verb, argument))

    # --- TLS and AUTH ---------------------------------------------------------------------------------------------

    def _starttls(self, text: str, line: bytes) -> None:
        if text:
            self._refuse(reply.BAD_SYNTAX, line)
        elif self.over_tls:
            self._refuse(reply.ALREADY_TLS, line)
        elif not self.profile.starttls:
            self._refuse(reply.TLS_NOT_OFFERED, line)
        elif self.authenticated:
            self._refuse(reply.TLS_AFTER_AUTH, line)
        elif self.buffered:
            # Octets behind STARTTLS were sent in clear: whoever put them there may not be who does the handshake.
            self._events.append(events.Refused(reply.TLS_INJECTION, line))
            self._refuse_and_close(reply.TLS_INJECTION, "data behind STARTTLS")
        else:
            self._events.append(events.StartTls(self._open(self._after_starttls)))

    def _after_starttls(self, answer: Reply) -> None:
        if answer.positive and self.buffered:
            self._refuse_and_close(reply.TLS_INJECTION, "data behind STARTTLS")
            return
        if answer.positive:
            self.mode = Mode.HANDSHAKE
        self._say(answer)

    def _auth(self, text: str, line: bytes) -> None:
        self._secrets = True
        mechanism, initial = parse_auth(text)
        if not self.profile.auth:
            self._refuse(reply.AUTH_NOT_OFFERED, b"AUTH")
        elif self.authenticated:
            self._refuse(reply.ALREADY_AUTHENTICATED, b"AUTH")
        else:
            self._events.append(events.AuthStart(self._open(self._after_auth), mechanism, initial))

    def _after_auth(self, answer: Reply) -> None:
        self.mode = Mode.LINE
        if answer.code == 235:
            self.authenticated = True
        self._say(answer)

    def _take_sasl(self, line: bytes | Oddity) -> None:
        if isinstance(line, Oddity):
            self._abort_auth(reply.AUTH_LINE_TOO_LONG if line is OVERLONG else reply.BAD_BASE64)
        elif line == b"*":
            self._abort_auth(reply.AUTH_CANCELLED)
        else:
            try:
                data = decode_base64(line)
            except CommandError as error:
                self._abort_auth(error.reply)
                return
            self._events.append(events.AuthResponse(self._open(self._after_auth), data))

    def _abort_auth(self, answer: Reply) -> None:
        self.mode = Mode.LINE
        self._events.append(events.AuthAborted(answer))
        self._say(answer)


_COMMANDS: dict[bytes, Callable[[ServerEngine, str, bytes], None]] = {
    b"HELO": ServerEngine._helo,
    b"EHLO": ServerEngine._helo,
    b"LHLO": ServerEngine._helo,
    b"MAIL": ServerEngine._mail,
    b"RCPT": ServerEngine._rcpt,
    b"DATA": ServerEngine._data,
    b"BDAT": ServerEngine._bdat,
    b"RSET": ServerEngine._rset,
    b"NOOP": ServerEngine._noop,
    b"QUIT": ServerEngine._quit,
    b"VRFY": ServerEngine._inquire,
    b"EXPN": ServerEngine._inquire,
    b"ETRN": ServerEngine._inquire,
    b"HELP": ServerEngine._help,
    b"STARTTLS": ServerEngine._starttls,
    b"AUTH": ServerEngine._auth,
}
