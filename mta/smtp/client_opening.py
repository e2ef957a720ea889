"""From the greeting to the first message: EHLO or HELO, TLS, and the login. Nothing here speaks of a message, so nobody fails.

    GREETING ─→ HELLO ─→ [STARTTLS ─→ HANDSHAKE ─→ HELLO] ─→ [AUTH ⇄ CALCULATION] ─→ READY
                  └─ refused: HELO, once

With TLS at once (RFC 8314) HANDSHAKE comes before GREETING. What the peer says in clear text behind its 220 to STARTTLS is an
attack (CVE-2011-0411, the client's side): the session ends, and nothing is said into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from mta.smtp.client_events import Calculate, Cause, Phase, StartTls
from mta.smtp.client_login import (
    Calculation,
    ClientMechanism,
    Login,
    LoginError,
    challenge_of,
    mechanisms_offered,
    wire_form,
)
from mta.smtp.client_session import READY, ClientSession
from mta.smtp.replies import REMEMBERED_OCTETS, PeerReply, ReplyParser

_START_TLS = StartTls()
_EXCHANGES_LIMIT = 10  # challenges of one login: SCRAM has two, and an endless one must end


class OpeningSession(ClientSession):
    """A session until it is ready. See ClientEngine for what the arguments mean."""

    def __init__(
        self,
        hostname: str,
        on: Mapping[Phase, Callable[[PeerReply], None]],
        *,
        starttls: bool,
        tls_required: bool,
        tls_at_once: bool,
        lmtp: bool,
        login: Login | None,
    ) -> None:
        super().__init__(on)
        self._hostname = hostname
        self._starttls = starttls or tls_required
        self._tls_required = tls_required
        self._lmtp = lmtp
        self._login = login
        self._mechanism: ClientMechanism | None = None
        self._challenges = 0  # of this login; -1: it was called off
        self._called_off = ""  # why
        self._helo = False
        self._pipelining = self._eight_bit = False
        self._size_limit = 0  # octets; 0: none was told
        self.tls_active = False
        self._tls_verified = False
        self.logged_in = ""  # by which mechanism
        self.starttls_refusal: PeerReply | None = None  # offered, and then refused
        if tls_at_once:
            self._resting = Phase.HANDSHAKE
            self._events.append(_START_TLS)
        else:
            self._expected.append(Phase.GREETING)

    def tls_started(self, *, verified: bool = False) -> None:
        """The handshake is done. RFC 3207 section 4.2: forget all that was learned, say EHLO again.

        `verified`: the certificate proved the name of the host, and nobody could have forged that name (RFC 8689 section 4.2.1).
        """
        if self._resting is not Phase.HANDSHAKE:
            return
        at_once = self._heard is Phase.GREETING
        self.tls_active, self._tls_verified = True, verified
        self._parser = ReplyParser()
        self._learn({})
        self._resting = Phase.READY
        if at_once:
            self._expected.append(Phase.GREETING)
        else:
            self._say_hello()

    def calculated(self, result: bytes) -> None:
        """What the work of a Calculate returned."""
        if self._resting is not Phase.CALCULATION or self._mechanism is None:
            return
        self._resting = Phase.READY
        try:
            response = self._mechanism.calculated(result)
        except LoginError as error:
            self._call_off(str(error))
        else:
            self._command(wire_form(response) + "\r\n", Phase.AUTH)

    # --- replies ------------------------------------------------------------------------------------------------------

    def _on_greeting(self, reply: PeerReply) -> None:
        if reply.code == 220:
            self._say_hello()
        else:
            self._refused(Phase.GREETING, Cause.REFUSED, reply)

    def _on_hello(self, reply: PeerReply) -> None:
        if not reply.positive:
            if reply.code >= 500 and not (self._helo or self._lmtp or self.tls_active or self._tls_required):
                self._helo = True  # RFC 5321 section 3.2: a server that does not know EHLO
                self._say_hello()
            else:
                self._refused(Phase.HELLO, Cause.REFUSED, reply)
            return
        learned = _extensions_of(reply) if not self._helo else {}
        self._learn(learned)
        if self._starttls and not self.tls_active and "STARTTLS" in learned:
            self._command("STARTTLS\r\n", Phase.STARTTLS)
        elif self._tls_required and not self.tls_active:
            self._fail(Cause.TLS_MISSING, "TLS is required, and the host does not offer it")
        else:
            self._log_in()

    def _on_starttls(self, reply: PeerReply) -> None:
        if reply.code == 220:
            self._resting = Phase.HANDSHAKE
            self._events.append(_START_TLS)
            return
        self.starttls_refusal = reply
        if self._tls_required:
            self._expected.appendleft(Phase.STARTTLS)
            self._fail(Cause.TLS_MISSING, f"TLS is required, and the host refuses it: {reply}", reply)
        else:  # offered, and then refused (RFC 3207 section 4.1): opportunistic, so clear text is what is left
            self._log_in()

    def _on_auth(self, reply: PeerReply) -> None:
        mechanism = self._mechanism
        assert mechanism is not None
        if reply.code >= 400:
            if self._challenges < 0:  # our `*` was heard
                self._end_called_off()
            else:
                self._refused(Phase.AUTH, Cause.LOGIN_FAILED, reply)
        elif self._challenges < 0:
            self._wrong_code(Phase.AUTH, reply)
        elif reply.positive:
            if mechanism.proven:
                self.logged_in = mechanism.name
                self._mechanism = None
                self._events.append(READY)
            else:
                self._expected.appendleft(Phase.AUTH)
                self._fail(Cause.LOGIN_FAILED, f"{mechanism.name}: the host has not proved that it knows the password")
        else:  # 334; Mercury says 330, and any 3yz means to go on
            self._challenged(mechanism, reply)

    # --- steps --------------------------------------------------------------------------------------------------------

    def _say_hello(self) -> None:
        verb = "LHLO" if self._lmtp else "HELO" if self._helo else "EHLO"
        self._command(f"{verb} {self._hostname}\r\n", Phase.HELLO)

    def _learn(self, extensions: Mapping[str, str]) -> None:
        self.extensions = extensions
        self._pipelining = "PIPELINING" in extensions
        self._eight_bit = "8BITMIME" in extensions
        size = extensions.get("SIZE", "")
        # RFC 1870 section 4: no number, or 0, is no limit
        self._size_limit = int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else 0

    def _log_in(self) -> None:
        if self._login is None:
            self._events.append(READY)
            return
        try:
            mechanism = self._login.choose(
                mechanisms_offered(self.extensions), tls=self.tls_active, verified=self._tls_verified
            )
            initial = mechanism.start()
        except LoginError as error:
            self._fail(Cause.LOGIN_FAILED, str(error))
            return
        self._mechanism = mechanism
        words = f"AUTH {mechanism.name}"
        if initial is not None:
            words += " " + (wire_form(initial) or "=")  # RFC 4954 section 4
        self._command(words + "\r\n", Phase.AUTH)

    def _challenged(self, mechanism: ClientMechanism, reply: PeerReply) -> None:
        self._challenges += 1
        try:
            if self._challenges > _EXCHANGES_LIMIT:
                raise LoginError(f"{mechanism.name}: more than {_EXCHANGES_LIMIT} challenges")
            step = mechanism.respond(challenge_of(reply))
        except LoginError as error:
            self._call_off(str(error))
            return
        if isinstance(step, Calculation):
            self._resting = Phase.CALCULATION
            self._events.append(Calculate(step.work))
        else:
            self._command(wire_form(step) + "\r\n", Phase.AUTH)

    def _call_off(self, text: str) -> None:
        """RFC 4954 section 4: `*` cancels, and is answered by 501."""
        self._called_off, self._challenges = text, -1
        self._command("*\r\n", Phase.AUTH)

    def _end_called_off(self) -> None:
        self._expected.appendleft(Phase.AUTH)
        self._fail(Cause.LOGIN_FAILED, self._called_off)


def _extensions_of(reply: PeerReply) -> Mapping[str, str]:
    lines = reply.lines
    small = sum(map(len, lines)) <= REMEMBERED_OCTETS
    return _remembered(lines) if small else _extensions(lines)


def _extensions(lines: Sequence[str]) -> Mapping[str, str]:
    """RFC 5321 section 4.1.1.1: a keyword a line, and its parameters; the first line is a greeting."""
    learned = {}
    for line in lines[1:]:
        keyword, _, parameters = line.partition(" ")
        if keyword:
            learned[keyword.upper()] = parameters
    return MappingProxyType(learned)


_remembered = lru_cache(maxsize=128)(_extensions)
