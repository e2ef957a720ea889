"""The adapter: order, turns, clients that don't read, time."""

from __future__ import annotations

from typing import Any

import pytest

from mta.inbound.protocol import EVENTS_A_TURN
from mta.mail import reply
from mta.testing.reception import MemoryReception

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@client.example>\r\n"
RCPT = b"RCPT TO:<demo@dev.test>\r\n"


def test_a_client_that_never_reads_makes_no_replies(reception: MemoryReception, client: Any) -> None:
    """Its commands wait, reading stops at the bound, and when its time has come it is gone."""
    protocol, transport = client.connection.protocol, client.connection.transport
    client.say(HELLO)
    protocol.pauseProducing()  # what the transport says when its buffer is full
    written = len(transport.value())
    client.connection.send((MAIL + RCPT * 10 + b"RSET\r\n") * 20_000)
    assert len(transport.value()) == written
    assert transport.producerState == "paused"
    assert protocol.engine.buffered <= 2 * 65536
    reception.wait(330)
    assert transport.aborted
    assert client.connection.closed
    assert reception.reception.counts.total == 0


def test_a_client_that_reads_late_gets_everything_in_order(make: Any, clients: Any) -> None:
    house = make({"limits": {"junk_commands": 10**6}})
    client = clients(house.connect())
    client.say(HELLO)
    client.connection.protocol.pauseProducing()
    client.connection.send(b"NOOP\r\nHELP\r\n" * 20_000)
    assert client.say() == b""
    client.connection.protocol.resumeProducing()
    said = client.say(b"")
    assert said == (reply.NOOP_OK.wire + reply.HELP.wire) * 20_000


def test_replies_in_one_turn_pause_when_the_transport_says_so(make: Any, clients: Any) -> None:
    house = make({"limits": {"recipients": 10_000, "soft_errors": 10**6, "hard_errors": 10**6}})
    client = clients(house.connect())
    client.say(HELLO, MAIL)
    transport, protocol = client.connection.transport, client.connection.protocol
    write = transport.write

    def full(octets: bytes) -> None:
        write(octets)
        if len(transport.value()) > 1000:
            protocol.pauseProducing()

    transport.write = full
    client.connection.send(b"RCPT TO:<nobody@dev.test>\r\n" * 5000)
    assert len(transport.value()) < 10_000


def test_an_answer_that_comes_while_nobody_reads_starts_nothing(reception: MemoryReception, client: Any) -> None:
    reception.spool.wait = True
    client.say(HELLO, MAIL + RCPT + b"BDAT 14 LAST\r\nSubject: x\r\n\r\n" + b"NOOP\r\n" * 50)
    client.connection.protocol.pauseProducing()
    reception.spool.commit()
    assert client.say() == b""
    assert client.connection.protocol.engine.buffered == 300
    client.connection.protocol.resumeProducing()
    said = client.say(b"")
    assert said.startswith(b"250 2.0.0 Ok: queued as ")
    assert said.count(reply.NOOP_OK.wire) == 50


def test_thousands_of_commands_give_way_to_others(make: Any, clients: Any) -> None:
    reception = make({"limits": {"junk_commands": 10**6}})
    client = clients(reception.connect())
    client.say(HELLO)
    protocol = client.connection.protocol
    protocol.dataReceived((MAIL + RCPT + b"RSET\r\n") * 1000)
    assert client.connection.transport.value().count(b"\r\n") <= EVENTS_A_TURN
    reception.settle()
    assert client.connection.read().count(b"\r\n") == 3000


def test_a_penalty_keeps_what_follows_waiting(reception: MemoryReception, client: Any) -> None:
    client.say(HELLO)
    assert client.say(b"X\r\n" * 11 + b"NOOP\r\n").count(b"500 ") == 10
    assert client.say(MAIL) == b""
    reception.wait(1)
    assert client.say() == b""
    assert [line[:3] for line in client.say(b"").split(b"\r\n")] == [b"500", b"250", b"250", b""]


def test_a_client_that_goes_away_in_a_penalty_leaves_no_fault(reception: MemoryReception, client: Any) -> None:
    client.say(HELLO, b"X\r\n" * 12)
    client.connection.hang_up()
    reception.wait(5)
    assert reception.log.named("fault") == []


@pytest.mark.parametrize(("listener", "client_ip"), [("mx", "192.0.2.1"), ("submissions", "2001:db8::1")])
def test_every_end_gives_its_slot_back(reception: MemoryReception, listener: str, client_ip: str) -> None:
    for _ in range(60):
        connection = reception.connect(listener, client_ip)
        connection.send(HELLO)
        connection.hang_up()
    assert reception.reception.counts.total == 0
    assert reception.reception.counts.by_client == {}
    assert reception.log.named("connection-refused") == []
    assert len(reception.log.named("disconnected")) == 60


def test_a_handshake_has_its_time(reception: MemoryReception, client: Any) -> None:
    client.say(HELLO)
    assert client.say(b"STARTTLS\r\n") == reply.READY_FOR_TLS.wire
    assert client.connection.transport.handshaking
    reception.wait(50)
    assert not client.connection.closed
    reception.wait(20)
    assert client.connection.closed
    assert client.connection.transport.value() == b""


def test_a_session_in_stress_is_short(make: Any, clients: Any) -> None:
    house = make({"limits": {"connections": 10, "reserved_for_submission": 0.0}})
    every = [clients(house.connect("mx", f"192.0.2.{number}")) for number in range(9)]
    assert house.reception.counts.stress
    for client in every:
        client.say(HELLO)
    house.wait(20)
    assert all(client.connection.closed for client in every)
    assert not house.reception.counts.stress


def test_the_log_tells_the_session(reception: MemoryReception, client: Any) -> None:
    client.say(HELLO, b"XYZZY\r\n", MAIL + RCPT + b"BDAT 14 LAST\r\nSubject: x\r\n\r\n", b"QUIT\r\n")
    assert reception.log.named("refused")[0]["command"] == "XYZZY"
    accepted = reception.log.named("accepted")[0]
    assert (accepted["client"], accepted["helo"], accepted["recipients"], accepted["protocol"]) == (
        "192.0.2.1", "client.example", 1, "ESMTP",
    )  # fmt: skip
    ended = reception.log.named("disconnected")[0]
    assert (ended["reason"], ended["messages"], ended["errors"]) == ("quit", 1, 1)
