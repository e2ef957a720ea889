"""Stories of mail that leaves the house, with a real Postfix as the neighbour: it arrives, it waits, it comes back."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest

from mta.testing.daemon import Daemon
from mta.testing.load import Client, Load, compose, judge
from mta.testing.postfix import PrivatePostfix, missing
from mta.testing.processes import free_port, wait_for

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]

USER, PASSWORD = "demo@dev.test", "demo-password"
NEIGHBOUR = "d.example"
QUICK = '\n[queue]\nretry_min = "500ms"\nretry_max = "1s"\nlifetime = "{lifetime}"\n'


def open_house(directory: Path, port: int, *, lifetime: str = "1h") -> Daemon:
    """Mail for everybody but dev.test goes to a neighbour on this port; retries come quickly."""
    routes = (
        f'[[route]]\ndomains = ["dev.test"]\nrecipients = "users"\nvia = "maildir:{directory}/mail/{{domain}}/{{local}}"\n'
        f'[[route]]\ndomains = ["*"]\nvia = "smtp:[127.0.0.1]:{port}"\n'
    )
    return Daemon(directory, users={USER: PASSWORD}, routes=routes, extra=QUICK.format(lifetime=lifetime))


def submit(daemon: Daemon, letter: bytes, *recipients: str, sender: str = USER, options: str = "") -> str:
    """Logged in, over TLS; the queue ID. `options` of MAIL or RCPT are put behind each."""
    client = Client(daemon.submission, login=(USER, PASSWORD))
    try:
        assert client.ask(f"MAIL FROM:<{sender}>\r\n".encode()).startswith(b"250")
        for recipient in recipients:
            assert client.ask(f"RCPT TO:<{recipient}>{options}\r\n".encode()).startswith(b"250")
        assert client.ask(b"DATA\r\n").startswith(b"354")
        reply = client.ask((b"\r\n" + letter).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n").decode()
        client.quit()
    finally:
        client.close()
    assert reply.startswith("250 2.0.0 Ok: queued as "), reply
    return reply.split()[-1]


def queued(daemon: Daemon) -> list[dict[str, Any]]:
    """What waits, one row a recipient."""
    rows: list[dict[str, Any]] = daemon.query("queue", "list")
    return rows


def tried(daemon: Daemon) -> list[dict[str, Any]]:
    """What waits after an attempt that failed."""
    return [row for row in queued(daemon) if row["attempts"] >= 1 and row["last"]]


def reports(daemon: Daemon, count: int, seconds: float = 30.0) -> list[EmailMessage]:
    """What lies in the sender's mailbox: exactly `count` reports, when there are so many."""
    raw = wait_for(
        f"{count} reports", lambda: found if len(found := daemon.mailbox("demo")) >= count else None, seconds
    )
    assert len(raw) == count
    return [cast(EmailMessage, email.message_from_bytes(each, policy=email.policy.default)) for each in raw]


def fields_of(report: EmailMessage) -> list[dict[str, str]]:
    """The groups of message/delivery-status: of the message, then of each recipient (RFC 3464)."""
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    _, status, _ = report.iter_parts()
    assert status.get_content_type() == "message/delivery-status"
    return [{name: str(value) for name, value in group.items()} for group in status.get_payload()]


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostfix]:
    with PrivatePostfix(tmp_path_factory.mktemp("neighbour"), tls=True) as running:
        yield running


def test_submitted_mail_arrives_at_the_neighbour_as_it_was_written(tmp_path: Path, postfix: PrivatePostfix) -> None:
    before = len(postfix.messages())
    letter, _ = compose("story-0000001-x", 300 << 10)
    with open_house(tmp_path, postfix.port) as daemon:
        identifier = submit(daemon, letter, f"alice@{NEIGHBOUR}")
        arrived = postfix.wait_for_messages(before + 1)[-1]
        wait_for("an empty queue", lambda: not queued(daemon))
        told = daemon.mta("why", identifier).stdout
    assert arrived.replace(b"\r\n", b"\n").endswith(letter.replace(b"\r\n", b"\n"))
    assert b"with ESMTPSA id " + identifier.encode() in arrived
    postfix.wait_for_log(r"TLS connection established from \S+: TLSv1\.3")
    assert f"logged in as {USER} by PLAIN" in told
    assert "250 2.0.0 Ok: queued as " in told, "the neighbour's own words"
    assert daemon.mailbox("demo") == []


def test_mail_for_a_dead_neighbour_waits_and_arrives_when_he_is_back(tmp_path: Path) -> None:
    port = free_port()
    with open_house(tmp_path / "house", port) as daemon:
        load = Load(
            daemon.submission, f"alice@{NEIGHBOUR}", name="wait", messages=30, sessions=3, login=(USER, PASSWORD)
        )
        ledger = load.start().join()
        assert len(ledger.acknowledged) == 30
        row = wait_for("an attempt that failed", lambda: next(iter(tried(daemon)), None))
        assert "Connection refused" in row["last"] or "refused" in row["last"].lower()
        assert row["state"] == "queued"
        story = daemon.mta("why", row["id"]).stdout
        assert "next attempt" in story
        assert f"127.0.0.1:{port}" in story or "127.0.0.1" in story

        also_here = [f"127.0.0.1:{port} inet n - n - - smtpd"]
        with PrivatePostfix(tmp_path / "postfix", services=also_here) as postfix:
            messages = postfix.wait_for_messages(30, 60)
            wait_for("an empty queue", lambda: not queued(daemon))
        verdict = judge(ledger, messages)
        assert (verdict.lost, verdict.duplicates, verdict.corrupt) == ((), 0, ())
        assert daemon.mailbox("demo") == [], "nobody was bounced"


def test_a_refused_recipient_costs_one_report_and_holds_up_nobody(tmp_path: Path, postfix: PrivatePostfix) -> None:
    """Of three recipients the neighbour takes one, refuses one for good and one for now."""
    before = len(postfix.messages())
    letter, _ = compose("three-0000001-x", 2000)
    with open_house(tmp_path, postfix.port) as daemon:
        identifier = submit(daemon, letter, f"alice@{NEIGHBOUR}", f"bad@{NEIGHBOUR}", f"tmp@{NEIGHBOUR}")
        postfix.wait_for_messages(before + 1)
        (report,) = reports(daemon, 1)
        waiting = wait_for("another attempt for tmp@", lambda: tried(daemon))
        assert [row["recipient"] for row in waiting] == [f"tmp@{NEIGHBOUR}"]
        assert "450 4.2.0" in waiting[0]["last"]
        told = daemon.mta("why", identifier).stdout
        assert len(postfix.messages()) == before + 1, "a retry brought alice a second copy"
    of_message, of_recipient = fields_of(report)
    assert of_message["Reporting-MTA"] == "dns; mail.dev.test"
    assert of_recipient["Final-Recipient"] == f"rfc822; bad@{NEIGHBOUR}"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"].startswith("5.1.1")
    assert "550 5.1.1" in of_recipient["Diagnostic-Code"]
    assert report["Return-Path"] == "<>"
    assert report["To"] == USER
    assert b"Subject: load" in report.as_bytes().rpartition(b"message/rfc822")[2]
    assert "550 5.1.1" in told
    assert f"tmp@{NEIGHBOUR}" in told


def test_mail_that_nobody_took_comes_back_after_its_lifetime(tmp_path: Path) -> None:
    """The neighbour never answers. Who asked for no report, and a report itself, come back to nobody."""
    letter, _ = compose("dead-0000001-x", 2000)
    with open_house(tmp_path, free_port(), lifetime="3s") as daemon:
        failed = submit(daemon, letter, f"alice@{NEIGHBOUR}")
        silent = submit(daemon, letter, f"bob@{NEIGHBOUR}", options=" NOTIFY=NEVER")
        (report,) = reports(daemon, 1)
        wait_for("an empty queue", lambda: not queued(daemon), 30)
        assert len(daemon.mailbox("demo")) == 1
        told = daemon.mta("why", failed).stdout
        assert "its lifetime is over" in told
        assert "lifetime is over" in daemon.mta("why", silent).stdout
    _, of_recipient = fields_of(report)
    assert of_recipient["Final-Recipient"] == f"rfc822; alice@{NEIGHBOUR}"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"] in {"4.4.7", "4.4.1", "5.4.7"}
    assert any(
        f"alice@{NEIGHBOUR}" in part.get_content()
        for part in report.iter_parts()
        if part.get_content_type() == "text/plain"
    )
