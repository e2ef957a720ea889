"""One destination: its limit, and when its host counts as dead."""

from __future__ import annotations

import pytest

from mta.delivery.agent import Attempt, Try
from mta.mail.outcome import Deferred, Failed, Outcome, Relayed
from mta.scheduler.destinations import (
    FAILURE_REMEMBERED_SECONDS,
    LIMIT_REMEMBERED_SECONDS,
    Destination,
    pushed_back,
    unreached,
)

DEAD = Deferred(0, "4.4.1", "connection refused")
GREETED = Deferred(554, "5.3.2", "go away")
LATER = Deferred(451, "4.3.0", "later")


def attempt(*outcomes: Outcome, phase: str = "") -> Attempt:
    trail = (Try("h", "192.0.2.1", "", "", 0.0, 0.0, phase),) if phase else ()
    return Attempt(dict(enumerate(outcomes)), trail)


@pytest.mark.parametrize(
    ("made", "dead"),
    [
        (attempt(DEAD, phase="connect"), True),
        (attempt(GREETED, phase="greeting"), True),
        (attempt(Deferred(0, "4.7.5", "bad certificate"), phase="TLS handshake"), True),
        (attempt(Deferred(535, "4.7.8", "login refused"), phase="AUTH"), True),
        (attempt(Deferred(0, "4.4.3", "SERVFAIL")), True),
        (attempt(LATER, phase="RCPT"), False),
        (attempt(Deferred(0, "4.4.2", "lost"), phase="end of data"), False),
        (attempt(DEAD, Relayed(250, "2.0.0", "ok"), phase="connect"), False),
        (attempt(Failed(556, "5.1.10", "null MX")), False),
        (attempt(Deferred(0, "4.3.0", "internal error")), False),
        (attempt(), False),
    ],
)
def test_a_host_was_not_reached_when_the_attempt_ended_before_mail(made: Attempt, dead: bool) -> None:
    assert (unreached(made) is not None) is dead


def test_three_failures_in_a_row_suspend_a_new_destination() -> None:
    destination = Destination("mx:example.net", 20)
    assert [destination.failed(1.0) for _ in range(3)] == [False, False, True]
    destination.suspensions, destination.suspended_until = 1, 300.0
    assert not destination.failed(2.0)  # what was under way when it was suspended
    destination.suspended_until = 0.0
    assert destination.failed(301.0)  # the probe


def test_a_busy_destination_is_dead_only_when_a_whole_cohort_failed() -> None:
    destination = Destination("mx:example.net", 20)
    for _ in range(20):
        destination.limit.succeeded(20)
    assert [destination.failed(1.0) for _ in range(10)] == [False] * 9 + [True]  # 20, 19, 18 ... 10 at once


def test_a_host_that_never_took_mail_gets_few_connections_and_a_mailbox_all() -> None:
    assert Destination("mx:example.net", 20).limit.allowed == 5
    assert Destination("smtp:[h.example]:25", 2).limit.allowed == 2
    assert Destination("maildir:/var/mail/{local}", 20).limit.allowed == 20


def test_a_destination_is_forgotten_when_nothing_of_it_matters() -> None:
    destination = Destination("mx:example.net", 20)
    assert not destination.is_forgettable(10.0)
    assert destination.is_forgettable(1.0 + LIMIT_REMEMBERED_SECONDS)
    destination.failed(100.0)
    assert not destination.is_forgettable(200.0)
    assert destination.is_forgettable(101.0 + FAILURE_REMEMBERED_SECONDS)
    destination.in_flight = 1
    assert not destination.is_forgettable(1e9)


def test_a_421_pushes_back_and_does_not_count_as_death() -> None:
    busy = attempt(Deferred(421, "4.7.0", "too many"), phase="MAIL")
    assert pushed_back(busy)
    assert unreached(busy) is None
    assert not pushed_back(attempt(LATER, phase="RCPT"))
