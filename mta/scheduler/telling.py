"""What became of mail, told to the event log and the counters once it is durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mta.delivery.agent import Attempt
from mta.dsn.report import Action
from mta.mail.envelope import Recipient
from mta.mail.identifiers import format_id
from mta.scheduler.reports import report_kinds
from mta.scheduler.work import Work
from mta.spool.contract import Event, Settled, Settlement
from mta.telemetry.eventlog import Events
from mta.telemetry.metrics import counters, histogram

_ATTEMPTS = counters("mta_attempts_total", "Recipients attempted, by what became of them", "outcome")
_COUNTS = {
    event: _ATTEMPTS.bound(event.value)
    for event in (
        Event.DELIVERED, Event.RELAYED, Event.DEFERRED, Event.FAILED, Event.DISCARDED, Event.EXPANDED,
    )
}  # fmt: skip
_REPORTS = counters("mta_reports_total", "Delivery status notifications enqueued", "kind")
_REPORT_COUNTS = {action.value: _REPORTS.bound(action.value) for action in Action}
_DELAY = histogram("mta_delivery_delay_seconds", "From acceptance to delivery or relay")


class Telling:
    """`now`: wall time."""

    def __init__(self, log: Events, now: Callable[[], float]) -> None:
        self._log = log
        self._now = now

    def attempted(self, work: Work, attempt: Attempt, settlement: Settlement) -> None:
        """One line for each recipient of the attempt: the journal's first entries are theirs, in their order."""
        message = work.message
        host = attempt.trail[-1].host if attempt.trail else None
        delay = self._now() - message.received_at
        event_line = self._log.event
        for recipient, change, entry in zip(work.recipients, settlement.changes, settlement.journal, strict=False):
            event = entry.kind
            _COUNTS[event].value += 1
            if event is not Event.DEFERRED and event is not Event.FAILED:
                _DELAY.observe(delay)
            event_line(
                event.value,
                message.id,
                to=str(recipient.address),
                destination=work.destination,
                host=host,
                delay=delay,
                status=change.status,
                reply=f"{change.code} {change.text}" if change.code else change.text,
            )
        if settlement.reports:
            self.reported(settlement)

    def reported(self, settlement: Settlement) -> None:
        for report, kind in zip(settlement.reports, report_kinds(settlement), strict=True):
            _REPORT_COUNTS[kind].value += 1
            to = report.recipients[0].original
            self._log.event("report", report.message.id, kind=kind, cause=format_id(settlement.message), to=to)

    def waited(self, work: Work, settlement: Settlement, result: Settled) -> None:
        """Of rows that nobody attempted: only what ended them, and the reports."""
        entries = {entry.recipient: entry for entry in settlement.journal if entry.kind is Event.FAILED}
        changes = {change.recipient: change for change in settlement.changes}
        for recipient in work.recipients:
            if recipient.id in entries:
                change = changes[recipient.id]
                _COUNTS[Event.FAILED].value += 1
                self._log.event(
                    Event.FAILED.value,
                    work.message.id,
                    to=str(recipient.address),
                    destination=work.destination,
                    delay=self._now() - work.message.received_at,
                    status=change.status,
                    reply=f"{change.code} {change.text}" if change.code else change.text,
                )
        self.reported(settlement)

    def after_removal(self, work: Work, attempt: Attempt, recipients: Sequence[Recipient]) -> None:
        """An operator removed these while they were under way: what became of them is in the log alone."""
        for recipient in recipients:
            outcome = attempt.outcomes.get(recipient.id)
            self._log.event(
                "attempted-after-removal",
                work.message.id,
                to=str(recipient.address),
                outcome=type(outcome).__name__.lower(),
                reply=outcome.text if outcome is not None else None,
            )
