"""What a report says, as values: the actions of RFC 3464 section 2.3.3, the recipients told of, and the frame around them."""

from __future__ import annotations

import enum

from mta.mail.address import Address
from mta.mail.envelope import value


class Action(enum.StrEnum):
    """What became of a recipient: the word of the Action field."""

    FAILED = "failed"  # nobody will try again
    DELAYED = "delayed"  # not yet; it is tried further
    DELIVERED = "delivered"  # in its mailbox
    RELAYED = "relayed"  # taken by a host that sends no reports of success (RFC 3461 section 5.2.2)
    EXPANDED = "expanded"  # replaced by several others (RFC 3461 section 5.2.7)


@value
class ReportedRecipient:
    """What a report says of one recipient. All text may come from the wire."""

    address: Address
    status: str  # RFC 3463, of the report: 5.4.7 for an expiry
    diagnostic: str  # the reply as it was heard ("550 5.1.1 text"), or our words for what went wrong
    original: str = ""  # as RCPT had it, before any rewriting; "" when that is the address
    orcpt: str = ""  # as given in RCPT, xtext decoded; "" when none was (RFC 3461 section 5.2.1)
    host: str = ""  # the next hop that gave the reply; "" when we ourselves decided
    heard: str = ""  # the status that `diagnostic` speaks of, where it is another than `status`
    attempted: float = 0.0  # when it was last tried; 0: not known
    expired: bool = False  # it was tried for the whole lifetime; `diagnostic` is the last thing heard
    uncertain: bool = False  # some hop may have taken it although we heard no reply


@value
class ReportFrame:
    """What a report needs beside the message it reports on."""

    id: int
    action: Action  # of all its recipients
    to: Address  # the reverse-path of what it speaks of
    hostname: str
    postmaster: Address
    boundary: str  # not to be guessed by who wrote the message
    now: float
    lifetime: float
    cause_recipient: int = 0
    generation: int = 0  # of the settings
