"""Which reports an attempt causes, and what is told of recipients that nobody attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mta.delivery.agent import Attempt, Job, Try
from mta.dsn.parse import parse_report
from mta.dsn.report import Action
from mta.mail.address import NULL_PATH, parse_address
from mta.mail.envelope import Kind, NewRecipient, Notify, Recipient, State
from mta.mail.outcome import Deferred, Delivered, Expanded, Failed, Outcome, Relayed
from mta.scheduler.reports import report_kinds
from mta.scheduler.settlement import next_notice, settle_attempt, settle_waiting
from mta.spool.contract import Acceptance, Event, Settlement

HOUR = 3600.0
ALL = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY
LATER = Deferred(451, "4.3.0", "try later")
NEVER = Failed(550, "5.1.1", "no such user")
HERE = Delivered(250, "2.0.0", "in its mailbox")
TAKEN = Relayed(250, "2.0.0", "ok")
TAKEN_WITH_DSN = replace(TAKEN, dsn_capable=True)
DEAD = Deferred(0, "4.4.1", "connection refused")
CHILDREN = tuple(
    NewRecipient(parse_address(each), each, "mx:example.com") for each in ("a@example.com", "b@example.com")
)
EXPANDED = Expanded(250, "2.0.0", "alias team", CHILDREN)


def attempt_of(recipients: Sequence[Recipient], outcomes: Sequence[Outcome]) -> Attempt:
    trail = (Try("mx.example.net", "192.0.2.1", "", "said", 1.0, 0.5, "RCPT"),)
    return Attempt({each.id: outcome for each, outcome in zip(recipients, outcomes, strict=True)}, trail)


@pytest.fixture
def settle(make: Any) -> Any:
    """Settle an outcome for each recipient, `age` seconds after acceptance. Keywords: m_..., r_..., p_... change message, recipient
    and policy."""

    def settled(*outcomes: Outcome, age: float = 60.0, rows: Any = None, **changes: Any) -> Settlement:
        def of(prefix: str) -> dict[str, Any]:
            return {key[2:]: value for key, value in changes.items() if key.startswith(prefix)}

        rest = {key: value for key, value in changes.items() if key[1:2] != "_"}
        recipients = rows or [make.recipient(number, **of("r_")) for number in range(1, len(outcomes) + 1)]
        message = make.message(**{"received_at": make.now - age} | of("m_"))
        job = Job(message, tuple(recipients), make.content, rest.pop("destination", "mx:example.net"))
        return settle_attempt(job, attempt_of(recipients, outcomes), make.now, make.policy(**of("p_")), **rest)

    return settled


@pytest.fixture
def wait(make: Any) -> Any:
    """The same for recipients that nobody attempted."""

    def waited(*rows: Recipient, age: float, **changes: Any) -> Settlement | None:
        message = make.message(**{"received_at": make.now - age} | changes.pop("message", {}))
        job = Job(message, rows, make.content, "mx:example.net")
        return settle_waiting(job, DEAD, make.now, changes.pop("policy", None) or make.policy(), **changes)

    return waited


def told(report: Acceptance) -> list[tuple[str, str, str]]:
    """Who, what and the status, as a program reads it."""
    parsed = parse_report(report.content.header + b"\r\n" + report.content.body)  # type: ignore[operator]
    return [(each.final.text, each.action, each.status) for each in parsed.recipients]


# --- delays -----------------------------------------------------------------------------------------------------------


def test_who_submitted_a_message_is_told_after_four_hours_and_once(settle: Any, make: Any) -> None:
    assert settle(LATER, age=4 * HOUR - 1).reports == ()
    settlement = settle(LATER, age=4 * HOUR)
    assert told(settlement.reports[0]) == [("r1@example.net", "delayed", "4.3.0")]
    assert report_kinds(settlement) == ["delayed"]
    (change,) = settlement.changes
    assert (change.state, change.delay_reported_at) == (State.QUEUED, make.now)
    assert change.next_attempt > make.now
    assert settlement.journal[1].kind is Event.REPORTED
    assert settlement.journal[1].data["kind"] == "delayed"
    again = settle(LATER, age=8 * HOUR, r_delay_reported_at=make.now - 4 * HOUR)
    assert (again.reports, again.changes[0].delay_reported_at) == ((), 0.0)


@pytest.mark.parametrize("kind", list(Kind))
def test_only_what_was_submitted_here_is_reported_as_delayed(settle: Any, kind: Kind) -> None:
    assert bool(settle(LATER, age=5 * HOUR, m_kind=kind).reports) == (kind in {Kind.SUBMISSION, Kind.LOCAL})


@pytest.mark.parametrize(
    ("notify", "owed"),
    [(Notify.UNSET, True), (Notify.DELAY, True), (ALL, True), (Notify.NEVER, False), (Notify.FAILURE, False)],
)
def test_notify_decides_about_delays(settle: Any, notify: Notify, owed: bool) -> None:
    settlement = settle(LATER, age=5 * HOUR, r_notify=notify)
    assert (len(settlement.reports), len(settlement.journal)) == (owed, 1 + owed)  # law 2 asks for no reason here


@pytest.mark.parametrize(
    "changes",
    [
        {"p_delay_report_after": 0.0},
        {"may_expire": False},
        {"notices": False},
        {"m_reverse_path": NULL_PATH},
        {"m_reverse_path": parse_address("nobody@example.org")},
        {"m_not_before": 1e12},
    ],
    ids=[
        "switched off",
        "clock in doubt",
        "no notices",
        "null reverse-path",
        "refused return address",
        "sent for later",
    ],
)
def test_no_delay_is_told(settle: Any, changes: dict[str, Any]) -> None:
    settlement = settle(LATER, age=5 * HOUR, **changes)
    assert (settlement.reports, len(settlement.journal), settlement.changes[0].delay_reported_at) == ((), 1, 0.0)


def test_the_hours_count_from_when_the_message_may_go(settle: Any, make: Any) -> None:
    assert not settle(LATER, age=9 * HOUR, m_not_before=make.now - 3 * HOUR).reports
    assert settle(LATER, age=9 * HOUR, m_not_before=make.now - 4 * HOUR).reports


def test_what_fails_after_four_hours_is_not_also_delayed(settle: Any) -> None:
    assert report_kinds(settle(NEVER, age=5 * HOUR)) == ["failed"]
    assert report_kinds(settle(TAKEN, age=5 * HOUR)) == []


# --- successes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [(HERE, "delivered"), (TAKEN, "relayed"), (TAKEN_WITH_DSN, None), (EXPANDED, "expanded")],
)
def test_notify_success_is_answered_unless_the_next_hop_will(settle: Any, outcome: Outcome, kind: str | None) -> None:
    settlement = settle(outcome, r_notify=Notify.SUCCESS, m_kind=Kind.RELAY)
    assert report_kinds(settlement) == ([kind] if kind else [])
    for report in settlement.reports:
        assert told(report) == [("r1@example.net", kind, "2.0.0")]
    for notify in (Notify.UNSET, Notify.NEVER, Notify.FAILURE | Notify.DELAY):
        assert settle(outcome, r_notify=notify).reports == ()
    assert settle(outcome, r_notify=Notify.SUCCESS, notices=False).reports == ()
    assert settle(outcome, r_notify=Notify.SUCCESS, m_reverse_path=NULL_PATH).reports == ()


def test_what_a_rule_throws_away_is_not_told_as_delivered(settle: Any) -> None:
    assert settle(HERE, r_notify=ALL, destination="discard:route-1").reports == ()


# --- expansion --------------------------------------------------------------------------------------------------------


def test_children_are_in_the_settlement_of_their_parent_and_know_it(settle: Any) -> None:
    settlement = settle(EXPANDED, TAKEN)
    assert [each.state for each in settlement.changes] == [State.EXPANDED, State.RELAYED]
    assert [(str(each.address), each.parent) for each in settlement.children] == [
        ("a@example.com", 1),
        ("b@example.com", 1),
    ]
    assert settlement.journal[0].kind is Event.EXPANDED
    assert settlement.journal[0].data["children"] == 2


def test_an_alias_of_one_address_tells_nothing_because_its_heir_will(settle: Any) -> None:
    assert settle(replace(EXPANDED, children=CHILDREN[:1]), r_notify=Notify.SUCCESS).reports == ()


def test_an_expansion_to_nobody_is_refused_before_it_loses_mail() -> None:
    with pytest.raises(ValueError, match="an expansion to nobody"):
        replace(EXPANDED, children=())


@pytest.mark.parametrize(
    ("host", "address", "shown"),
    [
        ("mx.example.net", "192.0.2.1", b"dns; mx.example.net\r\n"),
        ("", "192.0.2.1", b"dns; [192.0.2.1]\r\n"),
        ("2001:db8::1", "2001:db8::1", b"dns; [IPv6:2001:db8::1]\r\n"),
    ],
)
def test_the_host_that_spoke_is_named_an_address_as_a_literal(make: Any, host: str, address: str, shown: bytes) -> None:
    row = make.recipient(1)
    attempt = Attempt({1: NEVER}, (Try(host, address, "", "said", 1.0, 0.5, "RCPT"),))
    job = Job(make.message(), (row,), make.content, "mx:example.net")
    body = settle_attempt(job, attempt, make.now, make.policy()).reports[0].content.body
    assert b"Remote-MTA: " + shown in body  # type: ignore[operator]


# --- several at once --------------------------------------------------------------------------------------------------


def test_each_kind_has_its_report_and_each_report_all_of_its_kind(settle: Any) -> None:
    outcomes = (NEVER, LATER, HERE, NEVER, LATER, TAKEN)
    settlement = settle(*outcomes, age=5 * HOUR, r_notify=ALL)
    assert report_kinds(settlement) == ["failed", "delayed", "delivered", "relayed"]
    assert [[who.partition("@")[0] for who, _, _ in told(report)] for report in settlement.reports] == [
        ["r1", "r4"],
        ["r2", "r5"],
        ["r3"],
        ["r6"],
    ]
    assert [change.delay_reported_at > 0 for change in settlement.changes] == [False, True, False, False, True, False]


def test_each_return_path_has_its_report(settle: Any, make: Any) -> None:
    rows = [make.recipient(1), make.recipient(2, reverse_path=parse_address("owner@lists.example"))]
    settlement = settle(NEVER, NEVER, rows=rows)
    assert [str(each.recipients[0].address) for each in settlement.reports] == [
        "sender@example.org",
        "owner@lists.example",
    ]
    assert [len(told(each)) for each in settlement.reports] == [1, 1]


def test_only_a_failure_returns_the_whole_message(settle: Any) -> None:
    settlement = settle(NEVER, HERE, r_notify=ALL, m_ret="FULL")
    assert [b"message/rfc822\r\n" in each.content.body for each in settlement.reports] == [True, False]


# --- recipients that nobody attempts ----------------------------------------------------------------------------------


def test_who_waits_for_a_dead_host_is_told_of_once_and_keeps_its_place(wait: Any, make: Any) -> None:
    row = make.recipient(1, attempts=2, next_attempt=make.now + 99, uncertain=True)
    assert wait(row, age=4 * HOUR - 1) is None
    settlement = wait(row, age=4 * HOUR)
    (change,) = settlement.changes
    assert (change.state, change.attempts, change.next_attempt, change.uncertain) == (
        State.QUEUED,
        2,
        make.now + 99,
        True,
    )
    assert (change.token, change.delay_reported_at, change.text) == (11, make.now, "connection refused")
    assert [entry.kind for entry in settlement.journal] == [Event.REPORTED]
    assert told(settlement.reports[0]) == [("r1@example.net", "delayed", "4.4.1")]
    assert b"Last-Attempt-Date" not in settlement.reports[0].content.body
    assert wait(replace(row, delay_reported_at=1.0), age=9 * HOUR) is None


@pytest.mark.parametrize(
    ("attempts", "destination_attempts", "expired"), [(3, 0, True), (0, 3, True), (2, 2, False), (0, 0, False)]
)
def test_who_waits_expires_after_three_attempts_of_its_own_or_of_its_destination(
    wait: Any, make: Any, attempts: int, destination_attempts: int, expired: bool
) -> None:
    row = make.recipient(1, attempts=attempts, delay_reported_at=1.0)
    over = {"expires_at": make.now}
    settlement = wait(row, age=9 * HOUR, message=over, destination_attempts=destination_attempts)
    assert (settlement is not None) == expired
    if settlement is not None:
        (change,) = settlement.changes
        assert (change.state, change.status, change.attempts) == (State.FAILED, "5.4.7", attempts)
        assert [entry.kind for entry in settlement.journal] == [Event.FAILED, Event.REPORTED]
        assert told(settlement.reports[0]) == [("r1@example.net", "failed", "5.4.7")]


def test_an_expiry_without_a_report_says_why(wait: Any, make: Any) -> None:
    row = make.recipient(1, attempts=5, notify=Notify.NEVER)
    settlement = wait(row, age=9 * HOUR, message={"expires_at": make.now})
    assert settlement.reports == ()
    assert [entry.kind for entry in settlement.journal] == [Event.FAILED, Event.REPORT_NOT_OWED]


def test_in_doubt_of_the_clock_nothing_is_told_or_expires(wait: Any, make: Any) -> None:
    row = make.recipient(1, attempts=5)
    assert wait(row, age=9 * HOUR, message={"expires_at": make.now}, may_expire=False) is None


def test_of_several_only_those_that_something_is_owed_to_are_settled(wait: Any, make: Any) -> None:
    rows = (make.recipient(1), make.recipient(2, delay_reported_at=1.0), make.recipient(3, notify=Notify.NEVER))
    assert [each.recipient for each in wait(*rows, age=5 * HOUR).changes] == [1]


def test_a_delay_that_cannot_be_told_changes_nothing(wait: Any, make: Any) -> None:
    gone = {"reverse_path": parse_address("nobody@example.org")}
    assert wait(make.recipient(1), age=5 * HOUR, message=gone) is None


def test_the_next_notice_is_the_delay_report_and_then_the_end(make: Any) -> None:
    message, policy = make.message(), make.policy()
    row = make.recipient(1)
    assert next_notice(message, row, policy) == message.received_at + 4 * HOUR
    for changed in (replace(row, delay_reported_at=1.0), replace(row, notify=Notify.FAILURE)):
        assert next_notice(message, changed, policy) == message.expires_at


def test_an_attempt_expires_what_its_destination_was_too_dead_to_be_asked_for(settle: Any, make: Any) -> None:
    over = {"m_expires_at": make.now}
    assert settle(DEAD, **over).changes[0].state is State.QUEUED
    assert settle(DEAD, destination_attempts=3, **over).changes[0].state is State.FAILED


def test_every_action_has_a_wish_that_asks_for_it(settle: Any) -> None:
    kinds = set(report_kinds(settle(NEVER, HERE, TAKEN, EXPANDED, LATER, age=5 * HOUR, r_notify=ALL)))
    assert kinds == {each.value for each in Action}
