"""A journal in plain words: what happened, where, and what was said; nothing from the wire reaches a terminal raw."""

from __future__ import annotations

from typing import Any

import pytest

from mta.admin.timeline import headline, octets, refusal, tell


def recipient(number: int, address: str, state: str = "queued", **more: Any) -> dict[str, Any]:
    return {"recipient_id": number, "recipient": address, "state": state, "held": False, **more}


def story(*entries: tuple[str, int, dict[str, Any]], **message: Any) -> dict[str, Any]:
    record = {"id": "0000000000001", "sender": "a@example.org", "size": 2048, "kind": "relay", **message}
    return {
        "message": record,
        "recipients": [recipient(7, "bob@example.net")],
        "entries": [
            {"at": float(number), "kind": kind, "recipient_id": whom, "data": data}
            for number, (kind, whom, data) in enumerate(entries)
        ],
    }


def words(*entries: tuple[str, int, dict[str, Any]], **message: Any) -> list[str]:
    return [line.text for line in tell(story(*entries, **message), lambda at: f"T+{at:.0f}")]


TRY = {
    "host": "mx1.example.net",
    "address": "192.0.2.1",
    "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
    "reply": "250 2.0.0 Ok: queued as 4711",
    "at": 9.0,
    "seconds": 0.5,
    "phase": "end of data",
}


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (
            "accepted",
            {"kind": "submission", "client_ip": "192.0.2.7", "helo": "pc", "authcid": "alice@dev.test",
             "mechanism": "PLAIN", "tls": "TLSv1.3 X", "listener": "submission", "size": 2048},
            "accepted from 192.0.2.7 (hello pc) logged in as alice@dev.test by PLAIN over TLSv1.3 X on submission, 2.0 KiB",
        ),
        ("accepted", {"kind": "relay", "client_ip": "192.0.2.7", "size": 10},
         "accepted from 192.0.2.7 without login in clear text, 10 B"),
        ("accepted", {"kind": "local", "authcid": "root"}, "handed in on this machine by root"),
        ("accepted", {"kind": "report", "reports_on": "0000000000009"}, "written here as a report on 0000000000009"),
        ("queued", {"destination": "mx:example.net", "held": True}, "queued for mx:example.net, held"),
        (
            "deferred",
            {"code": 451, "status": "4.7.1", "text": "Greylisted", "destination": "mx:example.net", "next": 300.0,
             "tries": [TRY | {"phase": "RCPT"}], "attempt": 3, "rendition": "as accepted"},
            "deferred at mx1.example.net [192.0.2.1] over TLSv1.3 TLS_AES_256_GCM_SHA384: 451 4.7.1 Greylisted; "
            "next attempt T+300 (attempt 3; ended at RCPT; 0.5 s; content as accepted)",
        ),
        (
            "failed",
            {"code": 0, "status": "4.4.1", "text": "no connection", "destination": "mx:example.net", "expired": "5.4.7"},
            "failed (mx:example.net): 4.4.1 no connection; its lifetime is over",
        ),
        (
            "relayed",
            {"code": 250, "status": "2.0.0", "text": "Ok: queued as 4711", "tries": [TRY], "uncertain": True},
            "taken by mx1.example.net [192.0.2.1] over TLSv1.3 TLS_AES_256_GCM_SHA384: 250 2.0.0 Ok: queued as 4711; "
            "it may have been delivered (0.5 s)",
        ),
        (
            "failed",
            {"code": 0, "status": "4.4.1", "text": "refused", "destination": "mx:example.net", "expired": "5.4.7", "attempt": 7},
            "failed (mx:example.net): 4.4.1 refused; its lifetime is over",
        ),
        (
            "relayed",
            {"code": 250, "status": "2.0.0", "text": "Ok", "tries": [TRY | {"tls": ""}], "attempt": 1, "rendition": "as accepted"},
            "taken by mx1.example.net [192.0.2.1] in clear text: 250 2.0.0 Ok (0.5 s; content as accepted)",
        ),
        ("reported", {"report": "0000000000009", "kind": "failed", "to": "a@example.org"},
         "a report (failed) was sent to <a@example.org> as 0000000000009"),
        ("report-not-owed", {"reason": "null reverse-path"}, "no report is owed: null reverse-path"),
        ("held", {"by": "root"}, "held by root"),
        ("removed", {"by": "root"}, "removed from the queue by root"),
        ("something-new", {"x": 1}, "something-new x=1"),
    ],
)  # fmt: skip
def test_each_kind_of_entry_has_its_words(kind: str, data: dict[str, Any], expected: str) -> None:
    assert words((kind, 7, data)) == [expected]


def test_earlier_hosts_of_an_attempt_are_told() -> None:
    first = {
        **TRY,
        "host": "mx0.example.net",
        "address": "192.0.2.9",
        "reply": "connection refused",
        "phase": "connect",
        "tls": "",
    }
    lines = words(("relayed", 7, {"code": 250, "tries": [first, TRY]}))
    assert lines[1].strip() == "tried mx0.example.net [192.0.2.9] before: connection refused (at connect)"


def test_how_well_a_host_was_known_is_told() -> None:
    refused = {**TRY, "tls": "", "phase": "MAIL", "reply": "451 no", "note": "STARTTLS refused: 454 4.7.0 not now"}
    last = {**TRY, "tls": "TLSv1.3 X", "verified": True, "login": "SCRAM-SHA-256"}
    lines = words(("relayed", 7, {"code": 250, "tries": [refused, last]}))
    assert "over TLSv1.3 X, certificate verified, logged in by SCRAM-SHA-256" in lines[0]
    assert lines[1].endswith("before: 451 no (at MAIL) in clear text, STARTTLS refused: 454 4.7.0 not now")


def test_text_from_the_wire_is_escaped() -> None:
    evil = "\x1b]0;owned\x07\r\n250 ok\u202e"
    data = {"code": 550, "status": evil, "text": evil, "destination": evil, "helo": evil, "client_ip": evil, "by": evil,
            "tries": [{**TRY, "reply": evil, "host": evil}, {**TRY, "host": evil, "tls": evil}], evil: evil}  # fmt: skip
    for kind in ("accepted", "queued", "deferred", "failed", "held", "reported", "other"):
        for line in words((kind, 7, data), helo=evil, auth=evil):
            assert line.isprintable(), (kind, line)
    note = {
        "at": 1.0,
        "client": evil,
        "helo": evil,
        "auth": evil,
        "sender": evil,
        "recipient": evil,
        "reply": evil,
        "rule": evil,
    }
    assert refusal(note).text.isprintable()


def test_refusals_say_who_what_and_why() -> None:
    note = {
        "at": 5.0, "client": "192.0.2.7", "listener": "mx", "helo": "spam", "auth": "", "sender": "<>",
        "recipient": "x@dev.test", "reply": "550 5.1.1 No such recipient here", "rule": "route 1 (mta.toml:34)",
    }  # fmt: skip
    assert refusal(note).text == (
        "refused 192.0.2.7 (hello spam) on mx from <> to <x@dev.test>: 550 5.1.1 No such recipient here [route 1 (mta.toml:34)]"
    )


def test_a_failed_login_is_told_as_one() -> None:
    note = {"at": 5.0, "client": "192.0.2.7", "listener": "submission", "helo": "pc", "auth": "bob", "mechanism": "PLAIN",
            "reply": "535 5.7.8 Authentication credentials invalid", "rule": "wrong password"}  # fmt: skip
    assert refusal(note).text == (
        "refused 192.0.2.7 (hello pc) a login as bob by PLAIN on submission: "
        "535 5.7.8 Authentication credentials invalid [wrong password]"
    )


def test_headline_counts_states() -> None:
    data = story(size=10240)
    assert headline(data) == "from <a@example.org> to <bob@example.net>, 10.0 KiB: queued"
    data["recipients"] = [recipient(1, "x"), recipient(2, "y", "delivered"), recipient(3, "z", held=True)]
    assert headline(data) == "from <a@example.org> to 3 recipients, 10.0 KiB: 1 queued, 1 delivered, 1 held"


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (25 << 20, "25.0 MiB"), (5 << 40, "5120 GiB")],
)
def test_octets(number: int, expected: str) -> None:
    assert octets(number) == expected
