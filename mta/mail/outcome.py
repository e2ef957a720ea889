"""What became of one recipient in one attempt: a type, not a bool (RFC 3463 for the status codes).

`Deferred` is what everything is that we do not understand (law 4). `uncertain` means: the peer may have taken the message
although we did not hear it say so; a retry may make a second copy.
"""

from __future__ import annotations

from mta.mail.envelope import NewRecipient, value


@value
class Delivered:
    """In its mailbox here (final delivery), or handed to a program."""

    code: int
    status: str
    text: str


@value
class Relayed:
    """Taken by the next hop. `dsn_capable`: the hop spoke DSN, so a success report is its duty (RFC 3461 section 5.2.2)."""

    code: int
    status: str
    text: str
    dsn_capable: bool = False


@value
class Deferred:
    """Not now. `code` is 0 where no reply was heard (no connection, a time-out)."""

    code: int
    status: str
    text: str
    uncertain: bool = False


@value
class Failed:
    """Not ever, by a reply or rule that speaks of this recipient or message."""

    code: int
    status: str
    text: str


@value
class Expanded:
    """Replaced by `children` (alias, list, forward), which are inserted in the transaction that settles it. What they inherit of
    NOTIFY and ORCPT says mta.dsn.inheritance. Raises ValueError without a child: that would lose the mail (law 2); an alias to nobody
    is a failure."""

    code: int
    status: str
    text: str  # the rule that expanded it
    children: tuple[NewRecipient, ...]

    def __post_init__(self) -> None:
        if not self.children:
            raise ValueError("an expansion to nobody")


Outcome = Delivered | Relayed | Deferred | Failed | Expanded
