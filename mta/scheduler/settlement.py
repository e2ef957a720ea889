"""What one attempt settles: outcomes, next attempts, the report they cause, the journal - one value, one transaction (law 3). Pure.

- Every recipient of the attempt is in exactly one change (law 2). An outcome that is missing or unknown is a deferral (law 4).
- A deferral becomes a failure only after the message's lifetime AND after EXPIRY_ATTEMPTS_MIN attempts, and not while the wall clock
  is in doubt: a clock that jumps bounces nobody.
- A failed recipient has either a report in the same settlement or a journal entry that says why none is owed: a null reverse-path
  (law 5), NOTIFY (RFC 3461 section 4.1), or a return address that we ourselves refuse.
- One report speaks of all recipients of a message that fail in one attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mta.delivery.agent import Attempt, Job, Try
from mta.dsn.compose import FailedRecipient, ReportFrame, compose_failure_report
from mta.mail.address import Address
from mta.mail.envelope import Kind, Message, NewRecipient, Notify, Recipient, State
from mta.mail.identifiers import format_id
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome, Relayed
from mta.routing.router import Place, Router
from mta.scheduler.backoff import retry_delay
from mta.spool.contract import Acceptance, Event, JournalEntry, RecipientChange, Settlement

EXPIRY_ATTEMPTS_MIN = 3
EXPIRED_STATUS = "5.4.7"  # RFC 3463 section 3.5: delivery time expired
DISCARD_SCHEME = "discard:"

_NO_OUTCOME = Deferred(0, "4.3.0", "the delivery agent gave no outcome")
_KINDS: Mapping[type, tuple[State, Event]] = {
    Delivered: (State.DELIVERED, Event.DELIVERED),
    Relayed: (State.RELAYED, Event.RELAYED),
    Failed: (State.FAILED, Event.FAILED),
    Deferred: (State.QUEUED, Event.DEFERRED),
}


@dataclass(frozen=True, slots=True)
class SettlementPolicy:
    """What settling depends on beside the attempt. Made once for each snapshot of the settings."""

    retry_min: float
    retry_max: float
    report_lifetime: float
    hold_reports: bool
    concurrency: int  # jobs at once to one destination
    hostname: str
    postmaster: Address
    generation: int  # of the settings
    router: Router  # leads a report to the sender
    new_id: Callable[[], int]
    random: Callable[[], float]
    owner: int  # reports are born claimed by it
    lease_seconds: float


def settle_attempt(
    job: Job, attempt: Attempt, now: float, policy: SettlementPolicy, *, may_expire: bool = True
) -> Settlement:
    """The one settlement of an attempt. `may_expire` is False while the wall clock is in doubt."""
    message, outcomes = job.message, attempt.outcomes
    shared = _shared_data(job.destination, attempt)
    changes, journal = [], []
    failed: list[tuple[Recipient, FailedRecipient]] = []
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
        if state is State.QUEUED:
            uncertain = uncertain or getattr(outcome, "uncertain", False)
            if may_expire and now >= message.expires_at and attempts >= EXPIRY_ATTEMPTS_MIN:
                state, event = State.FAILED, Event.FAILED
                data["expired"] = EXPIRED_STATUS
                status = EXPIRED_STATUS
            else:
                next_attempt = now + retry_delay(attempts, policy.retry_min, policy.retry_max, policy.random)
                data["next"] = next_attempt
        elif state is State.DELIVERED and job.destination.startswith(DISCARD_SCHEME):
            state, event = State.DISCARDED, Event.DISCARDED
        if uncertain:
            data["uncertain"] = True
        if state is State.FAILED:
            failed.append((recipient, _told(recipient, outcome, status, uncertain, attempt.trail)))
        changes.append(
            RecipientChange(recipient.id, recipient.token, state, code, status, text, next_attempt, attempts, uncertain)
        )
        journal.append(JournalEntry(message.id, now, event, recipient.id, data))
    if not failed:
        return Settlement(message.id, tuple(changes), journal=tuple(journal))
    reports, told = _report(job, failed, now, policy)
    return Settlement(message.id, tuple(changes), reports=reports, journal=(*journal, *told))


def _shared_data(destination: str, attempt: Attempt) -> dict[str, object]:
    """What the journal says of the attempt itself. Empty values are left out: each octet is written for each message."""
    data: dict[str, object] = {"destination": destination}
    if attempt.rendition:
        data["rendition"] = attempt.rendition
    if attempt.trail:
        data["tries"] = [
            {
                "host": each.host,
                "address": each.address,
                "tls": each.tls,
                "reply": each.reply,
                "at": each.at,
                "seconds": each.seconds,
                "phase": each.phase,
            }
            for each in attempt.trail
        ]
    return data


def _told(
    recipient: Recipient, outcome: Outcome, status: str, uncertain: bool, trail: Sequence[Try]
) -> FailedRecipient:
    heard = f"{outcome.code} " if outcome.code else ""
    return FailedRecipient(
        address=recipient.address,
        orcpt=recipient.orcpt,
        status=status,
        diagnostic=f"{heard}{outcome.status} {outcome.text}",
        host=(trail[-1].host or trail[-1].address) if trail and outcome.code else "",
        expired=isinstance(outcome, Deferred),
        uncertain=uncertain,
    )


# --- reports ----------------------------------------------------------------------------------------------------------


def _report(
    job: Job, failed: Sequence[tuple[Recipient, FailedRecipient]], now: float, policy: SettlementPolicy
) -> tuple[tuple[Acceptance, ...], list[JournalEntry]]:
    """The report that is owed for failures, and a journal entry for each failed recipient: it, or why there is none."""
    message = job.message
    journal, owed = [], []
    for recipient, told in failed:
        reason = _not_owed(message, recipient)
        if reason:
            data = {"reason": reason}
            journal.append(JournalEntry(message.id, now, Event.REPORT_NOT_OWED, recipient.id, data))
        else:
            owed.append((recipient, told))
    if not owed:
        return (), journal
    sender = _return_path(message, owed[0][0])
    resolution = policy.router.resolve(sender)
    if resolution.place is Place.REFUSED or not resolution.destination:
        reason = f"the return address is refused here: {resolution.reply} ({resolution.rule})"
        journal += [
            JournalEntry(message.id, now, Event.REPORT_NOT_OWED, recipient.id, {"reason": reason})
            for recipient, _ in owed
        ]
        return (), journal
    identifier = policy.new_id()
    frame = ReportFrame(
        id=identifier,
        to=sender,
        hostname=policy.hostname,
        postmaster=policy.postmaster,
        boundary=f"{format_id(identifier)}/{int(policy.random() * 2**53):014x}",
        now=now,
        lifetime=policy.report_lifetime,
        cause_recipient=owed[0][0].id,
        generation=policy.generation,
    )
    record, content = compose_failure_report(message, job.content, [told for _, told in owed], frame)
    report = Acceptance(
        record,
        (
            NewRecipient(
                resolution.address,
                str(sender),
                resolution.destination,
                held=policy.hold_reports,
                route_generation=policy.router.generation,
            ),
        ),
        content,
        claim_for=policy.owner,
        lease_until=now + policy.lease_seconds,
    )
    data = {"report": format_id(identifier), "kind": "failed", "to": str(sender)}
    journal += [JournalEntry(message.id, now, Event.REPORTED, recipient.id, data) for recipient, _ in owed]
    return (report,), journal


def _return_path(message: Message, recipient: Recipient) -> Address:
    return message.reverse_path if recipient.reverse_path is None else recipient.reverse_path


def _not_owed(message: Message, recipient: Recipient) -> str:
    """Why a failure of this recipient causes no report; "" when it does."""
    if message.kind is Kind.REPORT or not _return_path(message, recipient):
        return "null reverse-path"  # RFC 5321 section 6.1: a DSN never causes a DSN (law 5)
    notify = recipient.notify
    if notify & Notify.NEVER:
        return "NOTIFY=NEVER"
    if notify and not notify & Notify.FAILURE:
        return "NOTIFY without FAILURE"
    return ""
