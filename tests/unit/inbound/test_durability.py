"""250 means durable: what is said, and when, around a commit."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mta.mail import reply
from mta.mail.identifiers import format_id
from mta.spool.contract import SpoolFailed, SpoolFull
from mta.testing.reception import MemoryReception

HELLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<demo@dev.test>\r\n"
MESSAGE = b"Subject: hello\r\n\r\nbody\r\n.\r\n"
CHUNK = ENVELOPE + b"BDAT 14 LAST\r\nSubject: x\r\n\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 5000 + b".\r\n"


def test_nothing_is_said_before_the_commit(reception: MemoryReception, client: Any) -> None:
    reception.spool.wait = True
    assert client.say(HELLO, ENVELOPE, b"DATA\r\n").endswith(reply.START_MAIL_INPUT.wire)
    assert client.say(MESSAGE + b"NOOP\r\n") == b""
    assert len(reception.spool.asked) == 1
    reception.wait(3600)
    assert client.say() == b""
    assert reception.accepted == []
    reception.spool.commit()
    assert client.say(b"").startswith(b"250 2.0.0 Ok: queued as ")
    assert len(reception.accepted) == 1


def test_replies_behind_a_commit_keep_their_order(reception: MemoryReception, client: Any) -> None:
    reception.spool.wait = True
    client.say(HELLO)
    assert client.say(CHUNK + CHUNK + b"QUIT\r\n").count(b"\r\n") == 2
    reception.spool.commit()
    assert [line[:9] for line in client.say(b"").split(b"\r\n")] == [b"250 2.0.0", b"250 2.1.0", b"250 2.1.5", b""]
    reception.spool.commit()
    assert [line[:9] for line in client.say(b"").split(b"\r\n")] == [b"250 2.0.0", b"221 2.0.0", b""]


def test_the_reply_names_the_queue_id(reception: MemoryReception, client: Any) -> None:
    said = client.say(HELLO, CHUNK)
    assert said.endswith(f"queued as {format_id(reception.spool.committed[0].message.id)}\r\n".encode())


@pytest.mark.parametrize("content", [MESSAGE, LARGE])
@pytest.mark.parametrize(
    ("error", "answer"), [(SpoolFull("full"), reply.SPOOL_FULL), (SpoolFailed("EIO"), reply.SPOOL_FAILED)]
)
def test_a_commit_that_fails_is_temporary(
    reception: MemoryReception, client: Any, content: bytes, error: Any, answer: reply.Reply
) -> None:
    client.say(HELLO, ENVELOPE, b"DATA\r\n")
    reception.spool.fails = error
    assert client.say(content) == answer.wire
    assert reception.accepted == []
    assert reception.refusals.entries[-1]["reply"] == str(answer)
    reception.spool.fails = None
    assert client.say(CHUNK).count(b"250 ") == 3


def test_a_full_disk_is_said_at_mail(reception: MemoryReception, client: Any) -> None:
    reception.spool.room = False
    assert client.say(HELLO, b"MAIL FROM:<a@client.example> SIZE=100\r\n").endswith(reply.SPOOL_FULL.wire)
    reception.spool.room = True
    client.say(ENVELOPE)
    reception.spool.room = False
    assert client.say(b"DATA\r\n") == reply.SPOOL_FULL.wire


def test_a_fault_of_ours_is_temporary_and_logged(reception: MemoryReception, client: Any) -> None:
    def bug(*_: object) -> Deferred[Any]:
        raise ZeroDivisionError("a bug")

    reception.spool.accept = bug  # type: ignore[method-assign]
    assert client.say(HELLO, CHUNK).endswith(reply.OUR_FAULT.wire)
    assert reception.log.named("fault")[0]["error"] == "a bug"
    assert reception.accepted == []
    reception.wait(330)
    assert client.connection.closed, "a session that waits for a commit that is none"


def test_a_client_that_goes_away_during_the_commit_changes_nothing(reception: MemoryReception, client: Any) -> None:
    """What is stored stays stored; the client will send it again."""
    reception.spool.wait = True
    client.say(HELLO, CHUNK)
    client.connection.hang_up()
    reception.spool.commit()
    assert len(reception.accepted) == 1
    assert reception.log.named("fault") == []


@pytest.mark.parametrize("content", [MESSAGE[:-3], LARGE[:-3]])
def test_a_client_that_goes_away_before_the_end_leaves_nothing(
    reception: MemoryReception, client: Any, content: bytes
) -> None:
    client.say(HELLO, ENVELOPE, b"DATA\r\n", content)
    client.connection.hang_up()
    assert reception.spool.asked == []
    assert all(body.aborted for body in reception.spool.bodies.values())
    assert reception.reception.counts.total == 0


def test_a_client_that_goes_away_while_its_file_is_synced_leaves_no_half_message(
    reception: MemoryReception, client: Any
) -> None:
    client.say(HELLO, ENVELOPE, b"DATA\r\n")
    reception.spool.wait = True
    client.say(LARGE)
    client.connection.hang_up()
    reception.spool.commit()
    assert reception.accepted == []
    assert reception.spool.asked == []


def test_a_shutdown_waits_for_the_commit_and_says_its_outcome_first(reception: MemoryReception, client: Any) -> None:
    reception.spool.wait = True
    client.say(HELLO, CHUNK)
    reception.shut_down()
    assert client.say(b"") == b""
    assert not client.connection.closed
    reception.spool.commit()
    said = client.say(b"")
    assert said.startswith(b"250 2.0.0 Ok: queued as ")
    assert said.endswith(reply.SHUTTING_DOWN.wire)
    assert client.connection.closed


def test_a_shutdown_says_no_421_over_the_commit_of_the_next_message(reception: MemoryReception, client: Any) -> None:
    reception.spool.wait = True
    client.say(HELLO, CHUNK + CHUNK)
    reception.shut_down()
    reception.spool.commit()  # the first; the second is on its way at once
    assert reply.SHUTTING_DOWN.wire not in client.say(b"")
    reception.spool.commit()
    said = client.say(b"")
    assert said.startswith(b"250 2.0.0 Ok: queued as ")
    assert said.endswith(reply.SHUTTING_DOWN.wire)
    assert len(reception.accepted) == 2


def test_time_runs_out_for_no_client_that_waits_for_our_disk(reception: MemoryReception, client: Any) -> None:
    reception.spool.wait = True
    client.say(HELLO, CHUNK)
    reception.wait(7200)
    reception.spool.commit()
    assert client.say(b"").startswith(b"250 ")


def test_a_slow_disk_stops_the_client_and_not_its_message(reception: MemoryReception, client: Any) -> None:
    client.say(HELLO, ENVELOPE, b"DATA\r\n")
    reception.spool.stalled = True
    huge = b"Subject: huge\r\n\r\n" + (b"x" * 98 + b"\r\n") * 100_000 + b".\r\n"
    assert client.say(huge) == b""
    body = next(iter(reception.spool.bodies.values()))
    assert len(body.octets) < 1 << 20
    assert client.connection.transport.producerState == "paused"
    reception.wait(100)
    assert not client.connection.closed
    for _ in range(200):
        reception.spool.drain()
        reception.settle()
    assert client.say(b"").startswith(b"250 ")
    assert len(body.octets) == 10_000_000
