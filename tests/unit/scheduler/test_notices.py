"""Reports of delays and successes, and expansions, through the scheduler: taken up, counted, and never in the way of the mail itself."""

from __future__ import annotations

from typing import Any

import pytest

from mta.dsn.parse import parse_report
from mta.mail.address import parse_address
from mta.mail.envelope import Kind, NewRecipient, Notify, State
from mta.mail.outcome import Delivered, Expanded
from mta.spool.contract import Event
from mta.testing.scheduling import LATER, NEVER, TAKEN, ScheduledHouse

HERE = Delivered(250, "2.0.0", "in its mailbox")
TEAM = Expanded(
    250,
    "2.0.0",
    "alias team",
    (
        NewRecipient(parse_address("a@one.example"), "a@one.example", "mx:one.example", notify=Notify.FAILURE),
        NewRecipient(parse_address("b@two.example"), "b@two.example", "mx:two.example", notify=Notify.FAILURE),
    ),
)


@pytest.fixture
def house() -> ScheduledHouse:
    return ScheduledHouse()


def behave(house: ScheduledHouse, **fates: Any) -> None:
    """By the local part of the recipient; reports are taken."""
    house.agent.behave = lambda job: (
        TAKEN
        if job.message.kind is Kind.REPORT
        else {str(each.address): fates[each.address.local] for each in job.recipients}
    )


def reported(house: ScheduledHouse) -> list[tuple[str, str]]:
    """What the reports say, in their order."""
    said = []
    for job in house.reports():
        assert isinstance(job.content.body, bytes)
        report = parse_report(job.content.header + b"\r\n" + job.content.body)
        said += [(each.address, str(each.action)) for each in report.recipients]
    return said


def test_each_kind_of_news_is_sent_and_logged_by_its_name(house: ScheduledHouse) -> None:
    behave(house, here=HERE, taken=TAKEN, never=NEVER, later=LATER)
    addresses = [f"{name}@one.example" for name in ("here", "taken", "never", "later")]
    house.accept(*addresses, notify=Notify.SUCCESS | Notify.FAILURE | Notify.DELAY)
    house.pass_time(6 * 3600)
    assert sorted(reported(house)) == sorted(zip(addresses, ("delivered", "relayed", "failed", "delayed"), strict=True))
    kinds = [fields["kind"] for name, _, fields in house.events if name == "report"]
    assert sorted(kinds) == ["delayed", "delivered", "failed", "relayed"]


def test_children_of_an_expansion_go_their_own_ways_and_their_parent_is_told_of(house: ScheduledHouse) -> None:
    behave(house, team=TEAM, a=TAKEN, b=NEVER)
    message = house.accept("team@example.com", notify=Notify.SUCCESS | Notify.FAILURE)
    house.pass_time(60)
    assert house.states(message) == [State.EXPANDED, State.RELAYED, State.FAILED]
    assert reported(house) == [("team@example.com", "expanded"), ("b@two.example", "failed")]
    assert house.kinds(message).count(Event.QUEUED) == 3


def test_an_expansion_survives_a_crash_with_all_its_children(house: ScheduledHouse) -> None:
    behave(house, team=TEAM, a=TAKEN, b=TAKEN)
    message = house.accept("team@example.com")
    house.clock.advance(0.003)  # settled, and no child begun
    house.crash()
    house.pass_time(60)
    assert house.states(message) == [State.EXPANDED, State.RELAYED, State.RELAYED]
    assert len(house.agent.times("team@example.com")) == 1


def test_news_that_cannot_be_made_is_not_in_the_way_of_the_mail(
    house: ScheduledHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("mta.scheduler.reports.compose_report", broken)
    behave(house, here=HERE, later=LATER)
    delivered = house.accept("here@one.example", notify=Notify.SUCCESS)
    delayed = house.accept("later@two.example")
    house.pass_time(6 * 3600)
    assert (house.states(delivered), house.states(delayed)) == ([State.DELIVERED], [State.QUEUED])
    assert not house.reports()
    assert not house.scheduler.status()["blocked"]
    assert len(house.agent.times("later@two.example")) > 5
