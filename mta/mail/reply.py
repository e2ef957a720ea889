"""Every reply we speak, once, with its enhanced status code (RFC 5321 section 4.2, RFC 2034, RFC 3463).

A reply has the text for the peer; the cause for the log stands beside it where it is used. `wire` is made once, when
the reply is made: the catalogue's replies cost nothing when they are spoken.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

from mta.mail.envelope import value

REPLY_LINE_LIMIT_OCTETS = 512  # RFC 5321 section 4.5.3.1.5, with CRLF
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` with what could steer a terminal, a log or a protocol escaped as \\xNN."""
    return _UNSAFE.sub(lambda hit: f"\\x{ord(hit[0]):02x}", text)


@value
class Reply:
    """A reply: code, enhanced status ("" where none belongs: 220, 354, EHLO, 334), and text, lines parted by newline."""

    code: int
    status: str
    text: str
    wire: bytes = field(init=False, repr=False, compare=False)
    positive: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lead = self.status + " " if self.status else ""
        room = REPLY_LINE_LIMIT_OCTETS - 6 - len(lead)
        lines = []
        for line in self.text.split("\n"):
            octets = printable(line).encode("utf-8", "backslashreplace")
            lines.append(octets if len(octets) <= room else octets[:room])
        code, prefix = b"%d" % self.code, lead.encode("ascii")
        wire = b"".join(code + b"-" + prefix + line + b"\r\n" for line in lines[:-1])
        made: Any = self  # a value: frozen for the type checker
        made.positive = self.code < 400
        made.wire = wire + code + b" " + prefix + lines[-1] + b"\r\n"

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}" if self.status else f"{self.code} {self.text}"


def queued_as(identifier: str) -> Reply:
    """The 250 after DATA, for each message: made without the checks that hostile text needs."""
    answer: Any = object.__new__(Reply)
    answer.code, answer.status, answer.text = 250, "2.0.0", "Ok: queued as " + identifier
    answer.positive = True
    answer.wire = b"250 2.0.0 Ok: queued as %b\r\n" % identifier.encode("ascii")
    made: Reply = answer
    return made


# --- 2yz, 3yz ---------------------------------------------------------------------------------------------------------
MAIL_OK = Reply(250, "2.1.0", "Sender ok")
RCPT_OK = Reply(250, "2.1.5", "Recipient ok")
RESET_OK = Reply(250, "2.0.0", "Reset")
NOOP_OK = Reply(250, "2.0.0", "Ok")
CHUNK_OK = Reply(250, "2.0.0", "Chunk ok")
START_MAIL_INPUT = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
CLOSING = Reply(221, "2.0.0", "Bye")
HELP = Reply(
    214, "2.0.0", "HELO EHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY EXPN HELP STARTTLS AUTH ETRN\nSee RFC 5321"
)
AUTHENTICATED = Reply(235, "2.7.0", "Authentication succeeded")
VRFY_UNKNOWN = Reply(252, "2.5.0", "Cannot verify; send some mail, we will try")

# --- 4yz --------------------------------------------------------------------------------------------------------------
SHUTTING_DOWN = Reply(421, "4.3.2", "Service shutting down; try again later")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections; try again later")
IDLE_TOO_LONG = Reply(421, "4.4.2", "Idle for too long; closing")
TOO_SLOW = Reply(421, "4.4.2", "Data comes too slowly; closing")
SESSION_TOO_LONG = Reply(421, "4.4.2", "The session has lasted too long; closing")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors; closing")
TOO_MANY_MESSAGES = Reply(421, "4.7.0", "Too many messages in one session; closing")
TOO_MANY_AUTH_FAILURES = Reply(421, "4.7.0", "Too many failed authentications; closing")
OUR_FAULT = Reply(451, "4.3.0", "Local error in processing; try again later")
SPOOL_FAILED = Reply(451, "4.3.0", "The message could not be stored; try again later")
SPOOL_FULL = Reply(452, "4.3.1", "Insufficient system storage; try again later")
SPOOL_DOWN = Reply(421, "4.3.0", "The queue is out of service; try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
AUTH_UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure")
TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS is not available for a temporary reason")

# --- 5yz: syntax and order --------------------------------------------------------------------------------------------
UNKNOWN_COMMAND = Reply(500, "5.5.2", "Command not recognised")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
BAD_OCTETS = Reply(500, "5.5.2", "Control characters in the command")
BAD_ARGUMENT = Reply(501, "5.5.2", "Control characters or malformed UTF-8 in the argument")
BAD_SYNTAX = Reply(501, "5.5.4", "Syntax error in parameters")
BAD_BASE64 = Reply(501, "5.5.2", "Cannot decode the base64")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
NO_INITIAL_RESPONSE = Reply(501, "5.7.0", "This mechanism takes no initial response")
BAD_CHUNK_SIZE = Reply(501, "5.5.4", "Malformed chunk size; closing")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
WANT_HELO = Reply(503, "5.5.1", "Say EHLO or HELO first")
NESTED_MAIL = Reply(503, "5.5.1", "A transaction is already open")
WANT_MAIL = Reply(503, "5.5.1", "Need MAIL first")
WANT_RCPT = Reply(503, "5.5.1", "Need RCPT first")
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
CHUNK_FAILED = Reply(503, "5.5.1", "An earlier chunk failed; say RSET")
DATA_AFTER_BDAT = Reply(503, "5.5.1", "DATA cannot follow BDAT")
BINARYMIME_NEEDS_BDAT = Reply(503, "5.5.1", "BINARYMIME needs BDAT")
ALREADY_TLS = Reply(554, "5.5.1", "TLS is already active")
TLS_NOT_OFFERED = Reply(502, "5.5.1", "STARTTLS is not offered here")
TLS_INJECTION = Reply(554, "5.5.1", "Data behind STARTTLS before the handshake; closing")
TLS_AFTER_AUTH = Reply(503, "5.5.1", "STARTTLS must come before AUTH")
TLS_IN_TRANSACTION = Reply(503, "5.5.1", "STARTTLS is not allowed inside a transaction")
PIPELINED_TOO_EARLY = Reply(554, "5.5.1", "Improper pipelining; closing")
NOT_SMTP = Reply(521, "5.5.2", "This is an SMTP port; closing")
TLS_HELLO_ON_CLEAR = Reply(521, "5.5.2", "TLS handshake on a clear-text port; use STARTTLS; closing")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognised or not implemented")
AUTH_NOT_OFFERED = Reply(503, "5.5.1", "AUTH is not offered here")
ALREADY_AUTHENTICATED = Reply(503, "5.5.1", "Already authenticated")
AUTH_IN_TRANSACTION = Reply(503, "5.5.1", "AUTH is not allowed inside a transaction")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Mechanism not offered")
HTTP_ON_SMTP = NOT_SMTP

# --- 5yz: policy ------------------------------------------------------------------------------------------------------
AUTH_REQUIRED = Reply(530, "5.7.0", "Authentication required")
TLS_REQUIRED = Reply(530, "5.7.0", "Say STARTTLS first")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for the requested mechanism")
VRFY_REFUSED = Reply(550, "5.7.1", "VRFY needs authentication")
EXPN_REFUSED = Reply(550, "5.7.1", "EXPN needs authentication")
ETRN_REFUSED = Reply(550, "5.7.1", "ETRN is not allowed for you")
NO_SUCH_USER = Reply(550, "5.1.1", "No such recipient here")
NO_ROUTE = Reply(550, "5.1.2", "No mail is taken for this domain")
RELAY_DENIED = Reply(550, "5.7.1", "Relaying denied")
SENDER_NOT_OWNED = Reply(553, "5.7.1", "The sender address is not yours")
MESSAGE_TOO_BIG = Reply(552, "5.3.4", "Message size exceeds the limit")
HEADER_TOO_BIG = Reply(552, "5.3.4", "The header section exceeds the limit")
TEXT_LINE_TOO_LONG = Reply(550, "5.6.0", "A text line exceeds the limit of this service (RFC 5322 section 2.1.1)")
BARE_NEWLINE = Reply(550, "5.5.2", "Bare <CR> or <LF> in the content (RFC 5321 section 2.3.8)")
NUL_IN_CONTENT = Reply(550, "5.6.0", "NUL in the content")
HEADER_MALFORMED = Reply(550, "5.6.0", "The header section is malformed")
MAIL_LOOP = Reply(554, "5.4.6", "Too many hops: this message is in a loop")
REQUIRETLS_NEEDS_TLS = Reply(530, "5.7.10", "REQUIRETLS needs TLS")
NON_ASCII_NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
