"""What waits behind a suspended destination and is never attempted: told of, expired, lost by nothing."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import defer

from mta.mail.envelope import Kind, State
from mta.spool.contract import Event, SpoolFailed
from mta.testing.scheduling import DAY, DEAD, LATER, TAKEN, ScheduledHouse

HOUR = 3600.0


def down(messages: int = 100) -> tuple[ScheduledHouse, list[int]]:
    house = ScheduledHouse()
    house.agent.behave = lambda job: TAKEN if job.message.kind is Kind.REPORT else DEAD
    return house, [house.accept("a@dead.example") for _ in range(messages)]


def reports(house: ScheduledHouse, message: int) -> list[str]:
    entries = house.done(house.spool.events(message))
    return [entry.data["kind"] for entry in entries if entry.kind is Event.REPORTED]


def attempts(house: ScheduledHouse, message: int) -> int:
    return len([1 for _, job in house.agent.jobs if job.message.id == message])


def test_each_sender_is_told_of_the_delay_after_four_hours_and_once() -> None:
    house, messages = down()
    house.pass_time(4 * HOUR - 60)
    assert not house.reports()
    house.pass_time(4 * 60 + 5000)
    assert all(reports(house, message) == ["delayed"] for message in messages)
    assert sum(attempts(house, message) == 0 for message in messages) > 50
    house.pass_time(10 * HOUR)
    assert all(reports(house, message) == ["delayed"] for message in messages)


def test_what_was_never_attempted_is_told_within_minutes() -> None:
    house, messages = down()
    house.pass_time(4 * HOUR + 130)
    told = [message for message in messages if reports(house, message)]
    assert all(message in told for message in messages if not attempts(house, message))
    row = house.rows(told[-1])[0]
    assert (row.state, row.attempts, row.owner) == (State.QUEUED, 0, 0)
    assert 4 * HOUR <= row.delay_reported_at - house.base <= 4 * HOUR + 130


def test_each_message_expires_with_a_report() -> None:
    house, messages = down(200)
    house.pass_time(5 * DAY + 2 * HOUR)
    assert all(house.states(message) == [State.FAILED] for message in messages)
    assert all(reports(house, message) == ["delayed", "failed"] for message in messages)
    failed = [event for event in house.events if event[0] == "failed"]
    assert len(failed) == 200
    never = [message for message in messages if not attempts(house, message)]
    assert never
    (last,) = [event for event in failed if event[1] == never[-1]]
    assert (last[2]["status"], last[2]["reply"]) == ("5.4.7", "connection refused")
    house.pass_time(HOUR)
    assert house.done(house.spool.status()).queued == 0
    assert house.done(house.spool.status()).claimed == 0


def test_a_clock_that_jumps_tells_and_expires_nothing() -> None:
    house, messages = down(20)
    house.pass_time(100)
    house.wall_step = 30 * DAY
    house.pass_time(3000)
    assert all(house.states(message) == [State.QUEUED] for message in messages)
    assert not house.reports()


def test_mail_that_is_told_of_goes_on_when_the_host_lives_again() -> None:
    house, messages = down(60)
    house.pass_time(5 * HOUR)
    house.agent.behave = lambda job: TAKEN
    house.pass_time(5000)
    assert all(house.states(message) == [State.RELAYED] for message in messages)
    assert all(attempts(house, message) <= 6 for message in messages)


def test_what_waits_for_its_own_time_is_left_to_its_attempts() -> None:
    house = ScheduledHouse()
    house.agent.behave = lambda job: TAKEN if job.message.kind is Kind.REPORT else LATER
    message = house.accept("a@one.example")
    house.pass_time(9 * HOUR)
    assert reports(house, message) == ["delayed"]
    entries = house.done(house.spool.events(message))
    assert all("attempt" in entry.data for entry in entries if entry.kind is Event.DEFERRED)


def test_a_spool_that_fails_meanwhile_costs_a_minute_and_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    house, messages = down(30)
    house.pass_time(4 * HOUR - 60)
    real = house.spool.settle
    failures: list[Any] = []

    def failing(settlements: Any) -> Any:
        if len(failures) < 7:
            failures.append(settlements)
            return defer.fail(SpoolFailed("I/O error"))
        return real(settlements)

    monkeypatch.setattr(house.spool, "settle", failing)
    house.pass_time(10 * 60)
    assert len(failures) == 7
    untried = [message for message in messages if not attempts(house, message)]
    assert untried
    assert all(reports(house, message) == ["delayed"] for message in untried)
    assert house.done(house.spool.status()).claimed == 0


def test_content_that_cannot_be_read_is_reported_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    house, messages = down(20)
    house.pass_time(4 * HOUR - 60)
    monkeypatch.setattr(house.spool, "content", lambda _: defer.fail(SpoolFailed("damaged")))
    house.pass_time(4 * 60)
    assert any(reports(house, message) == ["delayed"] for message in messages)


def test_a_stop_in_the_middle_leaves_no_claim_behind() -> None:
    house, _ = down(100)
    house.pass_time(4 * HOUR - 60)
    for _ in range(100_000):
        house.clock.advance(0.001)
        if house.done(house.spool.status()).claimed > 10:
            break
    house.done(house.scheduler.stop())
    house.pass_time(1)
    assert house.done(house.spool.status()).claimed == 0
