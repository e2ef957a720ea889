"""Next hops as an operator sees them, and sending them their mail now."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import succeed

from mta.admin.errors import UNAVAILABLE
from mta.spool.contract import Change, DestinationRecord, DestinationWaiting

LIVE = {
    "destination": "mx:a.example", "site": "mx.big.example", "site_limit": 9, "site_in_flight": 4, "limit": 7, "in_flight": 3,
    "in_memory": 20, "more_in_spool": True, "suspended_until": 0.0, "suspensions": 0, "last_reply": "250 2.0.0 ok",
}  # fmt: skip


def test_the_spool_and_the_scheduler_are_told_as_one(furnished: Any) -> None:
    furnished.spools[0].numbers = [
        DestinationWaiting("mx:a.example", 100, 5.0),
        DestinationWaiting("mx:b.example", 3, 6.0),
    ]
    furnished.spools[1].records = [DestinationRecord("mx:dead.example", 99.0, 4, 0, 421, "4.7.0", "too many")]
    furnished.schedulers[0].live = [LIVE]
    rows = furnished.do("queue.destinations")["destinations"]
    assert [(row["destination"], row["shard"], row["waiting"]) for row in rows] == [
        ("mx:a.example", 0, 120), ("mx:b.example", 0, 3), ("mx:dead.example", 1, 0),
    ]  # fmt: skip
    assert rows[0] == {
        "destination": "mx:a.example", "shard": 0, "site": "mx.big.example", "limit": 7, "in_use": 3, "site_limit": 9,
        "site_in_use": 4, "waiting": 120, "in_memory": 20, "next_attempt": 5.0, "suspended_until": 0.0, "suspensions": 0,
        "last_reply": "250 2.0.0 ok",
    }  # fmt: skip
    assert (rows[2]["suspended_until"], rows[2]["last_reply"]) == (99.0, "421 4.7.0 too many")


def test_what_the_scheduler_knows_goes_before_what_was_written(furnished: Any) -> None:
    """Its suspension is over; the row stands until a success."""
    furnished.spools[0].records = [DestinationRecord("mx:a.example", 99.0, 1, 0, 0, "4.4.1", "refused")]
    furnished.schedulers[0].live = [LIVE]
    (row,) = furnished.do("queue.destinations", destination="mx:a.example")["destinations"]
    assert (row["suspended_until"], row["last_reply"]) == (0.0, "250 2.0.0 ok")


def test_a_long_list_is_cut_and_says_so(furnished: Any) -> None:
    furnished.spools[0].numbers = [DestinationWaiting(f"mx:{number}.example", number, 5.0) for number in range(10)]
    data = furnished.do("queue.destinations", limit=3)
    assert [row["waiting"] for row in data["destinations"]] == [9, 8, 7]
    assert data["more"] == 7


def test_ten_thousand_destinations_are_told_in_many_turns_and_in_order(furnished: Any) -> None:
    furnished.spools[0].numbers = [DestinationWaiting(f"mx:{each}.example", each % 977, 5.0) for each in range(10_000)]
    furnished.spools[0].records = [DestinationRecord(f"mx:{each}.example", 99.0, 1) for each in range(10_000)]
    turns: list[int] = []
    furnished.house.pause = lambda: succeed(turns.append(1))
    rows = furnished.do("queue.destinations", limit=10_000)["destinations"]
    assert len(turns) == 4 * 19
    order = [(-row["waiting"], row["destination"]) for row in rows]
    assert len(order) == 10_000
    assert order == sorted(order)


def test_a_flush_ends_suspensions_once_and_makes_due_what_waits_for_its_time(furnished: Any) -> None:
    due = furnished.spools[0].put("a@example.org", "due@example.net")
    furnished.spools[0].put("a@example.org", "later@example.net", age=-500.0)
    furnished.spools[1].put("a@example.org", "later@example.net", age=-500.0)
    furnished.spools[1].put("a@example.org", "held@example.net", age=-500.0, held=True)
    pages = furnished.all_pages("queue.flush", destination="mx:example.net")
    assert sum(page["resumed"] for page in pages) == 4
    assert sum(page["changed"] for page in pages) == 2
    assert [each.flushed for each in furnished.schedulers] == [[("mx:example.net",)]] * 2
    assert [[change for change, _ in each.heard] for each in furnished.schedulers] == [[Change.RETRY]] * 2
    assert due not in {altered for each in furnished.schedulers for _, altered in each.heard}
    assert ("queue-flushed", {"destination": "mx:example.net", "resumed": 4, "by": "root"}) in furnished.log.events


def test_a_flush_of_all_names_none(furnished: Any) -> None:
    furnished.all_pages("queue.flush")
    assert [each.flushed for each in furnished.schedulers] == [[None]] * 2


def test_a_stopped_daemon_is_not_flushed(furnished: Any) -> None:
    furnished.house.readers, furnished.house.spools = furnished.spools, ()
    assert furnished.refused("queue.flush").code == UNAVAILABLE
