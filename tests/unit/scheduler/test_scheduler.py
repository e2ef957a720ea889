"""The scheduler with a spool in memory, a fake agent and a fake clock: days pass in milliseconds."""

from __future__ import annotations

import email
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from twisted.internet import defer
from twisted.logger import globalLogPublisher

from mta.delivery.agent import Attempt, Job
from mta.mail.address import Address
from mta.mail.envelope import Content, Kind, State
from mta.mail.outcome import Deferred, Delivered, Outcome
from mta.scheduler.scheduler import STOP_SECONDS
from mta.spool.contract import Change, Event, Selection, SpoolFailed
from mta.testing.scheduling import (
    CONTENT,
    DAY,
    DEAD,
    LATER,
    NEVER,
    TAKEN,
    ScheduledHouse,
    Settings,
    scheduled_configuration,
    scheduled_router,
)


@pytest.fixture
def house() -> ScheduledHouse:
    return ScheduledHouse()


@pytest.fixture
def faults() -> Iterable[list[str]]:
    """What twisted.logger heard of our own faults."""
    heard: list[str] = []

    def observe(event: Any) -> None:
        if event["log_namespace"].startswith("mta.scheduler"):
            heard.append(event["log_format"])

    globalLogPublisher.addObserver(observe)
    yield heard
    globalLogPublisher.removeObserver(observe)


# --- at once, and again -----------------------------------------------------------------------------------------------


def test_accepted_mail_goes_at_once_from_memory(house: ScheduledHouse) -> None:
    message = house.accept("a@one.example")
    assert len(house.agent.jobs) == 1
    assert house.agent.jobs[0][1].content is CONTENT
    house.pass_time(1)
    assert house.states(message) == [State.RELAYED]
    (line,) = [each for each in house.events if each[0] == "relayed"]
    assert line[1] == message
    assert line[2]["to"] == "a@one.example"
    assert (line[2]["destination"], line[2]["host"], line[2]["status"]) == ("mx:one.example", "mx.test", "2.0.0")
    assert line[2]["reply"] == "250 ok"


def test_a_451_is_tried_again_after_five_minutes_and_then_taken(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: LATER if len(house.agent.jobs) == 1 else TAKEN
    message = house.accept("a@one.example")
    house.pass_time(1)
    assert house.states(message) == [State.QUEUED]
    house.pass_time(340)
    assert house.states(message) == [State.RELAYED]
    first, second = house.agent.times("a@one.example")
    assert 270 <= second - first <= 331
    assert house.kinds(message)[2:] == [Event.DEFERRED, Event.RELAYED]


@pytest.mark.parametrize("outcome", [LATER, DEAD], ids=["the message was deferred", "the host is dead"])
def test_waits_double_from_300_to_4000_seconds(house: ScheduledHouse, outcome: Outcome) -> None:
    house.agent.behave = lambda job: outcome
    house.accept("a@one.example")
    house.pass_time(4 * 3600)
    times = house.agent.times("a@one.example")
    waits = [later - earlier for earlier, later in pairwise(times)][:5]
    for wait, nominal in zip(waits, [300, 600, 1200, 2400, 4000], strict=True):
        assert 0.9 * nominal <= wait <= 1.1 * nominal + 1.1


def test_five_days_of_deferrals_end_in_a_failure_report_to_the_sender(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: TAKEN if job.message.kind is Kind.REPORT else LATER
    message = house.accept("a@one.example")
    house.pass_time(5 * DAY - 4500)
    assert house.states(message) == [State.QUEUED]
    (delayed,) = house.reports()
    assert 4 * 3600 <= delayed.message.received_at - house.base <= 4 * 3600 + 4500
    house.pass_time(10_000)
    assert house.states(message) == [State.FAILED]
    (_, report) = house.reports()
    assert 5 * DAY <= report.message.received_at - house.base <= 5 * DAY + 4500
    assert str(report.recipients[0].address) == "sender@example.org"
    assert report.destination == "maildir:/var/mail/{local}"
    assert house.kinds(message)[-2:] == [Event.FAILED, Event.REPORTED]
    assert house.states(report.message.id) == [State.RELAYED]
    assert isinstance(report.content.body, bytes)
    parsed = email.message_from_bytes(report.content.header + b"\r\n" + report.content.body)
    assert parsed.get_content_type() == "multipart/report"


def test_a_message_for_a_dead_host_expires_though_the_host_is_hardly_ever_asked(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: TAKEN if job.message.kind is Kind.REPORT else DEAD
    messages = [house.accept("a@dead.example") for _ in range(30)]
    house.pass_time(5.6 * DAY)
    assert {state for message in messages for state in house.states(message)} == {State.FAILED}
    assert [house.kinds(message)[-2:] for message in messages] == [[Event.FAILED, Event.REPORTED]] * 30


def test_a_permanent_failure_is_reported_at_once(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: TAKEN if job.message.kind is Kind.REPORT else NEVER
    message = house.accept("a@one.example")
    house.pass_time(1)
    assert house.states(message) == [State.FAILED]
    assert len(house.reports()) == 1
    assert [name for name, _, _ in house.events] == ["failed", "report", "relayed"]


def test_a_null_sender_gets_no_report_and_a_failing_report_causes_none(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: NEVER
    bounced = house.accept("a@one.example", sender="")
    house.pass_time(1)
    assert house.kinds(bounced)[-2:] == [Event.FAILED, Event.REPORT_NOT_OWED]
    assert not house.reports()
    house.accept("a@one.example")
    house.pass_time(DAY)
    (report,) = house.reports()
    assert house.kinds(report.message.id)[-2:] == [Event.FAILED, Event.REPORT_NOT_OWED]


def test_partial_success_in_one_transaction_settles_each_recipient_by_itself(house: ScheduledHouse) -> None:
    fates = {"a@one.example": TAKEN, "b@one.example": LATER, "c@one.example": NEVER, "d@one.example": NEVER}
    house.agent.behave = lambda job: TAKEN if job.message.kind is Kind.REPORT else fates
    message = house.accept(*fates)
    house.pass_time(1)
    assert len(house.agent.jobs) == 2
    assert house.states(message) == [State.RELAYED, State.QUEUED, State.FAILED, State.FAILED]
    (report,) = house.reports()
    assert isinstance(report.content.body, bytes)
    assert [each in report.content.body for each in (b"; a@", b"; b@", b"; c@", b"; d@")] == [False, False, True, True]
    house.agent.behave = lambda job: TAKEN
    house.pass_time(400)
    assert [str(each.address) for each in house.agent.jobs[-1][1].recipients] == ["b@one.example"]


def test_recipients_are_grouped_by_destination_and_at_most_a_hundred(house: ScheduledHouse) -> None:
    house.accept(*(f"u{number}@one.example" for number in range(230)), "x@two.example")
    house.pass_time(1)
    sizes = sorted((job.destination, len(job.recipients)) for _, job in house.agent.jobs)
    assert sizes == [("mx:one.example", 30), ("mx:one.example", 100), ("mx:one.example", 100), ("mx:two.example", 1)]


def test_mail_that_is_not_due_waits_for_its_time(house: ScheduledHouse) -> None:
    message = house.accept("a@one.example", next_attempt=house.now() + 500)
    house.pass_time(490)
    assert not house.agent.jobs
    house.pass_time(20)
    assert house.states(message) == [State.RELAYED]


# --- operators --------------------------------------------------------------------------------------------------------


def alter(house: ScheduledHouse, change: Change, message: int) -> None:
    selection = Selection(messages=(message,))
    house.scheduler.altered(change, house.done(house.spool.alter(selection, change, house.now(), "tester")))
    house.pass_time(0.1)


def test_held_mail_stays_until_it_is_released(house: ScheduledHouse) -> None:
    message = house.accept("a@one.example", held=True)
    house.pass_time(DAY)
    assert not house.agent.jobs
    alter(house, Change.RELEASE, message)
    house.pass_time(2)
    assert house.states(message) == [State.RELAYED]


def test_mail_that_waits_for_a_slot_can_be_held_removed_and_released() -> None:
    house = ScheduledHouse(destination_concurrency=1)
    house.agent.behave = lambda job: None
    house.accept("a@one.example")
    held, removed, kept = (house.accept("b@one.example") for _ in range(3))
    alter(house, Change.HOLD, held)
    alter(house, Change.REMOVE, removed)
    house.agent.behave = lambda job: TAKEN
    house.agent.finish()
    house.pass_time(5)
    assert [house.states(each) for each in (held, removed, kept)] == [[State.QUEUED], [State.REMOVED], [State.RELAYED]]
    alter(house, Change.RELEASE, held)
    house.pass_time(5)
    assert house.states(held) == [State.RELAYED]
    assert len(house.agent.jobs) == 3


def test_a_retry_goes_at_once_even_to_a_suspended_destination(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: DEAD
    messages = [house.accept("a@dead.example") for _ in range(6)]
    house.pass_time(2)
    assert any(each[0] == "destination-suspended" for each in house.events)
    house.agent.behave = lambda job: TAKEN
    alter(house, Change.RETRY, messages[0])
    house.pass_time(3)
    assert house.states(messages[0]) == [State.RELAYED]


def test_what_was_held_in_flight_and_delivered_is_delivered_once(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: None
    message = house.accept("a@one.example")
    alter(house, Change.HOLD, message)
    house.agent.finish()
    house.pass_time(5)
    assert house.states(message) == [State.RELAYED]
    alter(house, Change.RELEASE, message)
    house.pass_time(DAY)
    assert len(house.agent.jobs) == 1


def test_a_retry_of_what_is_in_flight_makes_no_second_copy(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: None
    message = house.accept("a@one.example")
    alter(house, Change.RETRY, message)
    house.pass_time(100)
    assert len(house.agent.jobs) == 1
    house.agent.finish()
    house.pass_time(DAY)
    assert house.states(message) == [State.RELAYED]
    assert len(house.agent.jobs) == 1


def test_of_a_group_that_lost_a_recipient_in_flight_the_rest_is_settled(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: None
    message = house.accept("a@one.example", "b@one.example")
    selection = Selection(recipient="a@one.example")
    altered = house.done(house.spool.alter(selection, Change.REMOVE, house.now(), "tester"))
    house.scheduler.altered(Change.REMOVE, altered)
    house.agent.finish()
    house.pass_time(2)
    assert house.states(message) == [State.REMOVED, State.RELAYED]
    assert [each[0] for each in house.events] == ["attempted-after-removal", "relayed"]
    assert house.scheduler.status()["unsettled"] == 0


# --- fairness ---------------------------------------------------------------------------------------------------------


def test_a_dead_destination_does_not_slow_another(house: ScheduledHouse) -> None:
    """1,000 messages for a host where each connection takes 30 s to fail, and one living host."""
    house.agent.behave = lambda job: 30.0 if job.destination == "mx:dead.example" else TAKEN
    for _ in range(1000):
        house.accept("a@dead.example")
    begun = house.clock.seconds()
    living = [house.accept(f"a{number}@alive.example") for number in range(50)]
    house.pass_time(1)
    assert {state for message in living for state in house.states(message)} == {State.RELAYED}
    assert house.clock.seconds() - begun < 5
    house.pass_time(3600)
    assert house.agent.most_at_once["mx:dead.example"] <= 5
    assert len(house.agent.times("a@dead.example")) < 40


def test_a_dead_destination_that_comes_back_gets_all_its_mail(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: DEAD
    messages = [house.accept("a@dead.example") for _ in range(200)]
    house.pass_time(1000)
    house.agent.behave = lambda job: TAKEN
    house.pass_time(3 * 4000)
    assert {state for message in messages for state in house.states(message)} == {State.RELAYED}


def test_destinations_take_turns() -> None:
    house = ScheduledHouse(destination_concurrency=1)
    house.agent.behave = lambda job: None
    for name in ("one", "two", "three"):
        for _ in range(3):
            house.accept(f"a@{name}.example")
    order = []
    for _ in range(3):
        house.pass_time(0.1)
        order += sorted(job.destination for job, _ in house.agent.waiting)
        house.agent.finish()
    assert order == ["mx:one.example", "mx:three.example", "mx:two.example"] * 3


def test_a_destination_gets_no_more_jobs_at_once_than_it_may() -> None:
    house = ScheduledHouse(destination_concurrency=8)
    house.agent.behave = lambda job: None
    for _ in range(60):
        house.accept("a@one.example")
    house.pass_time(1)
    rounds = []
    while house.agent.waiting:
        rounds.append(len(house.agent.waiting))
        house.agent.finish()
        house.pass_time(0.1)
    assert rounds[:3] == [5, 8, 8]  # it begins with 5, and each success allows one more
    assert max(rounds) == 8
    assert len(house.agent.jobs) == 60


def test_a_broken_mailbox_suspends_nothing(house: ScheduledHouse) -> None:
    full = Deferred(0, "4.3.0", "permission denied")
    house.agent.behave = lambda job: full if str(job.recipients[0].address) == "demo@example.org" else TAKEN
    for _ in range(10):
        house.accept("demo@example.org")
    message = house.accept("admin@example.org")
    house.pass_time(1)
    assert house.states(message) == [State.RELAYED]
    assert not any(each[0] == "destination-suspended" for each in house.events)


def test_older_mail_on_disk_goes_before_new_mail() -> None:
    house = ScheduledHouse(destination_concurrency=2)
    old = [house.accept("a@one.example", offer=False) for _ in range(30)]
    house.agent.behave = lambda job: None
    house.crash()
    house.pass_time(3)
    before = house.scheduler.status()["waiting"]
    new = house.accept("a@one.example")
    assert house.scheduler.status()["waiting"] == before  # it went behind what the spool has
    while house.agent.waiting:
        house.agent.finish()
        house.pass_time(3)
    assert sorted(job.message.id for _, job in house.agent.jobs) == sorted([*old, new])


# --- memory -----------------------------------------------------------------------------------------------------------


def test_beyond_the_hot_budget_content_is_read_back(house: ScheduledHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.scheduler.heads.HOT_LIMIT_OCTETS", 50)
    house.agent.behave = lambda job: None
    for _ in range(5):
        house.accept("a@one.example")
    assert house.scheduler.status()["hot_octets"] == 40
    house.pass_time(0.1)
    assert [job.content for _, job in house.agent.jobs] == [CONTENT] * 5
    house.agent.finish()
    house.pass_time(1)
    assert house.scheduler.status()["hot_octets"] == 0


def test_more_mail_than_fits_into_memory_goes_by_way_of_the_spool(
    house: ScheduledHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mta.scheduler.heads.ROWS_MAX", 20)
    house.agent.behave = lambda job: None
    messages = [house.accept(f"a@d{number % 7}.example") for number in range(100)]
    assert house.scheduler.status()["waiting"] <= 20  # type: ignore[operator]
    house.agent.behave = lambda job: TAKEN
    house.agent.finish()
    house.pass_time(60)
    assert {state for message in messages for state in house.states(message)} == {State.RELAYED}
    assert len(house.agent.jobs) == 100


def test_what_was_given_back_is_loaded_again_as_soon_as_there_is_room(
    house: ScheduledHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only by the look at the whole queue, once a minute."""
    house.pass_time(5)
    monkeypatch.setattr("mta.scheduler.heads.OFFERED_PER_SLOT", 1)
    house.agent.behave = lambda job: None
    messages = [house.accept("a@one.example") for _ in range(40)]
    house.agent.behave = lambda job: TAKEN
    house.agent.finish()
    house.pass_time(5)
    assert all(house.states(message) == [State.RELAYED] for message in messages)


def test_content_that_cannot_be_read_defers_and_bounces_nobody(house: ScheduledHouse, faults: list[str]) -> None:
    message = house.accept("a@one.example", offer=False)
    house.crash()
    house.spool.content = lambda identifier: defer.fail(KeyError(identifier))  # type: ignore[method-assign]
    house.pass_time(30)
    assert house.states(message) == [State.QUEUED]
    assert Event.DEFERRED in house.kinds(message)
    assert not house.agent.jobs
    assert faults


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raises", [True, False], ids=["the call raises", "the Deferred fails"])
def test_an_exception_in_an_agent_is_a_deferral(house: ScheduledHouse, faults: list[str], raises: bool) -> None:
    def broken(job: Job) -> defer.Deferred[Attempt]:
        if raises:
            raise ZeroDivisionError
        return defer.fail(ZeroDivisionError())

    house.agent.deliver = broken  # type: ignore[method-assign]
    message = house.accept("a@one.example")
    house.pass_time(1)
    assert house.states(message) == [State.QUEUED]
    assert house.kinds(message)[-1] is Event.DEFERRED
    assert len(faults) == 1


def test_an_agent_that_gives_nonsense_defers(house: ScheduledHouse, faults: list[str]) -> None:
    house.agent.deliver = lambda job: defer.succeed(None)  # type: ignore
    message = house.accept("a@one.example")
    house.pass_time(1)
    assert house.kinds(message)[-1] is Event.DEFERRED
    assert len(faults) == 1


def test_a_report_that_cannot_be_made_defers_the_failure_and_keeps_the_delivery(
    house: ScheduledHouse, faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("mta.scheduler.reports.compose_report", broken)
    house.agent.behave = lambda job: {"a@one.example": TAKEN, "b@one.example": NEVER}
    message = house.accept("a@one.example", "b@one.example")
    house.pass_time(1)
    assert house.states(message) == [State.RELAYED, State.QUEUED]
    assert len(faults) == 1


def test_a_spool_that_fails_loses_no_outcome_and_stops_new_attempts(
    house: ScheduledHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.agent.behave = lambda job: None
    failing, bouncing = house.accept("a@one.example"), house.accept("b@two.example")
    real = house.spool.settle
    monkeypatch.setattr(house.spool, "settle", lambda _: defer.fail(SpoolFailed("I/O error")))
    house.agent.finish(NEVER)
    later = house.accept("c@three.example")
    house.pass_time(100)
    assert house.scheduler.status()["blocked"] is True
    assert len(house.agent.jobs) == 2
    monkeypatch.setattr(house.spool, "settle", real)
    house.agent.behave = lambda job: TAKEN
    house.pass_time(60)
    assert [house.states(each) for each in (failing, bouncing, later)] == [[State.FAILED]] * 2 + [[State.RELAYED]]
    assert len(house.reports()) == 2
    assert house.scheduler.status()["blocked"] is False


def test_text_that_a_store_chokes_on_is_made_plain(
    house: ScheduledHouse, faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = house.spool.settle

    def choking(settlements: Any) -> Any:
        for change in settlements[0].changes:
            change.text.encode()
        return real(settlements)

    monkeypatch.setattr(house.spool, "settle", choking)
    house.agent.behave = lambda job: replace(LATER, text="broken \udc80 octet")
    message = house.accept("a@one.example")
    house.pass_time(5)
    assert house.kinds(message)[-1] is Event.DEFERRED
    assert house.scheduler.status()["unsettled"] == 0
    assert len(faults) == 1


def test_a_clock_that_jumps_a_month_expires_nothing(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: LATER
    message = house.accept("a@one.example")
    house.pass_time(5000)
    assert len(house.agent.jobs) >= 4
    house.wall_step = 30 * DAY
    house.pass_time(3000)
    assert house.states(message) == [State.QUEUED]
    assert house.scheduler.status()["clock_in_doubt"] is True
    house.wall_step = 0.0
    house.pass_time(2 * DAY)
    assert house.states(message) == [State.QUEUED]
    assert house.scheduler.status()["clock_in_doubt"] is False


# --- crash and end ----------------------------------------------------------------------------------------------------


def test_what_was_in_flight_at_a_crash_is_tried_again_soon(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: None
    message = house.accept("a@one.example")
    house.crash()
    house.agent.behave = lambda job: TAKEN
    house.pass_time(6)
    assert house.states(message) == [State.RELAYED]
    assert house.kinds(message)[2:] == [Event.CLAIMED_AGAIN, Event.RELAYED]
    assert ("recovered", 0, {"recipients": 1}) in house.events


def test_a_crash_between_the_attempt_and_its_commit_loses_neither_mail_nor_report(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: TAKEN if job.message.kind is Kind.REPORT else NEVER
    house.spool.settle = lambda _: defer.Deferred()  # type: ignore # the commit that never comes
    message = house.accept("a@one.example")
    assert len(house.agent.jobs) == 1
    house.crash()
    house.pass_time(10)
    assert house.states(message) == [State.FAILED]
    assert len(house.reports()) == 1


def test_stopping_waits_for_attempts_and_gives_the_rest_back() -> None:
    house = ScheduledHouse(destination_concurrency=1)
    house.agent.behave = lambda job: None
    running, waiting = house.accept("a@one.example"), house.accept("b@one.example")
    stopped: list[Any] = []
    house.scheduler.stop().addBoth(stopped.append)
    house.pass_time(1)
    assert not stopped
    house.agent.finish()
    house.pass_time(0.1)
    assert stopped == [None]
    assert not house.clock.getDelayedCalls()
    assert house.states(running) == [State.RELAYED]
    (row,) = house.done(house.spool.message(waiting))[1]
    assert (row.state, row.owner, row.attempts) == (State.QUEUED, 0, 0)
    assert len(house.agent.jobs) == 1


def test_stopping_is_bounded_and_what_hangs_is_free_for_the_next_boot(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: None
    message = house.accept("a@one.example")
    stopped: list[Any] = []
    house.scheduler.stop().addBoth(stopped.append)
    house.pass_time(STOP_SECONDS + 1)
    assert stopped == [None]
    assert not house.clock.getDelayedCalls()
    (row,) = house.done(house.spool.message(message))[1]
    assert (row.state, row.owner) == (State.QUEUED, 0)
    house.agent.finish()  # too late for us, but true
    house.pass_time(1)
    assert house.states(message) == [State.RELAYED]


def test_mail_offered_before_the_start_waits_for_it() -> None:
    house = ScheduledHouse()
    house.done(house.scheduler.stop())
    house.boot(start=False)
    message = house.accept("a@one.example")
    house.pass_time(1)
    assert not house.agent.jobs
    house.done(house.scheduler.start())
    house.pass_time(1)
    assert house.states(message) == [State.RELAYED]


def test_a_reload_counts_for_the_next_attempt(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: LATER
    house.settings = Settings(scheduled_configuration(retry_min=10), 2)
    house.accept("a@one.example")
    house.pass_time(15)
    assert len(house.agent.jobs) == 2


def test_a_thousand_rounds_end_with_nothing_in_memory(house: ScheduledHouse) -> None:
    fates = [TAKEN, LATER, NEVER, DEAD, Delivered(250, "2.0.0", "ok")]
    pick = Random(7)
    house.agent.behave = lambda job: pick.choice(fates)
    for number in range(1000):
        house.accept(f"a@d{number % 50}.example")
    house.pass_time(8 * DAY)
    status = house.scheduler.status()
    assert (status["waiting"], status["in_flight"], status["unsettled"], status["hot_octets"]) == (0, 0, 0, 0)
    assert not house.scheduler._heads.held
    assert house.done(house.spool.status()).queued == 0


def test_a_large_body_is_not_counted_as_hot(house: ScheduledHouse) -> None:
    house.agent.behave = lambda job: None
    writer = house.spool.body_writer(house.spool.new_id(), lambda: None)
    writer.write(b"x" * 100_000)
    content = Content(b"Subject: x\r\n", house.done(writer.finish()))
    house.accept("a@one.example", content=content)
    assert house.scheduler.status()["hot_octets"] == len(content.header)


def test_an_unknown_user_store_does_not_keep_a_report_from_being_queued(house: ScheduledHouse) -> None:
    def broken(_: Address) -> bool:
        raise OSError

    message = house.accept("a@one.example", offer=False)
    house.router = scheduled_router(users=broken)
    house.agent.behave = lambda job: TAKEN if job.message.kind is Kind.REPORT else NEVER
    house.crash()
    house.pass_time(10)
    assert house.states(message) == [State.FAILED]
    assert len(house.reports()) == 1
