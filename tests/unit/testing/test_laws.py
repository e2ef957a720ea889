"""The checker of a simulated house sees each breach that is made on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mta.mail.envelope import Kind, State
from mta.mail.identifiers import parse_id
from mta.spool.contract import Event
from mta.testing.laws import breaches
from mta.testing.simulated_house import SimulatedHouse
from mta.testing.simulated_node import SimulatedNode


@pytest.fixture
def house() -> Iterator[SimulatedHouse]:
    house = SimulatedHouse()
    house.txmta("hub.test")
    house.peer("mx.example.net", {"RCPT TO:<bad@": "550 5.1.1 nobody"})
    house.dns.mx("example.net", 10, "mx.example.net")
    yield house
    house.close()


def played(house: SimulatedHouse, *recipients: str) -> tuple[SimulatedNode, int]:
    node = house.nodes["hub.test"]
    identifier = node.submit("user@hub.test", list(recipients))
    house.advance(minutes=5)
    house.check()
    return node, parse_id(identifier)


def stored(node: SimulatedNode) -> Any:
    return node.spool._stored


def row(node: SimulatedNode, message: int) -> int:
    number: int = stored(node).of_message[message][0]
    return number


def alter(node: SimulatedNode, message: int, **changes: Any) -> None:
    number = row(node, message)
    stored(node).recipients[number] = replace(stored(node).recipients[number], **changes)


def drop(node: SimulatedNode, message: int, kind: Event) -> None:
    stored(node).journal[message] = [each for each in stored(node).journal[message] if each.kind is not kind]


def only(house: SimulatedHouse) -> str:
    (breach,) = breaches(house)
    return breach


def test_a_message_that_vanished(house: SimulatedHouse) -> None:
    node, message = played(house, "alice@example.net")
    del stored(node).recipients[row(node, message)]
    del stored(node).messages[message]
    assert "acknowledged and is lost" in only(house)


def test_a_recipient_that_vanished(house: SimulatedHouse) -> None:
    node, message = played(house, "alice@example.net", "bob@example.net")
    number = stored(node).of_message[message].pop()
    del stored(node).recipients[number]
    assert any("bob@example.net was acknowledged and is lost" in each for each in breaches(house))


def test_a_state_that_nobody_wrote_down(house: SimulatedHouse) -> None:
    node, message = played(house, "alice@example.net")
    alter(node, message, state=State.REMOVED)
    assert "it is REMOVED, and its journal ends it 1 times" in only(house)


def test_an_attempt_that_nobody_wrote_down(house: SimulatedHouse) -> None:
    node, message = played(house, "alice@example.net")
    alter(node, message, attempts=7)
    assert "7 attempts, 1 of them in the journal" in only(house)


def test_a_failure_that_nobody_was_told_of(house: SimulatedHouse) -> None:
    node, message = played(house, "bad@example.net")
    drop(node, message, Event.REPORTED)
    assert "nobody was told" in only(house)


def test_a_report_that_vanished(house: SimulatedHouse) -> None:
    node, message = played(house, "bad@example.net")
    (report,) = set(stored(node).messages) - {message}
    del stored(node).recipients[row(node, report)]
    del stored(node).messages[report]
    assert "does not exist" in only(house)


def test_a_sender_who_was_told_twice(house: SimulatedHouse) -> None:
    node, message = played(house, "bad@example.net")
    journal = stored(node).journal[message]
    journal.append(next(each for each in journal if each.kind is Event.REPORTED))
    assert any("told more than once" in each for each in breaches(house))


def test_a_report_that_caused_a_report(house: SimulatedHouse) -> None:
    node, message = played(house, "bad@example.net")
    (report,) = set(stored(node).messages) - {message}
    record, content = stored(node).messages[message]
    stored(node).messages[message] = (replace(record, kind=Kind.REPORT, cause_message=report), content)
    assert any("caused a report" in each for each in breaches(house))


def test_mail_that_is_called_relayed_and_came_nowhere(house: SimulatedHouse) -> None:
    played(house, "alice@example.net")
    copies = house.peers["mx.example.net"].messages
    kept = copies[:]
    copies.clear()
    assert "arrived nowhere" in only(house)
    copies += [*kept, *kept]
    assert "2 copies" in only(house)


def test_mail_that_is_called_delivered_and_lies_nowhere(house: SimulatedHouse) -> None:
    node, _ = played(house, "other@hub.test")
    for path in (node.mail / "hub.test" / "other" / "new").iterdir():
        path.unlink()
    assert "arrived nowhere" in only(house)


def test_a_fault_of_ours_is_seen(house: SimulatedHouse) -> None:
    node = house.nodes["hub.test"]
    assert node.process is not None
    node.process.callLater(1, lambda: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        house.advance(minutes=1)


def test_mail_that_a_dead_boot_holds(house: SimulatedHouse) -> None:
    house.peers["mx.example.net"].down()
    node, message = played(house, "alice@example.net")
    alter(node, message, owner=7)
    with pytest.raises(AssertionError, match="claimed by a boot that is dead"):
        house.check()


def test_mail_that_nobody_tries(house: SimulatedHouse) -> None:
    house.peers["mx.example.net"].down()
    node, message = played(house, "alice@example.net")
    alter(node, message, next_attempt=house.now() - 8000)
    house.check()  # another of its kind was tried just now
    stored(node).journal[message] = [each for each in stored(node).journal[message] if "attempt" not in each.data]
    alter(node, message, attempts=0)
    with pytest.raises(AssertionError, match="due for 8000 s, and nobody tries"):
        house.check()
