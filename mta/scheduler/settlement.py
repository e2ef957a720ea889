"""What one attempt settles: outcomes, next attempts, the reports they cause, the journal - one value, one transaction (law 3). Pure.

- Every recipient of the attempt is in exactly one change (law 2). An outcome that is missing or unknown is a deferral (law 4).
- A deferral becomes a failure only after the message's lifetime AND after EXPIRY_ATTEMPTS_MIN attempts, of the recipient or of its
  destination, and not while the wall clock is in doubt: a clock that jumps bounces nobody, and tells nobody of a delay.
- A failed recipient has either a report in the same settlement or a journal entry that says why none is owed (reports.py).
- Of a recipient that waits for a suspended destination nobody makes an attempt, yet its sender is told of the delay and it expires:
  `settle_waiting`, at the times that `next_notice` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address

from mta.delivery.agent import Attempt, Job, Try
from mta.dsn.report import Action
from mta.mail.envelope import Message, NewRecipient, Recipient, State
from mta.mail.outcome import Deferred, Delivered, Expanded, Failed, Outcome, Relayed
from mta.mail.trace import literal
from mta.scheduler.backoff import retry_delay
from mta.scheduler.reports import NEVER_TOLD, Notice, delay_told_at, make_reports, success_of
from mta.scheduler.terms import SettlementPolicy
from mta.spool.contract import Event, JournalEntry, RecipientChange, Settlement

__all__ = (
    "SettlementPolicy",
    "next_notice",
    "settle_attempt",
    "settle_waiting",
)  # settling and its terms come together

EXPIRY_ATTEMPTS_MIN = 3
EXPIRED_STATUS = "5.4.7"  # RFC 3463 section 3.5: delivery time expired
DISCARD_SCHEME = "discard:"

_NO_OUTCOME = Deferred(0, "4.3.0", "the delivery agent gave no outcome")
_KINDS: Mapping[type, tuple[State, Event]] = {
    Delivered: (State.DELIVERED, Event.DELIVERED),
    Relayed: (State.RELAYED, Event.RELAYED),
    Failed: (State.FAILED, Event.FAILED),
    Deferred: (State.QUEUED, Event.DEFERRED),
    Expanded: (State.EXPANDED, Event.EXPANDED),
}


def settle_attempt(
    job: Job,
    attempt: Attempt,
    now: float,
    policy: SettlementPolicy,
    *,
    may_expire: bool = True,
    destination_attempts: int = 0,
    notices: bool = True,
) -> Settlement:
    """The one settlement of an attempt.

    `may_expire` is False while the wall clock is in doubt. `destination_attempts`: how often in a row the destination itself was not
    reached. `notices` False: nobody is told of delays and successes, only of failures (because telling failed by a bug of ours).
    """
    message, outcomes = job.message, attempt.outcomes
    shared = _shared_data(job.destination, attempt)
    changes: list[RecipientChange] = []
    journal: list[JournalEntry] = []
    told: list[Notice] = []
    children: tuple[NewRecipient, ...] = ()
    waits: dict[int, float] = {}  # by attempts
    for recipient in job.recipients:
        outcome: Outcome = outcomes.get(recipient.id, _NO_OUTCOME)
        kind = _KINDS.get(type(outcome))
        if kind is None:
            outcome, kind = _NO_OUTCOME, _KINDS[Deferred]
        state, event = kind
        code, status, text = outcome.code, outcome.status, outcome.text
        attempts = recipient.attempts + 1
        uncertain = recipient.uncertain
        data: dict[str, object] = {"code": code, "status": status, "text": text, "attempt": attempts, **shared}
        next_attempt = 0.0
        action: Action | None = None
        if state is State.QUEUED:
            uncertain = uncertain or getattr(outcome, "uncertain", False)
            if may_expire and _is_over(message, max(attempts, destination_attempts), now):
                state, event, action = State.FAILED, Event.FAILED, Action.FAILED
                data["expired"] = status = EXPIRED_STATUS
            else:
                data["next"] = next_attempt = now + _wait(attempts, waits, policy)
                if notices and may_expire and now >= delay_told_at(message, recipient, policy):
                    action = Action.DELAYED
        elif state is State.FAILED:
            action = Action.FAILED
        elif state is State.DELIVERED and job.destination.startswith(DISCARD_SCHEME):
            state, event = State.DISCARDED, Event.DISCARDED
        else:
            if recipient.notify and notices:
                action = success_of(outcome)
            if isinstance(outcome, Expanded):
                children += _children(recipient, outcome)
                data["children"] = len(outcome.children)
        if uncertain:
            data["uncertain"] = True
        if action is not None:
            told.append(_notice(recipient, action, outcome, status, attempt.trail, now, uncertain))
        changes.append(
            RecipientChange(recipient.id, recipient.token, state, code, status, text, next_attempt, attempts, uncertain)
        )
        journal.append(JournalEntry(message.id, now, event, recipient.id, data))
    if not told:
        return Settlement(message.id, tuple(changes), children, (), tuple(journal))
    reports, entries, reported = make_reports(job, told, now, policy)
    _mark_delays(changes, told, reported, now)
    return Settlement(message.id, tuple(changes), children, reports, (*journal, *entries))


def _shared_data(destination: str, attempt: Attempt) -> dict[str, object]:
    """What the journal says of the attempt itself. Empty values are left out: each octet is written for each message."""
    data: dict[str, object] = {"destination": destination}
    if attempt.rendition:
        data["rendition"] = attempt.rendition
    if attempt.trail:
        data["tries"] = [each.record() for each in attempt.trail]
    return data


def _wait(attempts: int, waits: dict[int, float], policy: SettlementPolicy) -> float:
    """Recipients that waited together wait together, else each would need a transaction and a delay report of its own."""
    wait = waits.get(attempts)
    if wait is None:
        wait = waits[attempts] = retry_delay(attempts, policy.retry_min, policy.retry_max, policy.random)
    return wait


def _notice(
    recipient: Recipient,
    action: Action,
    outcome: Outcome,
    status: str,
    trail: Sequence[Try],
    now: float,
    uncertain: bool,
) -> Notice:
    host = (trail[-1].host or trail[-1].address) if trail else ""  # who spoke last
    with suppress(ValueError):
        host = literal(str(ip_address(host)))
    expired = action is Action.FAILED and isinstance(outcome, Deferred)
    return Notice(recipient, action, outcome, status, host, now, expired, uncertain)


def _is_over(message: Message, attempts: int, now: float) -> bool:
    return now >= message.expires_at and attempts >= EXPIRY_ATTEMPTS_MIN


def _children(recipient: Recipient, outcome: Expanded) -> tuple[NewRecipient, ...]:
    """They know their parent."""
    return tuple(replace(child, parent=recipient.id) for child in outcome.children)


def _mark_delays(changes: list[RecipientChange], told: Sequence[Notice], reported: set[int], now: float) -> None:
    """Whoever was told of is not told of again."""
    delayed = {each.recipient.id for each in told if each.action is Action.DELAYED} & reported
    for index, change in enumerate(changes):
        if change.recipient in delayed:
            changes[index] = replace(change, delay_reported_at=now)


# --- recipients that wait for a suspended destination -----------------------------------------------------------------


def next_notice(message: Message, recipient: Recipient, policy: SettlementPolicy) -> float:
    """When `settle_waiting` will have something to say of a row although nobody attempts it: its delay report, or its end."""
    return min(message.expires_at, delay_told_at(message, recipient, policy))


def settle_waiting(
    job: Job,
    outcome: Deferred,
    now: float,
    policy: SettlementPolicy,
    *,
    may_expire: bool = True,
    destination_attempts: int = 0,
) -> Settlement | None:
    """What is owed to claimed rows that were not attempted, because their destination is suspended: reports of delay, and expiry.

    `outcome` is what was last heard of the destination, `destination_attempts` how often in a row it was not reached. Attempts are not
    counted and next attempts stay. Rows that nothing happened to are in no change: their claims are to be given back. None when
    that goes for all.
    """
    message = job.message
    if not may_expire:
        return None
    changes: list[RecipientChange] = []
    journal: list[JournalEntry] = []
    told: list[Notice] = []
    for recipient in job.recipients:
        attempts, status, next_attempt = recipient.attempts, outcome.status, recipient.next_attempt
        if _is_over(message, max(attempts, destination_attempts), now):
            state, action, next_attempt, status = State.FAILED, Action.FAILED, 0.0, EXPIRED_STATUS
            data = {"code": outcome.code, "status": outcome.status, "text": outcome.text, "attempt": attempts}
            data |= {"destination": job.destination, "expired": EXPIRED_STATUS}
            journal.append(JournalEntry(message.id, now, Event.FAILED, recipient.id, data))
        elif now >= delay_told_at(message, recipient, policy) < NEVER_TOLD:
            state, action = State.QUEUED, Action.DELAYED
        else:
            continue
        uncertain = recipient.uncertain
        expired = action is Action.FAILED
        told.append(Notice(recipient, action, outcome, status, expired=expired, uncertain=uncertain))
        changes.append(
            RecipientChange(
                recipient.id, recipient.token, state, outcome.code, status, outcome.text, next_attempt, attempts, uncertain
            )
        )  # fmt: skip
    reports, entries, reported = make_reports(job, told, now, policy)
    changes = [each for each in changes if each.state is State.FAILED or each.recipient in reported]
    if not changes:
        return None
    _mark_delays(changes, told, reported, now)
    return Settlement(message.id, tuple(changes), (), reports, (*journal, *entries))
