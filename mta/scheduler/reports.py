"""Which reports an attempt causes, to whom, and what the journal says of them. Pure.

- Each kind (failed, delayed, delivered, relayed, expanded) has a report of its own, which speaks of all recipients of that kind with
  the same return path. RFC 3464 would allow one report for all. But its subject and its first lines then could not say what
  happened, RET speaks of failures alone (RFC 3461 section 4.3: any other report returns the header), and who filters successes away
  would lose failures with them.
- None to the null reverse-path and none on a report (law 5), none where NOTIFY says so, none to a return address that we ourselves refuse.
  For a failure the journal says which of them it was (law 2).
- A recipient is told of as failed at most once, because that is its end, and as delayed at most once (`delay_reported_at`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mta.delivery.agent import Job
from mta.dsn.compose import compose_report
from mta.dsn.report import Action, ReportedRecipient, ReportFrame
from mta.mail.address import Address
from mta.mail.envelope import Kind, Message, NewRecipient, Notify, Recipient, value
from mta.mail.identifiers import format_id
from mta.mail.outcome import Delivered, Expanded, Outcome, Relayed
from mta.routing.router import Place
from mta.scheduler.terms import SettlementPolicy
from mta.spool.contract import Acceptance, Event, JournalEntry, Settlement

NEVER_TOLD = float("inf")

_WANTED = {
    Action.FAILED: Notify.FAILURE,
    Action.DELAYED: Notify.DELAY,
    Action.DELIVERED: Notify.SUCCESS,
    Action.RELAYED: Notify.SUCCESS,
    Action.EXPANDED: Notify.SUCCESS,
}
_TOLD_UNASKED = frozenset({Action.FAILED, Action.DELAYED})  # when NOTIFY was not given: RFC 3461 section 4.1
_SUBMITTED = frozenset({Kind.SUBMISSION, Kind.LOCAL})


@value
class Notice:
    """One recipient that somebody may have to be told of."""

    recipient: Recipient
    action: Action
    outcome: Outcome
    status: str  # of the report
    host: str = ""  # that gave the reply
    attempted: float = 0.0  # 0: it was not itself attempted now
    expired: bool = False
    uncertain: bool = False


def return_path(message: Message, recipient: Recipient) -> Address:
    return message.reverse_path if recipient.reverse_path is None else recipient.reverse_path


def not_owed(message: Message, recipient: Recipient, action: Action) -> str:
    """Why nobody is told of it; "" when somebody is."""
    if message.kind is Kind.REPORT or not return_path(message, recipient):
        return "null reverse-path"  # RFC 5321 section 6.1: a DSN never causes a DSN (law 5)
    notify = recipient.notify
    if not notify:
        return "" if action in _TOLD_UNASKED else "no NOTIFY"
    if notify & Notify.NEVER:
        return "NOTIFY=NEVER"
    return "" if notify & _WANTED[action] else f"NOTIFY without {_WANTED[action].name}"


def success_of(outcome: Outcome) -> Action | None:
    """What is to be told of a success, where NOTIFY asks for it. None: it is the next hop's duty, or it is no success."""
    if isinstance(outcome, Delivered):
        return Action.DELIVERED
    if isinstance(outcome, Relayed):
        return None if outcome.dsn_capable else Action.RELAYED  # RFC 3461 sections 5.2.1 and 5.2.2
    # RFC 3461 section 5.2.7.2: a single heir inherits the duty to tell of success
    return Action.EXPANDED if isinstance(outcome, Expanded) and len(outcome.children) > 1 else None


def delay_told_at(message: Message, recipient: Recipient, policy: SettlementPolicy) -> float:
    """From when on the sender is to be told that this recipient's delivery is delayed; NEVER_TOLD when not at all.

    Submitted mail alone: on a relay's path each hop would tell of the same delay, and the sender is not ours to bother.
    """
    after = policy.delay_report_after
    if not after or recipient.delay_reported_at or message.kind not in _SUBMITTED:
        return NEVER_TOLD
    if not_owed(message, recipient, Action.DELAYED):
        return NEVER_TOLD
    return max(message.received_at, message.not_before) + after


def make_reports(
    job: Job, notices: Sequence[Notice], now: float, policy: SettlementPolicy
) -> tuple[tuple[Acceptance, ...], list[JournalEntry], set[int]]:
    """The reports that are owed, journal entries about them, and the recipients that they speak of."""
    message = job.message
    journal: list[JournalEntry] = []
    groups: dict[tuple[Action, Address], list[Notice]] = {}
    for notice in notices:
        reason = not_owed(message, notice.recipient, notice.action)
        if not reason:
            groups.setdefault((notice.action, return_path(message, notice.recipient)), []).append(notice)
        elif notice.action is Action.FAILED:
            journal.append(_silence(message, notice, reason, now))
    reports, told = [], set()
    for (action, sender), group in groups.items():
        resolution = policy.router.resolve(sender)
        if resolution.place is Place.REFUSED or not resolution.destination:
            if action is Action.FAILED:
                reason = f"the return address is refused here: {resolution.reply} ({resolution.rule})"
                journal += [_silence(message, notice, reason, now) for notice in group]
            continue
        to = NewRecipient(
            resolution.address,
            str(sender),
            resolution.destination,
            held=policy.hold_reports,
            route_generation=policy.router.generation,
        )
        report = _report(job, action, sender, to, group, now, policy)
        reports.append(report)
        data = {"report": format_id(report.message.id), "kind": action.value, "to": str(sender)}
        for notice in group:
            told.add(notice.recipient.id)
            journal.append(JournalEntry(message.id, now, Event.REPORTED, notice.recipient.id, data))
    return tuple(reports), journal, told


def report_kinds(settlement: Settlement) -> list[str]:
    """The kind of each of a settlement's reports, in their order."""
    kinds = {each.data["report"]: str(each.data["kind"]) for each in settlement.journal if each.kind is Event.REPORTED}
    return [kinds[format_id(each.message.id)] for each in settlement.reports]


def _silence(message: Message, notice: Notice, reason: str, now: float) -> JournalEntry:
    return JournalEntry(message.id, now, Event.REPORT_NOT_OWED, notice.recipient.id, {"reason": reason})


def _report(
    job: Job,
    action: Action,
    sender: Address,
    to: NewRecipient,
    group: Sequence[Notice],
    now: float,
    policy: SettlementPolicy,
) -> Acceptance:
    identifier = policy.new_id()
    frame = ReportFrame(
        id=identifier,
        action=action,
        to=sender,
        hostname=policy.hostname,
        postmaster=policy.postmaster,
        boundary=f"{format_id(identifier)}/{int(policy.random() * 2**53):014x}",
        now=now,
        lifetime=policy.report_lifetime,
        cause_recipient=group[0].recipient.id,
        generation=policy.generation,
    )
    record, content = compose_report(job.message, job.content, [_told(each) for each in group], frame)
    return Acceptance(record, (to,), content, claim_for=policy.owner, lease_until=now + policy.lease_seconds)


def _told(notice: Notice) -> ReportedRecipient:
    recipient, outcome = notice.recipient, notice.outcome
    heard = f"{outcome.code} " if outcome.code else ""
    return ReportedRecipient(
        address=recipient.address,
        status=notice.status,
        diagnostic=f"{heard}{outcome.status} {outcome.text}",
        original="" if recipient.parent else recipient.original,
        orcpt=recipient.orcpt,
        host=notice.host if outcome.code else "",
        heard=outcome.status,
        attempted=notice.attempted,
        expired=notice.expired,
        uncertain=notice.uncertain,
    )
