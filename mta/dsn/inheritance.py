"""What the recipients that replace another inherit of its wishes for reports (RFC 3461 section 5.2.7). Pure.

ENVID and RET are the message's and stay. A list with a return path of its own is another sender: its members inherit nothing.
"""

from __future__ import annotations

from mta.mail.envelope import Notify, Recipient
from mta.smtp.xtext import encode_utf8_xtext


def inherited_notify(notify: Notify, children: int) -> Notify:
    """One heir takes over all. Of several, no one tells of success: the expansion itself was told of."""
    if children == 1 or not notify & Notify.SUCCESS:
        return notify
    return notify & ~Notify.SUCCESS or Notify.NEVER


def inherited_orcpt(recipient: Recipient) -> str:
    """The ORCPT that was given, or one made of the address that the sender wrote, so that a report names it."""
    if recipient.orcpt:
        return recipient.orcpt
    original = recipient.original or str(recipient.address)
    return f"rfc822;{original}" if original.isascii() else f"utf-8;{encode_utf8_xtext(original)}"
