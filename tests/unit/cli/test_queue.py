"""`mta queue` on a terminal's other end: what is printed, what is asked of the daemon, how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

NOW = 1_767_225_600.0


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{number:013d}",
        "sender": "a@example.org",
        "received_at": NOW - 7200,
        "size": 2048,
        "recipient_id": number,
        "recipient": "b@example.net",
        "state": "queued",
        "held": False,
        "active": False,
        "destination": "mx:example.net",
        "next_attempt": NOW + 240,
        "attempts": 3,
        "last": "451 4.7.1 Greylisted",
        **more,
    }


def pages(*batches: list[dict[str, Any]]) -> Any:
    """An answer with a cursor to each but the last."""

    def answer(arguments: dict[str, Any]) -> dict[str, Any]:
        index = int(arguments["cursor"] or 0)
        cursor = str(index + 1) if index + 1 < len(batches) else ""
        return {"rows": batches[index], "cursor": cursor, "now": NOW}

    return answer


def test_a_listing_has_columns(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.list"] = pages([row(1), row(2, held=True, last="")], [row(3, active=True, attempts=12)])
    ended = mta("queue", "list", "--recipient", "@example.net", "--older-than", "1h")
    assert ended.out == (
        "ID             AGE     SIZE  SENDER           RECIPIENT        DESTINATION     NEXT      TRIES  LAST REPLY\n"
        "0000000000001  2 h  2.0 KiB  <a@example.org>  <b@example.net>  mx:example.net  in 4 min      3  451 4.7.1 Greylisted\n"
        "0000000000002  2 h  2.0 KiB  <a@example.org>  <b@example.net>  mx:example.net  held          3\n"
        "0000000000003  2 h  2.0 KiB  <a@example.org>  <b@example.net>  mx:example.net  active       12  451 4.7.1 Greylisted\n"
    )
    assert ended.code == 0
    assert daemon.asked == [
        ("queue.list", {"cursor": "", "recipient": "@example.net", "older_than": "1h"}),
        ("queue.list", {"cursor": "1", "recipient": "@example.net", "older_than": "1h"}),
    ]


def test_json_is_an_array_cut_at_the_limit(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.list"] = pages([row(1), row(2)], [row(3)], [row(4)])
    assert json.loads(mta("queue", "list", "--json").out) == [row(1), row(2), row(3), row(4)]
    assert json.loads(mta("queue", "list", "--json", "-n", "1").out) == [row(1)]
    daemon.answers["queue.list"] = pages([])
    assert json.loads(mta("queue", "list", "--json").out) == []


def test_text_from_the_wire_steers_no_terminal(daemon: Any, mta: Any) -> None:
    evil = "\x1b]0;x\x07\u202e\r\n"
    daemon.answers["queue.list"] = pages([row(1, sender=evil, recipient=evil, destination=evil, last=evil)])
    assert all(line.isprintable() for line in mta("queue", "list").out.splitlines())


def test_an_empty_queue_is_said_to_be(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.list"] = pages([])
    assert mta("queue", "list").err == "the queue is empty\n"
    assert mta("queue", "list", "--sender", "<>").err == "nothing fits\n"


@pytest.mark.parametrize("verb", ["hold", "release", "retry"])
def test_a_change_goes_batch_by_batch_and_counts(daemon: Any, mta: Any, verb: str) -> None:
    daemon.answers["queue.alter"] = lambda arguments: {"changed": 500, "cursor": "" if arguments["cursor"] else "0:9"}
    ended = mta("queue", verb, "--sender", "a@example.org")
    assert ended.out.startswith("1000 recipients ")
    expected = {"change": verb, "cursor": "", "all": False, "sender": "a@example.org"}
    assert daemon.asked == [("queue.alter", expected), ("queue.alter", {**expected, "cursor": "0:9"})]
    assert json.loads(mta("queue", verb, "--all", "--json").out) == {"changed": 1000}


def test_deleting_several_needs_a_yes(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.count"] = {"recipients": 7, "cursor": ""}
    daemon.answers["queue.alter"] = {"changed": 7, "cursor": ""}
    ended = mta("queue", "delete", "--all")
    assert (ended.code, ended.err) == (64, "mta: this would delete 7 recipients for good; say --yes\n")
    assert [verb for verb, _ in daemon.asked] == ["queue.count"]
    assert mta("queue", "delete", "--all", "--yes").out == "7 recipients deleted\n"


def test_deleting_one_does_not_ask(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.count"] = {"recipients": 1, "cursor": ""}
    daemon.answers["queue.alter"] = {"changed": 1, "cursor": ""}
    ended = mta("queue", "delete", "0000000000001")
    assert (ended.code, ended.out) == (0, "1 recipient deleted\n")
    assert daemon.asked[1][1] == {"change": "delete", "cursor": "", "all": False, "ids": ["0000000000001"]}


def test_a_change_of_nothing_named_is_wrong_usage(daemon: Any, mta: Any) -> None:
    ended = mta("queue", "delete")
    assert ended.code == 64
    assert "IDs, conditions, or --all" in ended.err
    assert daemon.asked == []


def test_a_change_that_hits_nothing_ends_with_1(daemon: Any, mta: Any) -> None:
    daemon.answers["queue.alter"] = {"changed": 0, "cursor": ""}
    assert mta("queue", "hold", "0000000000001").code == 1


def test_show_prints_the_envelope(daemon: Any, mta: Any) -> None:
    message = {
        "id": "0000000000001", "sender": "", "size": 10, "received_at": NOW, "expires_at": NOW, "client_ip": "192.0.2.7",
        "helo": "pc\x1b", "auth": "", "mechanism": "", "protocol": "ESMTPS", "tls": "TLSv1.3 X", "listener": "mx",
        "message_id": "<1@x>", "envid": "", "reports_on": "",
    }  # fmt: skip
    daemon.answers["queue.show"] = {"message": message, "recipients": [row(1)], "now": NOW, "header": "A: b\n\tc\x1b\n"}
    ended = mta("queue", "show", "--header", "0000000000001")
    assert ended.out.startswith("0000000000001 from <>, 10 B\n")
    assert "  client      192.0.2.7 (pc\\x1b)\n  protocol    ESMTPS TLSv1.3 X\n" in ended.out
    assert ended.out.endswith("A: b\n    c\\x1b\n")
    assert "login" not in ended.out
    daemon.refusals["queue.show"] = {"error": "no message 0000000000001 is in the queue", "code": 1}
    ended = mta("queue", "show", "0000000000001")
    assert (ended.code, ended.err) == (1, "mta: no message 0000000000001 is in the queue\n")
