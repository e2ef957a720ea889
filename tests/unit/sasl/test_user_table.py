"""Which users exist, from memory."""

from __future__ import annotations

import os

import pytest

from mta.mail.address import parse_address
from mta.sasl.refusal import BackendUnavailable
from mta.sasl.user_table import UserTable


@pytest.fixture
def table(database, threads) -> UserTable:
    table = UserTable(database, threads)
    table.load()
    return table


def result(deferred):
    seen = []
    deferred.addBoth(seen.append)
    return seen[0]


@pytest.mark.parametrize("text", ["demo@dev.test", "DEMO@dev.test", "demo+tag@dev.test", "Demo+a+b@dev.test"])
def test_a_user_s_addresses_are_the_user_s(table, text):
    assert table.user(parse_address(text)) == "demo@dev.test"


@pytest.mark.parametrize(
    "text", ["nobody@dev.test", "demo@example.org", "dem@dev.test", "+demo@dev.test", "demo-x@dev.test"]
)
def test_others_are_nobody_s(table, text):
    assert table.user(parse_address(text)) == ""


def test_a_new_user_is_there_after_a_refresh_and_a_deleted_one_is_gone(table, database):
    assert result(table.refresh()) is False
    database.add("new@dev.test", "password", now=0.0, random=os.urandom)
    database.delete("demo@dev.test")
    assert table.user(parse_address("new@dev.test")) == ""
    assert result(table.refresh()) is True
    assert table.user(parse_address("new@dev.test")) == "new@dev.test"
    assert table.user(parse_address("demo@dev.test")) == ""
    assert len(table) == 2


def test_an_unchanged_file_is_not_read_again(table, threads):
    result(table.refresh())
    assert threads.runs == 0


def test_a_file_that_breaks_leaves_the_last_good_table_in_force(table, database):
    database.path.write_bytes(b"broken")
    assert result(table.refresh()) is False
    assert table.user(parse_address("demo@dev.test")) == "demo@dev.test"
    database.path.unlink()
    assert result(table.refresh()) is False
    assert table.user(parse_address("demo@dev.test")) == "demo@dev.test"


def test_before_the_first_reading_nobody_knows_and_a_later_one_heals(database, threads):
    kept = database.path.read_bytes()
    database.path.unlink()
    table = UserTable(database, threads)
    table.load()
    with pytest.raises(BackendUnavailable):
        table.user(parse_address("demo@dev.test"))
    database.path.touch(0o600)
    database.path.write_bytes(kept)
    assert result(table.refresh()) is True
    assert table.user(parse_address("demo@dev.test")) == "demo@dev.test"
