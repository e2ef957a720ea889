"""A window that success opens and failure narrows."""

from __future__ import annotations

from mta.scheduler.limits import Limit


def test_it_begins_with_five_and_each_success_opens_it_up_to_the_most() -> None:
    limit = Limit(20)
    seen = []
    for _ in range(20):
        seen.append(limit.allowed)
        limit.succeeded(20)
    assert seen == [*range(5, 20), 20, 20, 20, 20, 20]
    assert Limit(3).allowed == 3


def test_a_failure_narrows_it_and_from_there_on_it_opens_slowly() -> None:
    """A host that bears ten: eleven are refused. It must not be asked for eleven again by the next success."""
    limit = Limit(20)
    for _ in range(6):
        limit.succeeded(20)
    limit.failed()
    assert limit.allowed == 10
    for _ in range(9):
        limit.succeeded(20)
    assert limit.allowed == 10
    limit.succeeded(20)
    assert limit.allowed == 11


def test_one_is_always_allowed() -> None:
    limit = Limit(20)
    for _ in range(50):
        limit.failed()
    assert limit.allowed == 1


def test_after_a_probe_got_through_it_is_as_at_the_beginning() -> None:
    limit = Limit(20)
    limit.failed()
    limit.probe()
    assert limit.allowed == 1
    limit.restart(20)
    limit.succeeded(20)
    assert limit.allowed == 6


def test_a_lower_configured_number_holds_at_the_next_success() -> None:
    limit = Limit(20, 20)
    limit.succeeded(7)
    assert limit.allowed == 7
