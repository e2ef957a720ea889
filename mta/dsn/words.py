"""Status codes of RFC 3463 in the words of somebody who does not run a mail system: what happened, and what the sender can do. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_STATUS = re.compile(r"[245]\.(\d{1,3})\.(\d{1,3})")

# By subject.detail; a subject alone serves for details that are not here. (what happened, what to do)
_REFUSED: Mapping[str, tuple[str, str]] = {
    "0": ("The receiving system did not take it, and does not say why.", "The answer below may tell more."),
    "1": ("The address is not one that the receiving system knows.", "Check how it is spelt."),
    "1.1": (
        "There is no such mailbox.",
        "Check how the address is spelt, above all before the @. If it is right, the mailbox is gone: reach the recipient otherwise.",
    ),
    "1.2": (
        "There is no mail system for this domain.",
        "Check what stands behind the @. If it is right, reach the recipient otherwise.",
    ),
    "1.3": ("The receiving system can't read this address.", "Check how it is spelt."),
    "1.6": ("The mailbox has moved, and its new address is not known.", "Ask the recipient for it."),
    "1.7": (
        "The receiving system can't read your own address.",
        "Check the address that your mail program sends with.",
    ),
    "1.8": ("The receiving system finds no mail system for your own address.", "Check the address that you send with."),
    "1.10": ("This domain says that it takes no mail at all.", "Check what stands behind the @."),
    "2": ("The mailbox can't take it.", "Reach the recipient otherwise; the mailbox needs their care."),
    "2.1": ("The mailbox is closed or may not receive mail.", "Reach the recipient otherwise."),
    "2.2": ("The mailbox is full.", "Send it again when the recipient has made room."),
    "2.3": ("It is larger than this mailbox takes.", "Send it in parts, or send a link to what is large in it."),
    "3": ("The receiving system has a fault.", "Send it again later, or tell the receiving system's postmaster."),
    "3.2": ("The receiving system takes no mail at present.", "Send it again later."),
    "3.4": (
        "It is larger than the receiving system takes.",
        "Send it in parts, or send a link to what is large in it.",
    ),
    "4": ("No way to the receiving system was found.", "Send it again later, or tell the postmaster named below."),
    "4.1": (
        "The receiving system did not answer.",
        "Send it again later; if that fails too, reach the recipient otherwise.",
    ),
    "4.3": (
        "The domain's directory (DNS) gives no usable answer.",
        "Check what stands behind the @, and send it again later.",
    ),
    "4.4": ("The domain names no mail system that can be reached.", "Check what stands behind the @."),
    "4.6": (
        "It went round in a circle: a mail system on its way sends this address back to where it came from.",
        "Tell the postmaster named below; sending it again does not help.",
    ),
    "4.7": ("Its time was over before it could be delivered.", "Send it again, or reach the recipient otherwise."),
    "5": (
        "The mail systems did not understand each other.",
        "Tell the postmaster named below; sending it again does not help.",
    ),
    "5.3": ("It has more recipients than the receiving system takes.", "Send it to fewer at a time."),
    "6": ("Its form is not one that the receiving system can take.", "Send it in another form, such as plain text."),
    "6.3": (
        "It needs a conversion that could not be made.",
        "Send it again without characters beyond ASCII, or as an attachment.",
    ),
    "6.7": (
        "An address or its header has characters beyond ASCII, which the receiving system can't take.",
        "Use an address in plain letters, if there is one.",
    ),
    "7": (
        "The receiving system's rules forbid it.",
        "The answer below may say which rule. Who may change it is the receiving system's postmaster.",
    ),
    "7.1": (
        "The receiving system does not take this mail from you.",
        "The answer below may say why: its filters, or the recipient's choice. Reach the recipient otherwise.",
    ),
    "7.2": ("You may not send to this list.", "Ask whoever runs the list."),
    "7.4": ("It needs a protection (TLS) that the way does not offer.", "Tell the postmaster named below."),
    "7.10": ("It needs a protection (TLS) that the way does not offer.", "Tell the postmaster named below."),
    "7.20": ("It carries no valid signature (DKIM) of your domain.", "Tell the postmaster named below."),
    "7.23": ("Your domain does not let this mail system send for it (SPF).", "Tell the postmaster named below."),
    "7.25": ("This mail system's own address has no proper name (reverse DNS).", "Tell the postmaster named below."),
    "7.26": ("It passed none of the checks of who sent it (SPF, DKIM, DMARC).", "Tell the postmaster named below."),
}

_WAITS: Mapping[str, str] = {
    "0": "The receiving system could not take it yet, and does not say why.",
    "1": "The receiving system could not yet tell whether it knows this address.",
    "2": "The mailbox can't take it at present.",
    "2.2": "The mailbox is full at present.",
    "3": "The receiving system has a fault at present.",
    "3.1": "The receiving system has no room at present.",
    "3.2": "The receiving system takes no mail at present.",
    "4": "There is trouble on the way to the receiving system.",
    "4.1": "The receiving system does not answer.",
    "4.2": "The connection to the receiving system broke.",
    "4.3": "The domain's directory (DNS) gives no answer at present.",
    "4.5": "The receiving system has too much to do at present.",
    "5": "The mail systems do not understand each other at present.",
    "6": "The receiving system can't take it in this form at present.",
    "7": "The receiving system puts off mail from here at present.",
}


def what_happened(status: str) -> str:
    """One sentence, for a refusal (class 5) or a delay (class 4)."""
    subject, detail = _subject(status)
    if status.startswith("4"):
        return _WAITS.get(detail) or _WAITS.get(subject) or _WAITS["0"]
    return (_REFUSED.get(detail) or _REFUSED.get(subject) or _REFUSED["0"])[0]


def what_to_do(status: str) -> str:
    """What the sender can do about a failure of this status."""
    subject, detail = _subject(status)
    return (_REFUSED.get(detail) or _REFUSED.get(subject) or _REFUSED["0"])[1]


def _subject(status: str) -> tuple[str, str]:
    hit = _STATUS.fullmatch(status)
    return (hit[1], f"{hit[1]}.{hit[2]}") if hit else ("0", "0")
