"""A load of mail for tests that count, against any MTA by host and port.

    load = Load(daemon.mx, "bob@dev.test", sessions=8)
    load.start()
    ...                                  # kill it, fill its disk, cut its wire
    load.stop()
    verdict = judge(load.ledger, daemon.mailbox("bob"))
    assert not verdict.lost

A message counts as acknowledged when its final 250 was read to the end, as refused at any other reply, and as open when the
connection went away before: an open one may arrive or not. Plain sockets and threads: the driver must not share a fault with
what it measures.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence

from mta.testing.ledger import Ledger, Sent, Verdict, compose, judge

__all__ = ["Client", "Ledger", "Load", "Sent", "Verdict", "compose", "judge"]

RECONNECT_PAUSE_SECONDS = 0.02
CATCH_UP_SECONDS = 0.2  # of a given rate: what could not be sent meanwhile is not made up for
_QUEUED_AS = re.compile(rb"queued as (\w+)|id=(\S+)|(\w+) Message accepted")  # ours and Postfix; Exim; sendmail
_CHUNK_OCTETS = 60_000


class Load:
    """`sessions` clients, each sending one message after another until `messages` are sent or `stop` is called.

    `octets(n)` is the size of message n; `rate`: messages a second of all sessions together, 0 for as fast as it goes;
    `chunking(n)`: by BDAT; `login`: STARTTLS and AUTH PLAIN first; `per_connection`: then QUIT and connect anew. `recipients`: one, or
    those of message n; all of them must be taken.
    """

    def __init__(
        self,
        port: int,
        recipients: str | Callable[[int], Sequence[str]],
        *,
        host: str = "127.0.0.1",
        sender: str = "load@client.example",
        name: str = "load",
        sessions: int = 8,
        messages: int = 0,
        rate: float = 0.0,
        octets: Callable[[int], int] = lambda number: 600,
        chunking: Callable[[int], bool] = lambda number: False,
        login: tuple[str, str] | None = None,
        per_connection: int = 20,
        timeout: float = 20.0,
    ) -> None:
        self.ledger = Ledger()
        self.host, self.port, self.name, self.login, self.sender = host, port, name, login, sender
        self.recipients = (lambda number: (recipients,)) if isinstance(recipients, str) else recipients
        self.octets, self.chunking, self.per_connection = octets, chunking, per_connection
        self.timeout = timeout
        self._interval = 1 / rate if rate else 0.0
        self._left = messages or 1 << 60
        self._number = 0
        self._due = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(sessions)]

    def start(self) -> Load:
        self._due = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> Ledger:
        """No new messages; those under way come to their end."""
        self._stopping.set()
        return self.join()

    def join(self, seconds: float = 60.0) -> Ledger:
        """Wait until all `messages` are sent. Raises TimeoutError."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                self._stopping.set()
                raise TimeoutError(f"the load of {self.name} did not end within {seconds:.0f} s")
        return self.ledger

    def _next(self) -> int:
        """The number of the next message; 0 when there is none."""
        with self._lock:
            if self._stopping.is_set() or not self._left:
                return 0
            self._left -= 1
            self._number += 1
            number = self._number
            now = time.monotonic()
            wait = self._due - now
            self._due = max(self._due, now - CATCH_UP_SECONDS) + self._interval
        return number if wait <= 0 or not self._interval or not self._stopping.wait(wait) else 0

    def _run(self) -> None:
        number = self._next()
        while number:
            try:
                with contextlib.closing(Client(self.port, self.timeout, self.login, self.host)) as client:
                    for _ in range(self.per_connection):
                        self._send(client, number)
                        number = self._next()
                        if not number:
                            break
                    client.quit()
            except (OSError, EOFError):
                # Gone, or not back yet. What was being sent stays open in the ledger; the next is tried on a new connection.
                mark = self._mark(number)
                if mark in self.ledger.sent:
                    number = self._next()
                self._stopping.wait(RECONNECT_PAUSE_SECONDS)
                if self._stopping.is_set():
                    return

    def _mark(self, number: int) -> str:
        return f"{self.name}-{number:07d}-x"

    def _send(self, client: Client, number: int) -> None:
        mark = self._mark(number)
        message, digest = compose(mark, self.octets(number))
        recipients = tuple(self.recipients(number))
        sent = self.ledger.sent[mark] = Sent(digest, recipients)
        reply = client.send(self.sender, recipients, message, chunking=self.chunking(number))
        sent.reply = reply.decode("utf-8", "replace").strip()
        if reply.startswith(b"250"):
            queued = _QUEUED_AS.search(reply)
            sent.queue_id = next(filter(None, queued.groups()), b"").decode("ascii") if queued else ""
            sent.outcome = "acknowledged"
        else:
            sent.outcome = "refused"


class Client:
    """A session that pipelines. Raises OSError or EOFError when the server goes away, also when it says 421."""

    def __init__(
        self, port: int, timeout: float = 20.0, login: tuple[str, str] | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        try:
            self.expect(b"220", self.reply())
            self.expect(b"250", self.ask(b"EHLO client.example\r\n"))
            if login is not None:
                self._log_in(*login)
        except BaseException:
            self.close()
            raise

    def _log_in(self, user: str, password: str) -> None:
        self.expect(b"220", self.ask(b"STARTTLS\r\n"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.file.close()
        self.socket = context.wrap_socket(self.socket)
        self.file = self.socket.makefile("rb")
        self.expect(b"250", self.ask(b"EHLO client.example\r\n"))
        secret = base64.b64encode(f"\0{user}\0{password}".encode())
        self.expect(b"235", self.ask(b"AUTH PLAIN " + secret + b"\r\n"))

    def send(self, sender: str, recipients: Sequence[str], message: bytes, *, chunking: bool = False) -> bytes:
        """The reply that decided: the final one, or the first refusal."""
        envelope = f"MAIL FROM:<{sender}> BODY=8BITMIME\r\n" + "".join(f"RCPT TO:<{each}>\r\n" for each in recipients)
        if chunking:
            return self._send_chunks(envelope.encode(), len(recipients), message)
        self.socket.sendall(envelope.encode() + b"DATA\r\n")
        replies = [self.reply() for _ in range(len(recipients) + 2)]
        if not replies[-1].startswith(b"354"):
            self.ask(b"RSET\r\n")
            return next((reply for reply in replies if reply[:1] not in b"23"), replies[-1])
        stuffed = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
        return self.ask(stuffed + b".\r\n")

    def _send_chunks(self, envelope: bytes, recipients: int, message: bytes) -> bytes:
        self.socket.sendall(envelope)
        replies = [self.reply() for _ in range(recipients + 1)]
        for reply in replies:
            if not reply.startswith(b"250"):
                self.ask(b"RSET\r\n")
                return reply
        chunks = [message[at : at + _CHUNK_OCTETS] for at in range(0, len(message), _CHUNK_OCTETS)]
        for number, chunk in enumerate(chunks, 1):
            last = b" LAST" if number == len(chunks) else b""
            reply = self.ask(b"BDAT %d%b\r\n%b" % (len(chunk), last, chunk))
            if not reply.startswith(b"250"):
                self.ask(b"RSET\r\n")
                return reply
        return reply

    def ask(self, octets: bytes) -> bytes:
        self.socket.sendall(octets)
        return self.reply()

    def reply(self) -> bytes:
        """All lines of one reply."""
        lines = []
        while True:
            line = self.file.readline(4096)
            if not line.endswith(b"\r\n"):
                raise EOFError("the server closed the connection")
            lines.append(line)
            if line[3:4] != b"-":
                break
        if lines[-1].startswith(b"421"):
            raise EOFError(lines[-1].decode("utf-8", "replace").strip())
        return b"".join(lines)

    @staticmethod
    def expect(code: bytes, reply: bytes) -> None:
        if not reply.startswith(code):
            raise EOFError(f"expected {code.decode()}, got {reply.decode('utf-8', 'replace').strip()}")

    def quit(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.ask(b"QUIT\r\n")

    def close(self) -> None:
        self.file.close()
        self.socket.close()
