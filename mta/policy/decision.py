"""What a check says: a value that names its rule. Effects (counting, throttling) are applied by a live session alone."""

from __future__ import annotations

from mta.mail.envelope import value
from mta.mail.reply import Reply


@value
class ClientFacts:
    """What is known of a client when a check is asked. One object a session; replaced when it authenticates."""

    client_ip: str  # normalised (law 11)
    listener: str
    submission: bool
    over_tls: bool
    trusted_network: bool  # in relay_networks
    authcid: str  # "" before AUTH
    may_relay: bool  # by its login or its network


@value
class Decision:
    """`reply` None: allowed. `rule` says which rule decided, for the log, the journal and explain."""

    rule: str
    reply: Reply | None = None

    @property
    def allowed(self) -> bool:
        return self.reply is None
