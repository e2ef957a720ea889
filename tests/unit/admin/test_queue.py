"""The queue's verbs: everything is listed once, a change hits what was meant and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from mta.admin.errors import NOT_FOUND, UNAVAILABLE, USAGE
from mta.admin.queue import BATCH_ROWS, PAGE_ROWS
from mta.spool.contract import Change


def test_a_listing_goes_over_all_shards_page_by_page(furnished: Any) -> None:
    expected = [furnished.spools[0].put("a@example.org", f"r{number}@example.net") for number in range(PAGE_ROWS + 1)]
    expected += [furnished.spools[1].put("a@example.org", "b@example.net")]
    pages = furnished.all_pages("queue.list")
    assert [row["id"] for page in pages for row in page["rows"]] == expected
    assert [len(page["rows"]) for page in pages] == [PAGE_ROWS, 1, 1]


def test_a_row_says_what_an_operator_asks(furnished: Any) -> None:
    identifier = furnished.spools[0].put("", "b@example.net", age=60.0, held=True)
    (row,) = furnished.do("queue.list")["rows"]
    assert row | {"recipient_id": 0} == {
        "id": identifier,
        "sender": "",
        "received_at": furnished.house.now() - 60,
        "size": 1000,
        "recipient_id": 0,
        "recipient": "b@example.net",
        "original": "b@example.net",
        "state": "queued",
        "held": True,
        "uncertain": False,
        "active": False,
        "destination": "mx:example.net",
        "next_attempt": furnished.house.now() - 60,
        "attempts": 0,
        "priority": 0,
        "last": "",
    }


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"sender": "a@example.org"}, {"b@example.net", "c@example.net"}),
        ({"sender": "<>"}, {"d@example.com"}),
        ({"recipient": "@EXAMPLE.net"}, {"b@example.net", "c@example.net"}),
        ({"destination": "mx:example.com"}, {"d@example.com"}),
        ({"older_than": "1h"}, {"c@example.net"}),
        ({"sender": "a@example.org", "older_than": "1h"}, {"c@example.net"}),
        ({}, {"b@example.net", "c@example.net", "d@example.com"}),
    ],
)
def test_conditions_narrow(furnished: Any, conditions: dict[str, Any], expected: set[str]) -> None:
    furnished.spools[0].put("a@example.org", "b@example.net")
    furnished.spools[1].put("a@example.org", "c@example.net", age=7200.0)
    furnished.spools[0].put("", "d@example.com")
    pages = furnished.all_pages("queue.list", **conditions)
    assert {row["recipient"] for page in pages for row in page["rows"]} == expected
    assert sum(page["recipients"] for page in furnished.all_pages("queue.count", **conditions)) == len(expected)


def test_a_change_is_done_in_batches_over_all_shards_and_logged(furnished: Any) -> None:
    for number in range(BATCH_ROWS + 1):
        furnished.spools[0].put("a@example.org", f"r{number}@example.net")
    furnished.spools[1].put("a@example.org", "b@example.net")
    pages = furnished.all_pages("queue.alter", change="hold", all=True)
    assert [page["changed"] for page in pages] == [BATCH_ROWS, 1, 1]
    assert all(row.recipient.held for spool in furnished.spools for row in spool.rows)
    assert furnished.log.events[0] == ("queue-changed", {"change": "hold", "recipients": BATCH_ROWS, "by": "root"})
    assert furnished.spools[0].journal[-1].data == {"by": "root"}
    heard = [[(change, altered.changed) for change, altered in each.heard] for each in furnished.schedulers]
    assert heard == [[(Change.HOLD, BATCH_ROWS), (Change.HOLD, 1)], [(Change.HOLD, 1)]]  # of its own shard


@pytest.mark.parametrize("change", ["hold", "release", "retry", "delete"])
def test_the_scheduler_hears_of_each_change(furnished: Any, change: str) -> None:
    identifier = furnished.spools[0].put("a@example.org", "b@example.net", held=True)
    furnished.all_pages("queue.alter", change=change, ids=[identifier])
    (heard,) = furnished.schedulers[0].heard
    assert (heard[0].name.lower(), heard[1].changed) == (change.replace("delete", "remove"), 1)
    furnished.all_pages("queue.alter", change=change, ids=["0000000000001"])
    assert len(furnished.schedulers[0].heard) == 1


def test_deleting_one_leaves_the_others(furnished: Any) -> None:
    gone = furnished.spools[0].put("a@example.org", "b@example.net")
    stays = furnished.spools[0].put("a@example.org", "c@example.net")
    assert furnished.all_pages("queue.alter", change="delete", ids=[gone])[0]["changed"] == 1
    assert [row["id"] for row in furnished.do("queue.list")["rows"]] == [stays]


def test_everything_must_be_asked_for_by_name(furnished: Any) -> None:
    furnished.spools[0].put("a@example.org", "b@example.net")
    for arguments in ({}, {"ids": []}, {"sender": ""}, {"all": "yes"}):
        assert furnished.refused("queue.alter", change="delete", **arguments).code == USAGE
    assert furnished.spools[0].altered == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"change": "destroy", "all": True},
        {"change": "hold", "all": True, "cursor": "7:0"},
        {"change": "hold", "all": True, "cursor": "x"},
        {"change": "hold", "all": True, "cursor": 5},
        {"change": "hold", "all": True, "sendr": "a@b"},
    ],
)
def test_nonsense_changes_nothing(furnished: Any, arguments: dict[str, Any]) -> None:
    assert furnished.refused("queue.alter", **arguments).code == USAGE
    assert furnished.spools[0].altered == []


def test_a_stopped_house_changes_nothing(furnished: Any) -> None:
    furnished.house.readers, furnished.house.spools = furnished.spools, ()
    assert furnished.refused("queue.alter", change="hold", all=True).code == UNAVAILABLE
    assert furnished.do("queue.list")["rows"] == []


def test_show_tells_of_a_message_and_its_recipients(furnished: Any) -> None:
    identifier = furnished.spools[1].put("a@example.org", "b@example.net", "c@example.net", message_id="<1@x>")
    data = furnished.do("queue.show", id=identifier.lower(), header=True)
    assert data["message"]["id"] == identifier
    assert data["message"]["message_id"] == "<1@x>"
    assert [each["recipient"] for each in data["recipients"]] == ["b@example.net", "c@example.net"]
    assert data["header"] == "Subject: x\r\nX-Odd: \x1b\\xff\r\n"
    assert "header" not in furnished.do("queue.show", id=identifier)


def test_show_of_an_unknown_message_says_where_to_look(furnished: Any) -> None:
    error = furnished.refused("queue.show", id="0000000000001")
    assert error.code == NOT_FOUND
    assert "mta why 0000000000001" in str(error)
    assert furnished.refused("queue.show", id="nonsense").code == USAGE
    assert furnished.refused("queue.show", id="7ZZZZZZZZZZZZ").code == NOT_FOUND  # of a shard that this house has not
