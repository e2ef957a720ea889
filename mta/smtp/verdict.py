"""What a refusal by the next hop means for a recipient: by its code's class, with the exceptions that experience taught.

Only MAIL, RCPT, DATA and end-of-data replies come here (law 4); what is said to a greeting, EHLO or STARTTLS speaks of the
host and fails nobody.
"""

from __future__ import annotations

from mta.mail.outcome import Deferred, Failed
from mta.smtp.replies import PeerReply

TOO_MANY_RECIPIENTS = "4.5.3"  # RFC 3463: the rest goes into a further transaction (RFC 5321 section 4.5.3.1.10)

# 503: we and the peer disagree about the state of the dialogue. 530, 534, 535, 538 (RFC 4954 section 6): it wants a login or
# TLS from us. None of them speaks of this message, so none fails it.
_SPEAKS_OF_US = frozenset({503, 530, 534, 535, 538})


def refusal(reply: PeerReply) -> Deferred | Failed:
    """The outcome of a 4yz or 5yz reply."""
    if reply.code >= 500 and reply.code not in _SPEAKS_OF_US:
        return Failed(reply.code, reply.status or "5.0.0", reply.text)
    return Deferred(reply.code, temporary_status(reply), reply.text)


def refused_recipient(reply: PeerReply, accepted: int) -> Deferred | Failed:
    """The same for RCPT, when `accepted` recipients of the transaction were taken before."""
    # RFC 5321 section 4.5.3.1.10: 552 for "too many recipients" is an old name of 452. A full mailbox says X.2.2 and means it.
    if reply.code in {452, 552} and (reply.status[1:] == ".5.3" or (accepted and not reply.status)):
        return Deferred(reply.code, TOO_MANY_RECIPIENTS, reply.text)
    return refusal(reply)


def temporary_status(reply: PeerReply, otherwise: str = "4.0.0") -> str:
    """The reply's enhanced status, in the class of temporary failures."""
    return "4" + reply.status[1:] if reply.status else otherwise
