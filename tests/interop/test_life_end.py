"""SIGTERM: every session is told, what is on its way to the disk is answered, and the process ends with 0."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mta.testing.daemon import Daemon
from mta.testing.load import Client, compose
from mta.testing.processes import absent, wait_for
from mta.testing.strace import traced

pytestmark = pytest.mark.real


def test_open_sessions_get_421_and_the_exit_code_is_0(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).start()
    assert daemon.process is not None
    idle, in_transaction, in_data = clients = [Client(daemon.mx) for _ in range(3)]
    assert in_transaction.ask(b"MAIL FROM:<a@client.example>\r\n").startswith(b"250")
    for line in (b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<bob@dev.test>\r\n"):
        assert in_data.ask(line).startswith(b"250")
    assert in_data.ask(b"DATA\r\n").startswith(b"354")
    in_data.socket.sendall(b"Subject: half a message\r\n\r\nit never ends")

    daemon.process.send_signal(signal.SIGTERM)
    for client in clients:
        assert client.file.read().startswith(b"421 4.3.2 "), "told, and closed"
    assert daemon.process.wait(20) == 0
    assert "Traceback" not in daemon.output.read_text()
    assert idle.file.closed is False
    assert daemon.mailbox("bob") == []


@pytest.mark.skipif(bool(absent("strace")), reason="needs the Debian package strace")
def test_a_commit_in_flight_is_answered_before_the_end(tmp_path: Path) -> None:
    """The disk takes long for each sync: SIGTERM comes while the client waits for its 250."""
    slow = traced(tmp_path / "trace", "fdatasync", inject=["fdatasync:delay_enter=300000"])
    daemon = Daemon(tmp_path, prefix=slow).start()
    assert daemon.process is not None
    client = Client(daemon.mx)
    for line in (b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<bob@dev.test>\r\n"):
        assert client.ask(line).startswith(b"250")
    assert client.ask(b"DATA\r\n").startswith(b"354")
    message, _ = compose("late-0000001-x", 600)
    client.socket.sendall(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    log = daemon.spool / "0" / "spool.db-wal"
    wait_for("the message in the spool's log", lambda: b"late-0000001-x" in log.read_bytes())
    daemon.process.send_signal(signal.SIGTERM)
    said = client.file.read()
    assert said.startswith(b"250 2.0.0 Ok: queued as "), said
    assert b"\r\n421 4.3.2 " in said
    assert daemon.process.wait(30) == 0

    daemon.prefix = []
    with daemon:
        (delivered,) = wait_for("the message in its maildir", lambda: daemon.mailbox("bob"))
    assert b"late-0000001-x ends" in delivered


def test_what_was_not_delivered_yet_is_delivered_after_the_next_start(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, extra="\n[queue]\nhold = true\n")
    with daemon:
        client = Client(daemon.mx)
        assert client.send("a@client.example", ["bob@dev.test"], compose("held-0000001-x", 600)[0]).startswith(b"250")
        client.quit()
        client.close()
    assert daemon.mailbox("bob") == []
    with daemon:
        assert daemon.mta("queue", "release", "--all").stdout == "1 recipient released\n"
        wait_for("the message in its maildir", lambda: daemon.mailbox("bob"))
    assert daemon.stop() == 0
