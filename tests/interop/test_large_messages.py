"""Large messages by every way in: they arrive whole, the session goes on behind them, and the daemon's memory stays as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mta.testing.load import Client, Load, compose, judge
from mta.testing.open_house import PASSWORD, USER, OpenHouse
from mta.testing.processes import wait_for

pytestmark = pytest.mark.real

LOGIN = (USER, PASSWORD)
KIB = 1 << 10


def _client(house: OpenHouse, tls: bool) -> Client:
    """It waits less long than any deadline of the server's, so that a session that hangs shows."""
    return Client(house.daemon.submission if tls else house.daemon.mx, timeout=10, login=LOGIN if tls else None)


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_the_session_goes_on_behind_a_message_of_any_size(house: OpenHouse, tls: bool, chunking: bool) -> None:
    local = f"large-{tls}-{chunking}".lower()
    client = _client(house, tls)
    digests = set()
    sizes = [100 * KIB, 129 * KIB, 200 * KIB, 257 * KIB, 320 * KIB, 400 * KIB, 700 * KIB, 3000 * KIB]
    for number, size in enumerate(sizes):
        message, digest = compose(f"size-{number:07d}-x", size)
        digests.add(digest)
        assert client.send(USER, [f"{local}@dev.test"], message, chunking=chunking).startswith(b"250 2.0.0 ")
        assert client.ask(b"NOOP\r\n").startswith(b"250 2.0.0 "), f"after {size} octets"
    assert client.ask(b"QUIT\r\n").startswith(b"221")
    client.close()
    bodies = [each.partition(b"\r\n\r\n")[2] for each in house.arrived(local, len(sizes))]
    assert {hashlib.sha256(body.replace(b"\r\n", b"\n")).hexdigest() for body in bodies} == digests


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_the_session_goes_on_behind_a_message_that_is_refused_at_its_end(house: OpenHouse, tls: bool) -> None:
    client = _client(house, tls)
    message, _ = compose("bare-0000001-x", 2000 * KIB)
    reply = client.send(USER, ["refused@dev.test"], message + b"a bare\nline feed\r\n")
    assert reply.startswith(b"550 5.5.2 ")
    assert client.ask(b"NOOP\r\n").startswith(b"250 2.0.0 ")
    client.close()
    _no_bodies(house)


def test_a_client_that_goes_away_leaves_nothing_behind(house: OpenHouse) -> None:
    client = _client(house, tls=False)
    for line in (b"MAIL FROM:<a@client.example>", b"RCPT TO:<gone@dev.test>"):
        assert client.ask(line + b"\r\n").startswith(b"250")
    assert client.ask(b"DATA\r\n").startswith(b"354")
    client.socket.sendall(b"Subject: begun\r\n\r\n" + b"never ended\r\n" * 100_000)
    wait_for("a body's file", lambda: _bodies(house))
    client.close()
    _no_bodies(house)
    assert house.daemon.mailbox("gone") == []


def test_many_large_messages_at_once_arrive_whole(house: OpenHouse) -> None:
    load = Load(
        house.daemon.mx,
        "crowd@dev.test",
        name="crowd",
        messages=60,
        sessions=20,
        octets=lambda number: 150 * KIB + number * 17 * KIB,
        chunking=lambda number: number % 2 == 0,
    )
    ledger = load.start().join(15)  # sessions that hang wait for 20 s
    house.arrived("crowd", 60, 60)
    verdict = judge(ledger, house.daemon.mailbox("crowd"))
    assert (verdict.acknowledged, verdict.lost, verdict.duplicates, verdict.corrupt) == (60, (), 0, ())


def _bodies(house: OpenHouse) -> list[Path]:
    return [path for path in (house.daemon.spool / "0" / "body").iterdir() if path.stat().st_size]


def _no_bodies(house: OpenHouse) -> None:
    """Files of delivered mail go when the history has it; those of refused mail at once."""
    wait_for("the end of the body's file", lambda: not _bodies(house), 30)
