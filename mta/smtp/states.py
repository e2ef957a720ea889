"""Which command is lawful in which state: the whole machine on one screen (RFC 5321 section 4.1.4).

    START ──EHLO──→ READY ──MAIL──→ MAIL ──RCPT──→ RCPT ──DATA──→ (content) ──→ READY
                                                     └───BDAT──→ CHUNKING ──BDAT LAST──→ READY
                                                     a chunk failed ──→ BROKEN ──RSET──→ READY

Beside the state the engine has a mode: what the next octets are. LINE a command, CONTENT and CHUNK a message, SASL a line of
an exchange, HANDSHAKE nothing of ours, CLOSED nothing at all.
"""

from __future__ import annotations

import enum

from mta.mail import reply
from mta.mail.reply import Reply


class State(enum.IntEnum):
    """In the order of a session; from MAIL on a transaction is open."""

    START = 0  # before the hello
    READY = 1  # between transactions
    MAIL = 2  # after MAIL
    RCPT = 3  # with recipients
    CHUNKING = 4  # between chunks
    BROKEN = 5  # after a failed chunk


class Mode(enum.Enum):
    LINE = "command line"
    CONTENT = "content after DATA"
    CHUNK = "octets of a chunk"
    SASL = "line of a SASL exchange"
    HANDSHAKE = "TLS handshake"
    CLOSED = "closed"


START, READY, MAIL, RCPT, CHUNKING, BROKEN = State
_HELO, _NESTED, _MAIL, _RCPT = reply.WANT_HELO, reply.NESTED_MAIL, reply.WANT_MAIL, reply.NO_VALID_RECIPIENTS
_BROKEN, _MIXED, _IN = reply.CHUNK_FAILED, reply.DATA_AFTER_BDAT, reply.AUTH_IN_TRANSACTION
_TLS_IN = reply.TLS_IN_TRANSACTION

# The refusal of a command in a state; absent: lawful. HELO, EHLO, RSET, NOOP, QUIT, VRFY, EXPN, HELP are lawful always.
_TABLE: dict[State, dict[bytes, Reply]] = {
    START: {b"MAIL": _HELO, b"RCPT": _HELO, b"DATA": _HELO, b"BDAT": _HELO, b"AUTH": _HELO, b"ETRN": _HELO},
    READY: {b"RCPT": _MAIL, b"DATA": _MAIL, b"BDAT": _MAIL},
    MAIL: {b"MAIL": _NESTED, b"DATA": _RCPT, b"BDAT": _RCPT, b"AUTH": _IN, b"STARTTLS": _TLS_IN, b"ETRN": _NESTED},
    RCPT: {b"MAIL": _NESTED, b"AUTH": _IN, b"STARTTLS": _TLS_IN, b"ETRN": _NESTED},
    CHUNKING: {
        b"MAIL": _NESTED, b"RCPT": _NESTED, b"DATA": _MIXED, b"AUTH": _IN, b"STARTTLS": _TLS_IN, b"ETRN": _NESTED,
    },
    BROKEN: {
        b"MAIL": _BROKEN, b"RCPT": _BROKEN, b"DATA": _BROKEN, b"BDAT": _BROKEN, b"AUTH": _BROKEN, b"STARTTLS": _BROKEN,
        b"ETRN": _BROKEN,
    },
}  # fmt: skip
REFUSALS = tuple(_TABLE[state] for state in State)  # indexed by the state: the hot path hashes no enum

# Commands that carry no mail forward: past a limit of them each counts as an error (SAFETY: junk commands).
JUNK = frozenset({b"NOOP", b"RSET", b"VRFY", b"EXPN", b"HELP", b"HELO", b"EHLO", b"LHLO", b"ETRN"})

# Words that other protocols begin with. An SMTP server that answers them line by line can be made to talk to a browser (ALPACA).
FOREIGN = frozenset(
    {
        b"GET",
        b"POST",
        b"HEAD",
        b"PUT",
        b"DELETE",
        b"OPTIONS",
        b"CONNECT",
        b"TRACE",
        b"PATCH",
        b"PRI",
        b"HOST:",
        b"USER-AGENT:",
    }
)
