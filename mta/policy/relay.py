"""Who may send where: mail for our domains from everybody, for elsewhere from those who proved a right to it.

Loopback is no right: behind stunnel or ssh everybody comes from it. It counts only when relay_networks names it.
"""

from __future__ import annotations

from functools import lru_cache

from mta.mail import reply
from mta.policy.decision import ClientFacts, Decision
from mta.routing.router import Place, Resolution

_ALLOWED_BY_LOGIN = "may relay: authenticated"
_ALLOWED_BY_NETWORK = "may relay: relay_networks"
_DENIED = Decision("relaying denied", reply.RELAY_DENIED)


def decide_sender(facts: ClientFacts) -> Decision:
    """May this client open a transaction here? RFC 6409 section 4.3: submission is for the authenticated."""
    if facts.submission and not facts.may_relay:
        return _SUBMISSION_NEEDS_AUTH
    return _OPEN


def decide_recipient(facts: ClientFacts, resolution: Resolution) -> Decision:
    """May this client send to this recipient? An unknown recipient of ours is refused whoever asks (law 5)."""
    if resolution.place is Place.REFUSED or resolution.place is Place.UNAVAILABLE:
        if not resolution.public and not facts.may_relay:
            return _DENIED
        return Decision(resolution.rule, resolution.reply or reply.NO_SUCH_USER)
    if resolution.public:
        return _allowed(resolution.rule)
    if facts.may_relay:
        return _allowed(_ALLOWED_BY_LOGIN if facts.authcid else _ALLOWED_BY_NETWORK)
    return _DENIED


@lru_cache(maxsize=256)
def _allowed(rule: str) -> Decision:
    return Decision(rule)


_OPEN = Decision("open listener")
_SUBMISSION_NEEDS_AUTH = Decision("submission needs authentication", reply.AUTH_REQUIRED)
