"""What the client engine tells its adapter, and the words for where a session stands and why it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mta.mail.envelope import value
from mta.mail.outcome import Deferred, Outcome
from mta.smtp.client_login import Work
from mta.smtp.replies import PeerReply


class Phase(enum.Enum):
    """What the session waits for."""

    __hash__ = object.__hash__  # members are single, and a phase is looked up for each reply

    GREETING = "greeting"
    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    HANDSHAKE = "TLS handshake"
    AUTH = "AUTH"
    CALCULATION = "our own calculation"  # for the login, in a thread
    READY = "a message"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    DOT = "end of data"
    RESET = "RSET"
    QUIT = "QUIT"
    CLOSED = "nothing"


class Cause(enum.Enum):
    """Why a session ended before its time."""

    REFUSED = "refused"  # greeting or EHLO
    TLS_FAILED = "TLS failed"  # the handshake: a new connection in clear text may do
    TLS_MISSING = "TLS not offered"  # though it is required
    LOGIN_FAILED = "login failed"
    TLS_INJECTION = "clear text behind STARTTLS"
    MALFORMED = "malformed reply"
    OUT_OF_TURN = "spoke out of turn"
    WRONG_CODE = "a reply that makes no sense here"
    CLOSING = "421"
    LOST = "connection lost"
    TIMEOUT = "timed out"
    OURS = "our fault"


class Lack(enum.Enum):
    """What the peer does not offer, though the message needs it: another host may. The status is for when none does."""

    EIGHT_BIT = "8BITMIME"  # RFC 6152
    UTF8 = "SMTPUTF8"  # RFC 6531
    REQUIRETLS = "REQUIRETLS"  # RFC 8689: verified TLS, and a hop that passes the wish on
    SIZE = "SIZE"  # RFC 1870: its limit is smaller than the message


@value
class Ready:
    """`send` may be called."""


@value
class StartTls:
    """Begin the handshake on the transport, then call `tls_started`."""


@dataclass(frozen=True, slots=True, repr=False)
class Calculate:
    """Run `work` in a thread (it takes long, and knows a secret), and give what it returns to `calculated`."""

    work: Work


@value
class RecipientReplied:
    """The reply to one RCPT; `index` counts the recipients of `send`."""

    index: int
    reply: PeerReply


@value
class SendContent:
    """Give the content now: `content` as often as needed, then `end_content`."""


@value
class FinalReplied:
    """A reply to the end of data: for all accepted recipients (SMTP), or for the one at `index` (LMTP, RFC 2033)."""

    index: int | None
    reply: PeerReply


@value
class Finished:
    """The transaction is over: one outcome for each recipient, in the order given.

    `reply` is the last that was heard (or what went wrong), `phase` where. `lack`: nothing was sent, because the peer does not
    offer it.
    """

    outcomes: tuple[Outcome, ...]
    reply: str
    phase: Phase
    lack: Lack | None = None


@value
class SessionOver:
    """The session ended: drop the connection. `outcome` is what that means for whoever waits for this host.

    `reply` is what the host said, its own enhanced status included, or what went wrong.
    """

    cause: Cause
    phase: Phase
    outcome: Deferred
    reply: str


@value
class Farewell:
    """The peer said goodbye to our QUIT: close."""


ClientEvent = (
    Ready | StartTls | Calculate | RecipientReplied | SendContent | FinalReplied | Finished | SessionOver | Farewell
)
