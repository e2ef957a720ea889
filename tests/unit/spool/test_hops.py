"""What the spool keeps of next hops, and what waits behind those that are suspended: the same on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from mta.mail.address import NULL_PATH
from mta.mail.envelope import Kind, NewRecipient, Notify, State
from mta.spool import hops, queries
from mta.spool.birth import born
from mta.spool.contract import (
    Change,
    DestinationRecord,
    DestinationWaiting,
    Overdue,
    Patience,
    RecipientChange,
    Selection,
    Settlement,
)
from mta.spool.database import SCHEMA, migrate, open_reader, open_writer
from mta.spool.rows import CONTENT_COLUMNS, MESSAGE_COLUMNS, RECIPIENT_COLUMNS, recipient_row, stored_message_row
from mta.spool.transaction import insert_rows
from mta.testing.spools import OWNER, START, House, letter, outcome, recipient

DEAD = DestinationRecord("mx:dead.example", START + 500, 2, 1, 0, "4.4.1", "connection refused")
LATER = START + 6 * 86400


def put(house: House, *recipients: NewRecipient | str, **fields: object) -> None:
    made = letter(house.spool.new_id(), *recipients, **fields)  # type: ignore[arg-type]
    house.wait(house.spool.accept((made,)))


def overdue(house: House, now: float, delayed_since: float = 0.0, cursor: int = 0) -> Overdue:
    return house.wait(house.spool.claim_overdue(Patience(now, delayed_since), OWNER, now + 1e9, cursor))


def addresses(found: Overdue) -> list[str]:
    return [str(row.recipient.address) for row in found.rows]


def test_records_are_kept_replaced_and_forgotten(house: House) -> None:
    other = DestinationRecord("mx:other.example", learned_limit=12)
    house.wait(house.spool.remember((other, DEAD)))
    assert house.wait(house.spool.destinations()) == [DEAD, other]
    again = DestinationRecord(DEAD.key, START + 900, 3, 1, 421, "4.7.0", "too many")
    house.wait(house.spool.remember((again, DestinationRecord(other.key))))
    assert house.wait(house.spool.destinations()) == [again]


def test_records_survive_a_power_cut(house: House) -> None:
    house.wait(house.spool.remember((DEAD,)))
    house.crash(committed=True)
    assert house.wait(house.spool.destinations()) == [DEAD]


def test_a_suspended_destination_is_no_due_one_until_its_time(house: House) -> None:
    put(house, "a@dead.example", "b@alive.example")
    house.wait(house.spool.remember((DEAD,)))
    due = house.wait(house.spool.destinations_due(START + 499, 10))
    assert [one.destination for one in due] == ["mx:alive.example"]
    due = house.wait(house.spool.destinations_due(START + 500, 10))
    assert {one.destination for one in due} == {"mx:alive.example", "mx:dead.example"}


def test_first_times_are_told_of_the_destinations_asked_for(house: House) -> None:
    for late, priority in ((30, 0), (20, 4), (25, -3)):
        new = recipient("u@one.example", next_attempt=START + late, priority=priority)
        house.wait(house.spool.accept((letter(house.spool.new_id(), new),)))
    put(house, "u@two.example", "u@three.example")
    house.wait(house.spool.remember((DestinationRecord("mx:two.example", START + 9, 1),)))
    due = house.wait(house.spool.due_of(["mx:one.example", "mx:nothing.example", "mx:two.example"]))
    assert [(one.destination, one.next_attempt - START) for one in due] == [
        ("mx:two.example", 0),
        ("mx:one.example", 20),
    ]


def test_what_waits_is_counted_by_destination(house: House) -> None:
    put(house, "a@one.example", "b@one.example", recipient("c@one.example", held=True), "a@two.example")
    house.wait(house.spool.claim("mx:two.example", 5, OWNER, START, START + 9))
    assert house.wait(house.spool.waiting()) == [DestinationWaiting("mx:one.example", 2, START)]


def test_only_what_waits_behind_a_suspended_destination_is_overdue(house: House) -> None:
    put(house, "expired@dead.example", "other@alive.example")
    put(house, recipient("held@dead.example", held=True))
    put(house, "claimed@dead.example", claim_for=OWNER)
    put(house, "young@dead.example", now=LATER - 60)
    assert addresses(overdue(house, LATER)) == []
    house.wait(house.spool.remember((DestinationRecord(DEAD.key, LATER + 100, 1),)))
    found = overdue(house, LATER)
    assert (addresses(found), found.cursor) == (["expired@dead.example"], 0)
    row = found.rows[0].recipient
    assert (row.owner, row.token) == (OWNER, 2)
    assert addresses(overdue(house, LATER)) == []  # it is claimed
    house.wait(house.spool.settle((outcome(row, State.FAILED, LATER),)))


def test_a_delay_is_overdue_once_and_of_submissions_alone(house: House) -> None:
    house.wait(house.spool.remember((DestinationRecord(DEAD.key, START + 1e6, 1),)))
    put(house, "s@dead.example", kind=Kind.SUBMISSION)
    put(house, "r@dead.example", kind=Kind.RELAY)
    put(house, "late@dead.example", kind=Kind.SUBMISSION, now=START + 100)
    put(house, "later@dead.example", kind=Kind.SUBMISSION, not_before=START + 20)
    put(house, "null@dead.example", kind=Kind.SUBMISSION, sender="")
    for notify in (Notify.FAILURE, Notify.NEVER):
        put(house, recipient(f"{notify.name}@dead.example", notify=notify), kind=Kind.SUBMISSION)
    put(house, recipient("null2@dead.example", reverse_path=NULL_PATH), kind=Kind.SUBMISSION)
    put(house, recipient("d@dead.example", notify=Notify.FAILURE | Notify.DELAY), kind=Kind.LOCAL)
    found = overdue(house, START + 50, delayed_since=START)
    assert addresses(found) == ["s@dead.example", "d@dead.example"]
    for row in found.rows:
        change = RecipientChange(row.recipient.id, row.recipient.token, State.QUEUED, delay_reported_at=START + 50)
        house.wait(house.spool.settle((Settlement(row.message.id, (change,)),)))
    assert addresses(overdue(house, START + 50, delayed_since=START)) == []


def test_overdue_rows_come_in_bounded_steps_that_end(house: House) -> None:
    for number in range(600):
        put(house, f"u{number}@dead.example")
    house.wait(house.spool.remember((DestinationRecord(DEAD.key, LATER + 100, 1),)))
    found, cursor, steps = [], 0, 0
    while not steps or cursor:
        step = overdue(house, LATER, cursor=cursor)
        assert len(step.rows) <= 250
        found += addresses(step)
        cursor, steps = step.cursor, steps + 1
    assert found == [f"u{number}@dead.example" for number in range(600)]
    assert steps == 3


def test_a_change_names_its_destinations_and_a_selection_knows_what_is_not_due(house: House) -> None:
    put(house, "a@one.example", "b@two.example", "c@two.example")
    put(house, recipient("d@three.example", next_attempt=START + 60))
    put(house, "later@four.example", not_before=START + 60)
    altered = house.wait(house.spool.alter(Selection(recipient="@two.example"), Change.RETRY, START, "tester"))
    assert (altered.changed, altered.destinations) == (2, ("mx:two.example",))
    altered = house.wait(house.spool.alter(Selection(due_after=START), Change.RETRY, START, "tester"))
    assert (altered.changed, altered.destinations) == (1, ("mx:three.example",))


# --- a hundred thousand -----------------------------------------------------------------------------------------------

DEAD_ROWS = 100_000


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    """A dead destination with 100,000 messages of five days ago to now, and 500 others with one each."""
    path: Path = tmp_path_factory.mktemp("crowd") / "spool.db"
    writer = open_writer(path)
    migrate(writer, SCHEMA / "spool")
    numbers = iter(range(1, 1 << 40))
    with writer:
        cursor = writer.cursor()
        for first in range(0, DEAD_ROWS, 5000):
            letters = [
                letter(next(numbers), recipient("u@dead.example"), now=START + number * 4.32, kind=Kind.SUBMISSION)
                for number in range(first, first + 5000)
            ]
            if not first:
                letters += [letter(next(numbers), f"u@d{number:03}.example") for number in range(500)]
            rows = [recipient_row(one) for each in letters for one in born(each, lambda: next(numbers))]
            stored = [stored_message_row(each.message, each.content) for each in letters]
            insert_rows(cursor, "message", (*MESSAGE_COLUMNS, *CONTENT_COLUMNS), stored)
            insert_rows(cursor, "recipient", RECIPIENT_COLUMNS, rows)
    reader = open_reader(path)
    yield reader
    reader.close()
    writer.close()


def steps(connection: apsw.Connection, work: object) -> int:
    """Hundreds of instructions of SQLite's machine."""
    counted = [0]

    def count() -> bool:
        counted[0] += 1
        return False

    connection.set_progress_handler(count, 100)
    work()  # type: ignore[operator]
    connection.set_progress_handler(None)
    return counted[0]


def test_a_dead_destination_with_a_hundred_thousand_messages_costs_a_look_two_seeks(crowd: apsw.Connection) -> None:
    now = START + 432_000
    assert len(queries.destinations_due(crowd, now, 2000)) == 501
    assert steps(crowd, lambda: queries.destinations_due(crowd, now, 2000)) < 1000
    assert steps(crowd, lambda: hops.due_of(crowd, ["mx:dead.example"])) <= 1
    assert len(queries.due(crowd, "mx:dead.example", 20, now)) == 20
    assert steps(crowd, lambda: queries.due(crowd, "mx:dead.example", 20, now)) < 100


def test_the_sweep_looks_at_a_bounded_number_of_rows_at_once(crowd: apsw.Connection) -> None:
    assert hops.overdue(crowd, Patience(START, START), 0) == ([], 0)
    assert steps(crowd, lambda: hops.overdue(crowd, Patience(START, START), 0)) <= 1  # nothing is suspended
