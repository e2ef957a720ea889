"""`mta queue destinations` and `mta queue flush` as they are typed and printed."""

from __future__ import annotations

import json
from typing import Any

NOW = 1_767_225_600.0


def row(key: str, **more: Any) -> dict[str, Any]:
    return {
        "destination": key, "shard": 0, "site": "", "limit": 5, "in_use": 0, "site_limit": 0, "site_in_use": 0, "waiting": 0,
        "in_memory": 0, "next_attempt": 0.0, "suspended_until": 0.0, "suspensions": 0, "last_reply": "", **more,
    }  # fmt: skip


ROWS = [
    row("mx:a.example", waiting=120, in_memory=20, in_use=5, site="mx.big.example", site_limit=9, site_in_use=7),
    row("mx:b.example", waiting=3, limit=0, next_attempt=NOW + 300, last_reply="451 4.7.1 Greylisted \x1b[2J"),
    row("mx:dead.example", suspended_until=NOW + 500, limit=1, last_reply="4.4.1 connection refused"),
]


def test_a_table_says_why_nothing_goes(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.destinations"] = {"destinations": ROWS, "more": 2, "now": NOW}
    lines = mta("queue", "destinations").out.splitlines()
    assert lines[0].split("  ")[0] == "DESTINATION"
    assert "120       5      5  due" in lines[1]
    assert "mx.big.example (7 of 9)" in lines[1]
    assert "3       0      -  in 5 min" in lines[2]
    assert "\x1b" not in lines[2]
    assert "suspended until" in lines[3]
    assert "(in 8 min)" in lines[3]
    assert "connection refused" in lines[3]
    assert "SHARD" not in lines[0]


def test_several_shards_are_told_apart(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.destinations"] = {"destinations": [row("mx:a"), row("mx:a", shard=1)], "more": 0, "now": NOW}
    assert mta("queue", "destinations").out.startswith("SHARD  DESTINATION")


def test_json_is_an_array_of_all_there_is_to_know(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.destinations"] = {"destinations": ROWS, "more": 0, "now": NOW}
    assert json.loads(mta("queue", "destinations", "mx:a.example", "--json").out) == ROWS
    assert daemon.asked == [("queue.destinations", {"limit": 1000, "destination": "mx:a.example"})]


def test_a_flush_goes_on_to_the_end_and_counts(daemon: Any, mta: Any) -> None:
    def answer(arguments: dict[str, Any]) -> dict[str, Any]:
        first = not arguments["cursor"]
        return {"changed": 500 if first else 1, "resumed": 1 if first else 0, "cursor": "0:9" if first else ""}

    daemon.answers["queue.flush"] = answer
    ended = mta("queue", "flush", "mx:dead.example")
    assert (ended.code, ended.out) == (0, "501 recipients due now, 1 destination no longer suspended\n")
    assert [each[1]["destination"] for each in daemon.asked] == ["mx:dead.example"] * 2
