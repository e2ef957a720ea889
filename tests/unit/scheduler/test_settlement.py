"""What one attempt settles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mta.delivery.agent import Attempt, Job, Try
from mta.mail.address import NULL_PATH, Address, parse_address
from mta.mail.envelope import Kind, Notify, State
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome, Relayed
from mta.routing.router import Router
from mta.scheduler.settlement import EXPIRED_STATUS, settle_attempt
from mta.spool.contract import Event, Settlement

TAKEN = Relayed(250, "2.0.0", "ok")
LATER = Deferred(451, "4.3.0", "try later")
NEVER = Failed(550, "5.1.1", "no such user")
TRAIL = (Try("mx.example.net", "192.0.2.1", "TLSv1.3 X", "550 no such user", 1.0, 0.5, "RCPT"),)


@pytest.fixture
def settle(make: Any) -> Any:
    """Settle one outcome a recipient; keywords change the message (m_...), the first recipient (r_...), or the call."""

    def settled(*outcomes: Outcome, now: float = make.now, **changes: Any) -> Settlement:
        of_message = {key[2:]: value for key, value in changes.items() if key.startswith("m_")}
        of_recipient = {key[2:]: value for key, value in changes.items() if key.startswith("r_")}
        rest = {key: value for key, value in changes.items() if key[1:2] != "_"}
        recipients = [make.recipient(number, **of_recipient) for number in range(1, len(outcomes) + 1)]
        job = Job(
            make.message(**of_message), tuple(recipients), make.content, rest.pop("destination", "mx:example.net")
        )
        attempt = Attempt(
            {each.id: outcome for each, outcome in zip(recipients, outcomes, strict=True)}, TRAIL, "as accepted"
        )
        policy = rest.pop("policy", None) or make.policy()
        return settle_attempt(job, attempt, now, policy, **rest)

    return settled


def kinds(settlement: Settlement) -> list[Event]:
    return [entry.kind for entry in settlement.journal]


@pytest.mark.parametrize(
    ("outcome", "destination", "state", "event"),
    [
        (Delivered(250, "2.0.0", "in its mailbox"), "maildir:/x", State.DELIVERED, Event.DELIVERED),
        (TAKEN, "mx:example.net", State.RELAYED, Event.RELAYED),
        (LATER, "mx:example.net", State.QUEUED, Event.DEFERRED),
        (NEVER, "mx:example.net", State.FAILED, Event.FAILED),
        (Delivered(250, "2.0.0", "x"), "discard:route-2", State.DISCARDED, Event.DISCARDED),
    ],
)
def test_an_outcome_becomes_a_state_and_a_journal_entry(
    settle: Any, outcome: Outcome, destination: str, state: State, event: Event
) -> None:
    settlement = settle(outcome, destination=destination)
    (change,) = settlement.changes
    assert (change.recipient, change.token, change.state, change.attempts) == (1, 11, state, 1)
    assert (change.code, change.status, change.text) == (outcome.code, outcome.status, outcome.text)
    entry = settlement.journal[0]
    assert (entry.kind, entry.recipient, entry.message) == (event, 1, 100)
    assert entry.data["destination"] == destination


def test_the_journal_tells_the_tries_the_rendition_and_the_reply(settle: Any) -> None:
    data = settle(TAKEN).journal[0].data
    assert data == {
        "code": 250,
        "status": "2.0.0",
        "text": "ok",
        "attempt": 1,
        "destination": "mx:example.net",
        "rendition": "as accepted",
        "tries": [
            {
                "host": "mx.example.net",
                "address": "192.0.2.1",
                "tls": "TLSv1.3 X",
                "reply": "550 no such user",
                "at": 1.0,
                "seconds": 0.5,
                "phase": "RCPT",
            }
        ],
    }


def test_a_deferral_says_when_it_is_tried_again(settle: Any, make: Any) -> None:
    settlement = settle(LATER, r_attempts=2)
    assert settlement.changes[0].next_attempt == make.now + 1200
    assert settlement.changes[0].attempts == 3
    assert settlement.journal[0].data["next"] == make.now + 1200
    assert settlement.reports == ()


def test_recipients_that_waited_together_wait_together(make: Any, settle: Any) -> None:
    """One transaction, and one report of a delay, for all of them."""
    chances = iter((0.1, 0.9, 0.3))
    settlement = settle(LATER, LATER, LATER, policy=make.policy(random=lambda: next(chances)))
    assert len({change.next_attempt for change in settlement.changes}) == 1


def test_uncertainty_is_kept_once_it_arose(settle: Any) -> None:
    settlement = settle(Deferred(0, "4.4.2", "lost", uncertain=True))
    assert settlement.changes[0].uncertain
    assert settlement.journal[0].data["uncertain"] is True
    assert settle(LATER, r_uncertain=True).changes[0].uncertain
    assert settle(TAKEN, r_uncertain=True).changes[0].uncertain
    assert not settle(LATER).changes[0].uncertain


def test_a_missing_or_strange_outcome_is_a_deferral(make: Any) -> None:
    recipients = (make.recipient(1), make.recipient(2))
    job = Job(make.message(), recipients, make.content, "mx:example.net")
    settlement = settle_attempt(job, Attempt({2: "whatever"}), make.now, make.policy())  # type: ignore[dict-item]
    assert [change.state for change in settlement.changes] == [State.QUEUED, State.QUEUED]
    assert settlement.changes[0].next_attempt > make.now


# --- expiry -----------------------------------------------------------------------------------------------------------


def test_a_deferral_after_the_lifetime_and_three_attempts_is_a_failure_with_a_report(settle: Any, make: Any) -> None:
    settlement = settle(LATER, m_expires_at=make.now, r_attempts=2)
    (change,) = settlement.changes
    assert (change.state, change.status, change.text) == (State.FAILED, EXPIRED_STATUS, "try later")
    assert kinds(settlement) == [Event.FAILED, Event.REPORTED]
    assert b"Status: 5.4.7\r\n" in settlement.reports[0].content.body
    assert b"451 4.3.0 try later" in settlement.reports[0].content.body


@pytest.mark.parametrize(
    ("age", "attempts", "may_expire"),
    [(0.0, 1, True), (-1.0, 9, True), (1e9, 0, True), (0.0, 9, False)],
    ids=["too few attempts", "too young", "age alone", "clock in doubt"],
)
def test_neither_age_nor_attempts_alone_nor_a_doubtful_clock_expires(
    settle: Any, make: Any, age: float, attempts: int, may_expire: bool
) -> None:
    settlement = settle(LATER, m_expires_at=make.now - age, r_attempts=attempts, may_expire=may_expire)
    assert settlement.changes[0].state is State.QUEUED


def test_a_delivery_after_the_lifetime_is_a_delivery(settle: Any, make: Any) -> None:
    assert settle(TAKEN, m_expires_at=make.now - 1e6, r_attempts=9).changes[0].state is State.RELAYED


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_failure_has_its_report_in_the_same_settlement(settle: Any, make: Any) -> None:
    settlement = settle(NEVER)
    (report,) = settlement.reports
    message = report.message
    assert (message.id, message.kind, message.reverse_path) == (900, Kind.REPORT, NULL_PATH)
    assert (message.cause_message, message.cause_recipient) == (100, 1)
    assert (message.expires_at, message.config_generation) == (make.now + 172800, 5)
    (recipient,) = report.recipients
    assert recipient.address == parse_address("sender@example.org")
    assert (recipient.destination, recipient.route_generation) == ("maildir:/var/mail/{local}", 3)
    assert (report.claim_for, report.lease_until) == (77, make.now + 1000)
    entry = settlement.journal[1]
    assert (entry.kind, entry.recipient) == (Event.REPORTED, 1)
    assert entry.data == {"report": "00000000000W4", "kind": "failed", "to": "sender@example.org"}


def test_one_report_speaks_of_all_who_failed_and_of_nobody_else(settle: Any) -> None:
    settlement = settle(NEVER, TAKEN, Failed(552, "5.2.2", "full"), LATER)
    (report,) = settlement.reports
    body = report.content.body
    assert isinstance(body, bytes)
    assert [name in body for name in (b"; r1@", b"; r2@", b"; r3@", b"; r4@")] == [True, False, True, False]
    assert kinds(settlement)[4:] == [Event.REPORTED, Event.REPORTED]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"m_reverse_path": NULL_PATH}, "null reverse-path"),
        ({"r_reverse_path": NULL_PATH}, "null reverse-path"),
        ({"m_kind": Kind.REPORT}, "null reverse-path"),
        ({"r_notify": Notify.NEVER}, "NOTIFY=NEVER"),
        ({"r_notify": Notify.SUCCESS | Notify.DELAY}, "NOTIFY without FAILURE"),
        (
            {"m_reverse_path": parse_address("nobody@example.org")},
            "the return address is refused here: 550 5.1.1 No such recipient here (route 1)",
        ),
        (
            {"m_reverse_path": parse_address("x@gone.example")},
            "the return address is refused here: 550 5.1.6 moved (route 2)",
        ),
    ],
)
def test_where_no_report_is_owed_the_journal_says_why(settle: Any, changes: dict[str, Any], reason: str) -> None:
    settlement = settle(NEVER, **changes)
    assert settlement.reports == ()
    assert settlement.changes[0].state is State.FAILED
    assert kinds(settlement) == [Event.FAILED, Event.REPORT_NOT_OWED]
    assert settlement.journal[1].data == {"reason": reason}


def test_notify_with_failure_is_owed(settle: Any) -> None:
    assert len(settle(NEVER, r_notify=Notify.FAILURE | Notify.SUCCESS).reports) == 1


def test_notify_is_each_recipients_own(make: Any) -> None:
    recipients = (make.recipient(1, notify=Notify.NEVER), make.recipient(2))
    job = Job(make.message(), recipients, make.content, "mx:example.net")
    settlement = settle_attempt(job, Attempt({1: NEVER, 2: NEVER}), make.now, make.policy())
    assert b"; r1@" not in settlement.reports[0].content.body
    assert [entry.recipient for entry in settlement.journal[2:]] == [1, 2]
    assert settlement.reports[0].message.cause_recipient == 2


def test_the_recipients_own_reverse_path_gets_the_report(settle: Any) -> None:
    settlement = settle(NEVER, r_reverse_path=parse_address("owner@lists.example"))
    assert settlement.reports[0].recipients[0].address == parse_address("owner@lists.example")
    assert settlement.reports[0].recipients[0].destination == "mx:lists.example"


def test_a_report_waits_where_nobody_can_tell_if_its_reader_exists(settle: Any, make: Any) -> None:
    def broken(_: Address) -> bool:
        raise OSError

    router: Router = make.router(users=broken)
    settlement = settle(NEVER, policy=make.policy(router=router))
    assert settlement.reports[0].recipients[0].destination == "maildir:/var/mail/{local}"


def test_reports_are_held_when_all_mail_is(settle: Any, make: Any) -> None:
    assert settle(NEVER, policy=make.policy(hold_reports=True)).reports[0].recipients[0].held


def test_the_report_names_the_host_only_when_it_spoke(settle: Any) -> None:
    body = settle(NEVER).reports[0].content.body
    assert b"Remote-MTA: dns; mx.example.net" in body
    assert b"Remote-MTA" not in settle(replace(NEVER, code=0)).reports[0].content.body
