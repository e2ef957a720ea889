"""What the server engine tells its adapter. An event with a ticket waits for `ServerEngine.answer(ticket, reply)`.

Until it is answered the engine gives WAITING, so a reply never overtakes another (law 8).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mta.mail.address import Address
from mta.mail.reply import Reply
from mta.smtp.parameters import MailParameters, RcptParameters


class Pause(enum.Enum):
    """Why there is no event now."""

    NEED_DATA = "need data"  # receive() more
    WAITING = "waiting"  # an answer, a window or the TLS handshake is owed first


NEED_DATA = Pause.NEED_DATA
WAITING = Pause.WAITING


@dataclass(slots=True)
class Hello:
    """HELO, EHLO or LHLO. A positive answer begins the session anew (RFC 5321 section 4.1.4)."""

    ticket: int
    verb: str
    name: str  # the client's word for itself; printable, otherwise unchecked


@dataclass(slots=True)
class Mail:
    """MAIL. A positive answer opens the transaction."""

    ticket: int
    reverse_path: Address
    parameters: MailParameters


@dataclass(slots=True)
class Rcpt:
    """RCPT. A positive answer adds the recipient; the adapter keeps the list, the engine only counts."""

    ticket: int
    address: Address
    original: str
    parameters: RcptParameters


@dataclass(slots=True)
class Data:
    """DATA, or the first BDAT. Answer START_MAIL_INPUT to take the content (BDAT: nothing is sent), or refuse."""

    ticket: int
    chunked: bool


@dataclass(slots=True)
class ContentBlock:
    """A piece of content: unstuffed, never ending in the middle of CRLF. Counts against the window."""

    data: bytes


@dataclass(slots=True)
class ContentEnd:
    """The end of the content. Answer with the final reply; for LMTP with one for each accepted recipient.

    `refusal`: the content itself can't be taken (too big, bare newline, ...): answer it, after cleaning up.
    """

    ticket: int
    size: int  # octets given in blocks
    has_8bit: bool
    max_line: int  # octets of the longest line where one exceeds 998, else 0
    refusal: Reply | None


@dataclass(slots=True)
class TransactionEnded:
    """The one reset (law 10): whatever belonged to the transaction is void. Told only when MAIL had been accepted."""


@dataclass(slots=True)
class StartTls:
    """STARTTLS. READY_FOR_TLS begins the handshake; then call `tls_started` or `tls_failed`."""

    ticket: int


@dataclass(slots=True)
class AuthStart:
    """AUTH. Answer by `challenge` or by a reply. `initial` is decoded; None when the client gave none."""

    ticket: int
    mechanism: str
    initial: bytes | None


@dataclass(slots=True)
class AuthResponse:
    """A line of the SASL exchange, decoded."""

    ticket: int
    data: bytes


@dataclass(slots=True)
class AuthAborted:
    """The exchange is void: cancelled, undecodable or too long. The engine has replied."""

    reply: Reply


@dataclass(slots=True)
class Inquiry:
    """VRFY, EXPN or ETRN."""

    ticket: int
    verb: str
    argument: str


@dataclass(slots=True)
class Penalty:
    """Too many errors: answer this reply after a pause (a second). The engine knows no clock."""

    ticket: int
    reply: Reply


@dataclass(slots=True)
class Refused:
    """The engine refused something by itself (syntax, order, a limit): for the log."""

    reply: Reply
    line: bytes


@dataclass(slots=True)
class Close:
    """Send what there is to send, then close the connection. `reason` is for the log."""

    reason: str


Event = (
    Hello
    | Mail
    | Rcpt
    | Data
    | ContentBlock
    | ContentEnd
    | TransactionEnded
    | StartTls
    | AuthStart
    | AuthResponse
    | AuthAborted
    | Inquiry
    | Penalty
    | Refused
    | Close
)
