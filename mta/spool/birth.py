"""What a recipient is when it is inserted: the same in every backend.

Pure. No clock: an acceptance's time is its message's `received_at`.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.mail.envelope import Message, NewRecipient, Recipient, State
from mta.spool.contract import Acceptance


def born(acceptance: Acceptance, new_id: Callable[[], int]) -> tuple[Recipient, ...]:
    """The recipients of an acceptance as they are stored, claimed where they are due and the acceptance claims."""
    message = acceptance.message
    owner, lease, now = acceptance.claim_for, acceptance.lease_until, message.received_at
    return tuple([_insert(message, one, new_id(), now, owner, lease) for one in acceptance.recipients])


def born_child(message: int, child: NewRecipient, identifier: int, at: float) -> Recipient:
    """A recipient that a settlement adds to a message that is in the spool; claimed by nobody."""
    return _make(message, child, identifier, child.next_attempt or at, 0, 0.0)


def _insert(message: Message, new: NewRecipient, identifier: int, now: float, owner: int, lease: float) -> Recipient:
    # 0 is "at once": it is due since now. So what waits stands in one order of time, and new mail for a busy destination
    # doesn't overtake the retries of old mail.
    due = new.next_attempt or now
    due = max(due, message.not_before)
    if owner and (due > now or new.held):
        owner, lease = 0, 0.0
    return _make(message.id, new, identifier, due, owner, lease)


def _make(message: int, new: NewRecipient, identifier: int, due: float, owner: int, lease: float) -> Recipient:
    return Recipient(
        identifier, message, new.parent, new.address, new.original, new.orcpt, new.notify, new.reverse_path,
        State.QUEUED, new.held, False, new.priority, new.destination, new.route_generation, due, 0, 0.0, 0, "", "",
        owner, lease if owner else 0.0, 1,
    )  # fmt: skip
