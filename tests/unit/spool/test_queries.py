"""What is asked of a long queue costs by what is found, never by how long the queue is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from mta.spool import queries
from mta.spool.birth import born
from mta.spool.contract import Selection
from mta.spool.database import SCHEMA, migrate, open_reader, open_writer
from mta.spool.rows import CONTENT_COLUMNS, MESSAGE_COLUMNS, RECIPIENT_COLUMNS, recipient_row, stored_message_row
from mta.spool.transaction import insert_rows
from mta.testing.spools import START, letter, recipient

DEAD = "mx:dead.example"
DEAD_ROWS = 20_000
OTHERS = 200


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    """A dead destination with 20,000 messages, in two priorities, and 200 others with two each."""
    path: Path = tmp_path_factory.mktemp("queue") / "spool.db"
    writer = open_writer(path)
    migrate(writer, SCHEMA / "spool")
    numbers = iter(range(1, 1 << 40))
    letters = []
    for number in range(DEAD_ROWS):
        new = recipient("u@dead.example", DEAD, priority=number % 2, next_attempt=START + 1 + number)
        letters.append(letter(next(numbers), new))
    for _ in range(2):
        letters += [letter(next(numbers), f"u@d{number:03}.example") for number in range(OTHERS)]
    recipients = [recipient_row(one) for each in letters for one in born(each, lambda: next(numbers))]
    with writer:
        cursor = writer.cursor()
        rows = [stored_message_row(each.message, each.content) for each in letters]
        insert_rows(cursor, "message", (*MESSAGE_COLUMNS, *CONTENT_COLUMNS), rows)
        insert_rows(cursor, "recipient", RECIPIENT_COLUMNS, recipients)
    reader = open_reader(path)
    yield reader
    reader.close()
    writer.close()


def steps(connection: apsw.Connection, work: Callable[[], object]) -> int:
    """Instructions of SQLite's machine, in hundreds."""
    counted = [0]

    def count() -> bool:
        counted[0] += 1
        return False

    connection.set_progress_handler(count, 100)
    work()
    connection.set_progress_handler(None)
    return counted[0]


def test_all_destinations_are_found_without_walking_through_a_queue(connection: apsw.Connection) -> None:
    found = queries.destinations_due(connection, START, 1000)
    assert len(found) == OTHERS + 1
    assert (found[-1].destination, found[-1].next_attempt) == (DEAD, START + 1)
    assert steps(connection, lambda: queries.destinations_due(connection, START, 1000)) < OTHERS * 2


def test_heads_are_claimed_without_walking_through_their_queue(connection: apsw.Connection) -> None:
    later = START + DEAD_ROWS + 10
    assert len(queries.due(connection, DEAD, 20, later)) == 20
    assert steps(connection, lambda: queries.due(connection, DEAD, 20, later)) < 100


def test_what_is_not_due_costs_nothing(connection: apsw.Connection) -> None:
    assert queries.due(connection, DEAD, 100, START) == []
    assert steps(connection, lambda: queries.due(connection, DEAD, 100, START)) < 5


def test_a_page_costs_its_rows(connection: apsw.Connection) -> None:
    page = queries.select(connection, Selection(), 50, 0)
    assert len(page.rows) == 50
    assert steps(connection, lambda: queries.select(connection, Selection(), 50, 0)) < 200
    assert steps(connection, lambda: queries.select(connection, Selection(), 50, page.cursor + 10_000)) < 200


def test_plans_do_not_hang_on_values(connection: apsw.Connection) -> None:
    """With a plan for each value, each reading would compile its statement anew."""
    assert connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1)
