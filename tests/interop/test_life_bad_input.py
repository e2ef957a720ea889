"""What strangers throw at the ports: each gets a clear answer or a closed connection, and the house serves the next one."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.testing.daemon import Daemon
from mta.testing.load import Client, compose
from mta.testing.processes import greeting, wait_for

pytestmark = pytest.mark.real

GROWTH_LIMIT_MIB = 64  # SAFETY 5, figure 11


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("strangers")
    routes = (
        f'[[route]]\ndomains = ["dev.test"]\nvia = "maildir:{directory}/mail/{{domain}}/{{local}}"\n'
        '[[route]]\ndomains = ["void.example"]\nvia = "discard"\naccept = "all"\n'
        '[[route]]\ndomains = ["*"]\nvia = "mx"\n'
    )
    extra = '\n[limits]\nmessage_size = "1MiB"\n'
    with Daemon(directory, users={"demo@dev.test": "demo-password"}, routes=routes, extra=extra) as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon) -> Iterator[Daemon]:
    """After each test it must still serve, with no fault of ours in its log."""
    yield running
    assert greeting(running.mx).startswith(b"220 "), "it serves nobody any more"
    assert running.events("fault") == []
    assert "Traceback" not in running.output.read_text()


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20)


def _all(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset is an end too."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while block := connection.recv(65536):
            said += block
    return said


def _memory_mib(daemon: Daemon) -> float:
    text = Path(f"/proc/{daemon.pid}/smaps_rollup").read_text()
    found = re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def test_a_tls_hello_on_the_clear_port(daemon: Daemon) -> None:
    context = ssl.create_default_context()
    with _connect(daemon.mx) as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_hostname="mail.dev.test")
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="mail.dev.test").do_handshake()
    with _connect(daemon.mx) as connection:
        connection.sendall(hello.read())
        assert b"521 5.5.2 TLS handshake on a clear-text port; use STARTTLS" in _all(connection)


def test_clear_text_on_the_tls_port(daemon: Daemon) -> None:
    with _connect(daemon.submissions) as connection:
        connection.sendall(b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n")
        said = _all(connection)
    assert b"220" not in said
    assert b"250" not in said
    Client(daemon.submission, login=("demo@dev.test", "demo-password")).close()


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"POST /x HTTP/1.0", b"CONNECT a.example:25 HTTP/1.1"])
def test_http_on_the_port(daemon: Daemon, request_line: bytes) -> None:
    with _connect(daemon.mx) as connection:
        connection.sendall(request_line + b"\r\nHost: mail.dev.test\r\n\r\nMAIL FROM:<a@x.example>\r\n")
        said = _all(connection)
    assert b"\r\n521 " in said
    assert b"250" not in said


def test_garbage(daemon: Daemon) -> None:
    with _connect(daemon.mx) as connection:
        connection.sendall(bytes(range(256)) * 64 + b"\r\n" + b"\0" * 4096 + b"\r\nQUIT\r\n")
        said = _all(connection)
    replies = said.split(b"\r\n")[1:]
    assert replies[0][:1] == b"5"
    assert not any(reply.startswith(b"250") for reply in replies)


def test_a_command_line_of_a_megabyte(daemon: Daemon) -> None:
    before = _memory_mib(daemon)
    client = Client(daemon.mx)
    assert client.ask(b"NOOP " + b"x" * (1 << 20) + b"\r\n").startswith(b"500 5.5.2 Line too long")
    assert client.ask(b"NOOP\r\n").startswith(b"250"), "one answer, and the session goes on"
    client.close()
    assert _memory_mib(daemon) - before < GROWTH_LIMIT_MIB


def test_a_message_over_the_size_that_was_declared(daemon: Daemon) -> None:
    client = Client(daemon.mx)
    assert client.ask(b"MAIL FROM:<a@client.example> SIZE=1048577\r\n").startswith(b"552 5.3.4 ")
    assert client.ask(b"MAIL FROM:<a@client.example> SIZE=1048576\r\n").startswith(b"250")
    client.close()


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_a_message_over_the_size_that_was_not_declared(daemon: Daemon, chunking: bool) -> None:
    before = _memory_mib(daemon)
    client = Client(daemon.mx)
    message, _ = compose("over-0000001-x", 20 << 20)
    reply = client.send("a@client.example", ["bob@dev.test"], message, chunking=chunking)
    assert reply.startswith(b"552 5.3.4 ")
    small, _ = compose("size-0000001-x", 600)
    assert client.send("a@client.example", ["small@dev.test"], small).startswith(b"250"), "the session goes on"
    client.close()
    assert _memory_mib(daemon) - before < GROWTH_LIMIT_MIB
    assert daemon.mailbox("bob") == []
    assert list((daemon.spool / "0" / "body").iterdir()) == [], "nothing of it is left behind"


def test_a_thousand_and_one_recipients(daemon: Daemon) -> None:
    client = Client(daemon.mx)
    names = b"".join(b"RCPT TO:<u%d@void.example>\r\n" % number for number in range(1001))
    client.socket.sendall(b"MAIL FROM:<a@client.example>\r\n" + names)
    assert client.reply().startswith(b"250")
    replies = [client.reply() for _ in range(1001)]
    assert all(reply.startswith(b"250 2.1.5 ") for reply in replies[:1000])
    assert replies[1000].startswith(b"452 4.5.3 ")
    assert client.ask(b"DATA\r\n").startswith(b"354")
    assert client.ask(b"Subject: many\r\n\r\n.\r\n").startswith(b"250 2.0.0 ")
    client.close()
    wait_for("an empty queue", lambda: not daemon.query("queue", "list", "--limit", "1"))


def test_bare_line_feeds(daemon: Daemon) -> None:
    client = Client(daemon.mx)
    smuggled = b"Subject: one\r\n\r\nbody\n.\nMAIL FROM:<b@client.example>\r\nRCPT TO:<bare@dev.test>\r\nDATA\r\n\r\n"
    assert client.send("a@client.example", ["bare@dev.test"], smuggled).startswith(b"550 5.5.2 Bare <CR> or <LF>")
    client.quit()
    client.close()
    assert daemon.mailbox("bare") == []


def test_twenty_thousand_commands_in_one_packet(daemon: Daemon) -> None:
    client = Client(daemon.mx)
    client.socket.sendall(b"NOOP\r\n" * 20_000)
    said = b"\r\n" + _all(client.socket)
    client.close()
    assert said.count(b"\r\n250 2.0.0 ") > 50
    assert b"\r\n421 4.7.0 Too many errors" in said


def test_twenty_thousand_commands_in_one_packet_that_are_all_in_order(daemon: Daemon) -> None:
    """20,000 recipients are answered one by one, 1,000 of them with 250."""
    client = Client(daemon.mx)
    names = b"".join(b"RCPT TO:<u%d@void.example>\r\n" % number for number in range(20_000))
    client.socket.sendall(b"MAIL FROM:<a@client.example>\r\n" + names + b"RSET\r\nQUIT\r\n")
    said = _all(client.socket)
    client.close()
    assert said.count(b"\r\n250 2.1.5 ") == 1000
    assert said.count(b"\r\n452 4.5.3 ") > 0
    assert said.rstrip().split(b"\r\n")[-1][:3] in {b"221", b"421"}


def test_clients_that_never_read_cost_no_memory(daemon: Daemon) -> None:
    """Twenty of them ask for 2 MB of replies each, none of which is to an error, and let them lie."""
    before = _memory_mib(daemon)
    names = b"".join(b"RCPT TO:<u%d@void.example>\r\n" % number for number in range(1000))
    questions = (b"MAIL FROM:<a@client.example>\r\n" + names + b"RSET\r\n") * 95
    unsent = {_deaf(daemon.mx): memoryview(questions) for _ in range(20)}
    try:
        while any(unsent.values()):
            _, writable, _ = select.select([], [each for each in unsent if unsent[each]], [], 2.0)
            if not writable:
                break  # the server reads no more from any of them
            for connection in writable:
                with contextlib.suppress(BlockingIOError):
                    unsent[connection] = unsent[connection][connection.send(unsent[connection]) :]
        wait_for("the daemon to come to rest", lambda: _rests(daemon), 60)
        assert _memory_mib(daemon) - before < 16, "their replies are kept"
        Client(daemon.mx).close()  # others are served meanwhile
    finally:
        for connection in unsent:
            connection.close()
    wait_for("the end of their sessions", lambda: daemon.query("status")["sessions"] <= 1)


def _rests(daemon: Daemon) -> bool:
    """Does it use no more than a tenth of a core?"""

    def ticks() -> int:
        fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    threading.Event().wait(0.5)
    return ticks() - before <= 5


def _deaf(port: int) -> socket.socket:
    """A session whose replies nobody reads: what the kernel takes for it is small."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    connection.sendall(b"EHLO client.example\r\n")
    while b"\n250 " not in b"\n" + connection.recv(4096):
        pass
    connection.setblocking(False)
    return connection


def test_connections_beyond_a_client_s_share_are_told_so(daemon: Daemon) -> None:
    """50 sessions of one address; the next hears 421 and is closed."""
    wait_for("no sessions of tests before", lambda: daemon.query("status")["sessions"] == 0)
    connections = [_connect(daemon.mx) for _ in range(60)]
    try:
        greetings = [connection.recv(512) for connection in connections]
        assert [said[:4] for said in greetings[:50]] == [b"220 "] * 50
        assert [said[:10] for said in greetings[50:]] == [b"421 4.7.0 "] * 10
    finally:
        for connection in connections:
            connection.close()
    wait_for("their end", lambda: daemon.query("status")["sessions"] == 0)
