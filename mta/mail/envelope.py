"""What an accepted message is: its record, its recipients, its content. Frozen values; a change is a new value.

Each field says who sets it. All times are wall-clock seconds since the epoch (they are stored).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

from mta.mail.address import Address

_Class = TypeVar("_Class", bound=type)


@dataclass_transform(frozen_default=True)
def value(made: _Class) -> _Class:
    """A frozen dataclass for the type checker; at run time its fields are set the quick way.

    A frozen one sets each field through object.__setattr__: for the sixty fields that a message and its recipient have,
    that was 7 % of reception's CPU time.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)  # type: ignore[return-value]


class Kind(enum.StrEnum):
    """How the message came to us."""

    RELAY = "relay"  # by an mx listener
    SUBMISSION = "submission"  # by an authenticated or trusted submitter
    REPORT = "report"  # a DSN of our own
    LOCAL = "local"  # by `mta send`, sendmail, or the drop directory


class State(enum.IntEnum):
    """Where one recipient is (law 2): queued, or one of the terminal states. Held and uncertain are flags, not states."""

    QUEUED = 0
    DELIVERED = 1  # in a mailbox of ours
    RELAYED = 2  # taken by the next hop
    FAILED = 3  # its DSN is enqueued, or the journal names why none is owed
    EXPANDED = 4  # children inserted in the same transaction
    DISCARDED = 5  # by a named rule
    REMOVED = 6  # by an operator


class Notify(enum.IntFlag):
    """NOTIFY of RFC 3461 section 4.1; NONE given means the default (failure, and delay where we send it)."""

    UNSET = 0
    NEVER = 1
    SUCCESS = 2
    FAILURE = 4
    DELAY = 8


@dataclass(frozen=True, slots=True)
class BodyFile:
    """A body too large for the row: a file of the spool, already durable. `path` is relative to the shard's directory."""

    path: str
    size: int


@value
class Content:
    """Header section and body, apart. `header` ends with its last field's CRLF; the empty line between is not in either.

    Lines end with CRLF; nothing is dot-stuffed. Immutable after acceptance.
    """

    header: bytes
    body: bytes | BodyFile

    @property
    def size(self) -> int:
        """Octets of the whole message, the empty line included."""
        return len(self.header) + 2 + (self.body.size if isinstance(self.body, BodyFile) else len(self.body))


@value
class Message:
    """The record of one accepted message: all but its recipients and content."""

    id: int  # made before the commit by the spool's IdentifierSource
    kind: Kind
    reverse_path: Address  # of MAIL; NULL_PATH for reports
    received_at: float
    expires_at: float  # after it, what is still queued fails (4.4.7)
    size: int  # octets of header + empty line + body
    envid: str = ""  # ENVID of MAIL, xtext decoded (RFC 3461 section 4.4)
    ret: str = ""  # "FULL", "HDRS", or "" (RFC 3461 section 4.3)
    not_before: float = 0.0  # undo window, FUTURERELEASE
    needs_utf8: bool = False  # an address or header field is non-ASCII: computed from the content, not from SMTPUTF8
    has_8bit: bool = False  # the body has octets above 127: computed, not from BODY=
    max_line: int = 0  # octets of the longest line, without CRLF
    requiretls: bool = False  # RFC 8689
    auth_param: str = ""  # AUTH= of MAIL where the client was trusted to give it (RFC 4954 section 5), "<>" else
    client_ip: str = ""  # of the peer, IPv4-mapped made IPv4; "" for our own reports
    client_port: int = 0
    helo: str = ""  # what the client called itself: its word, not a fact
    authcid: str = ""  # who proved the password
    authzid: str = ""  # on whose behalf
    mechanism: str = ""
    tls: str = ""  # "TLSv1.3 TLS_AES_256_GCM_SHA384", or "" for clear text
    protocol: str = ""  # RFC 3848 keyword: SMTP, ESMTP, ESMTPSA, UTF8SMTPSA, LMTP ...
    listener: str = ""  # name in the configuration
    message_id: str = ""  # the Message-ID field, for searching
    sha256: bytes = b""  # of header + empty line + body, as accepted
    cause_message: int = 0  # a report: the message that it reports on
    cause_recipient: int = 0
    config_generation: int = 0  # of the settings that accepted it


@value
class NewRecipient:
    """A recipient to be inserted: at acceptance, or as a child of an expansion."""

    address: Address
    original: str  # as RCPT had it, before any rewriting
    destination: (
        str  # key of the next hop, from routing (mta.routing): "maildir:...", "smtp:[host]:25", "mx:example.org"
    )
    orcpt: str = ""  # "rfc822;user@example.org" as given, xtext decoded (RFC 3461 section 4.2)
    notify: Notify = Notify.UNSET
    reverse_path: Address | None = None  # override of the message's, for lists
    parent: int = 0  # recipient it was expanded from
    priority: int = 0  # MT-PRIORITY, -9 .. 9
    held: bool = False  # born held by a rule
    route_generation: int = 0  # of the routing tables that chose the destination
    next_attempt: float = 0.0  # 0: at once


@value
class Recipient:
    """A recipient as the spool has it."""

    id: int
    message: int
    parent: int
    address: Address
    original: str
    orcpt: str
    notify: Notify
    reverse_path: Address | None
    state: State
    held: bool
    uncertain: bool
    priority: int
    destination: str
    route_generation: int
    next_attempt: float
    attempts: int
    delay_reported_at: float
    last_code: int
    last_status: str
    last_text: str
    owner: int  # 0: nobody; else the boot (or lease holder) that works on it
    lease_until: float
    token: (
        int  # fencing: grows with every claim and every operator's change; a settlement with an old one changes nothing
    )
