"""What a recipient is when it is inserted: the same in every backend.

Pure. No clock: an acceptance's time is its message's `received_at`.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.mail.envelope import NewRecipient, Recipient, State
from mta.spool.contract import Acceptance


def born(acceptance: Acceptance, new_id: Callable[[], int]) -> tuple[Recipient, ...]:
    """The recipients of an acceptance as they are stored, claimed where they are due and the acceptance claims."""
    message = acceptance.message
    now = message.received_at
    earliest = max(now, message.not_before)
    recipients = []
    for new in acceptance.recipients:
        # 0 is "at once": it is due since now. So what waits stands in one order of time, and new mail for a busy destination
        # doesn't overtake the retries of old mail.
        due = max(new.next_attempt, message.not_before) if new.next_attempt else earliest
        claimed = due <= now and not new.held and acceptance.claim_for
        lease = acceptance.lease_until if claimed else 0.0
        recipients.append(_make(message.id, new, new_id(), due, claimed or 0, lease))
    return tuple(recipients)


def born_child(message: int, child: NewRecipient, identifier: int, at: float) -> Recipient:
    """A recipient that a settlement adds to a message that is in the spool; claimed by nobody."""
    return _make(message, child, identifier, child.next_attempt or at, 0, 0.0)


def _make(message: int, new: NewRecipient, identifier: int, due: float, owner: int, lease: float) -> Recipient:
    return Recipient(
        identifier, message, new.parent, new.address, new.original, new.orcpt, new.notify, new.reverse_path,
        State.QUEUED, new.held, False, new.priority, new.destination, new.route_generation, due, 0, 0.0, 0, "", "",
        owner, lease, 1,
    )  # fmt: skip
