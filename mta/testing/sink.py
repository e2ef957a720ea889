"""A next hop in a process of its own that takes everything and records it: the far end of tests that count.

    with Sink(tmp_path / "taken") as sink:
        ...                               # relay to 127.0.0.1, sink.port
    sink.copies()                         # what it took, a Copy for each recipient

    python -m mta.testing.sink --record FILE --port PORT [--refuse PREFIX] [ADDRESS ...]

A message is in the record before its 250 is sent, so that a message it vouched for is known however the sender dies. Recipients whose
name begins with `--refuse` get 550. It speaks for many hosts at once when given many addresses. Written on asyncio: it must not
share a fault with what it measures. No TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mta.testing.ledger import Copy, copy_of
from mta.testing.processes import free_port, greeting, stop, wait_for

EXTENSIONS = b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 SIZE 100000000\r\n"
BACKLOG = 1024
_RECIPIENT = re.compile(rb"RCPT TO:<([^>]*)>", re.IGNORECASE)
_Record = Callable[[tuple[str, ...], bytes], None]


class Session(asyncio.Protocol):
    """One connection: lines, and content up to its final dot."""

    def __init__(self, record: _Record, refused: bytes) -> None:
        self._record, self._refused = record, refused
        self._buffer = bytearray()
        self._recipients: list[str] = []
        self._in_content = False
        self._searched = 0  # up to here there is no end of data
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        replies = []
        while (reply := self._content() if self._in_content else self._line()) is not None:
            replies.append(reply)
        if replies:
            self._transport.write(b"".join(replies))
            if replies[-1].startswith(b"221"):
                self._transport.close()

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        verb = line[:4].upper()
        match verb:
            case b"EHLO":
                return EXTENSIONS
            case b"MAIL" | b"RSET":
                self._recipients = []
            case b"RCPT":
                return self._rcpt(line)
            case b"DATA":
                if not self._recipients:
                    return b"554 5.5.1 No valid recipients\r\n"
                self._in_content, self._searched = True, 0
                return b"354 Go on\r\n"
            case b"QUIT":
                return b"221 2.0.0 Bye\r\n"
            case b"HELO" | b"NOOP":
                pass
            case _:
                return b"502 5.5.1 What?\r\n"
        return b"250 2.0.0 Ok\r\n"

    def _rcpt(self, line: bytes) -> bytes:
        found = _RECIPIENT.match(line)
        if found is None:
            return b"501 5.1.3 What recipient?\r\n"
        if self._refused and found[1].startswith(self._refused):
            return b"550 5.1.1 <%b>: nobody of that name\r\n" % found[1]
        self._recipients.append(found[1].decode("utf-8", "replace"))
        return b"250 2.1.5 Ok\r\n"

    def _content(self) -> bytes | None:
        buffer = self._buffer
        end = -3 if buffer.startswith(b".\r\n") else buffer.find(b"\r\n.\r\n", max(0, self._searched - 4))
        if end == -1:
            self._searched = len(buffer)
            return None
        content = b"" if end < 0 else bytes(buffer[: end + 2])
        del buffer[: max(end, -2) + 5]
        self._in_content = False
        self._record(tuple(self._recipients), (b"\r\n" + content).replace(b"\r\n.", b"\r\n")[2:])
        self._recipients = []
        return b"250 2.0.0 Taken\r\n"


async def _serve(options: argparse.Namespace) -> None:
    record = os.open(options.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(recipients: tuple[str, ...], content: bytes) -> None:
        copy = copy_of(content, "")
        line = {"at": time.time(), "mark": copy.mark, "digest": copy.digest, "recipients": recipients}
        os.write(record, json.dumps(line).encode() + b"\n")

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    refused = options.refuse.encode()
    await loop.create_server(
        lambda: Session(note, refused), options.addresses or ["127.0.0.1"], options.port, backlog=BACKLOG
    )
    await ended.wait()


class Sink:
    """The process, and its record. `addresses`: all on `port`; the first is asked whether it is up."""

    def __init__(
        self, record: Path, *, addresses: Sequence[str] = ("127.0.0.1",), port: int = 0, refuse: str = ""
    ) -> None:
        self.record, self.addresses, self.refuse = record, list(addresses), refuse
        self.port = port or free_port(self.addresses[0])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sink:
        options = ["--record", str(self.record), "--port", str(self.port), "--refuse", self.refuse]
        command = [sys.executable, "-m", "mta.testing.sink", *options, *self.addresses]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_for("the sink's greeting", self._greets)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _greets(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError("the sink ended")
        return greeting(self.port, host=self.addresses[0]).startswith(b"220")

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            stop(self._process)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def copies(self) -> list[Copy]:
        """Everything it vouched for, in that order."""
        found = []
        for line in self.record.read_text().splitlines() if self.record.exists() else []:
            note = json.loads(line)
            found += [Copy(note["mark"], note["digest"], each, note["at"]) for each in note["recipients"]]
        return found

    def count(self) -> int:
        """Messages taken."""
        return self.record.read_bytes().count(b"\n") if self.record.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--record", required=True, help="file to which a line is added for each message")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--refuse", default="", help="recipients whose name begins so get 550")
    parser.add_argument("addresses", nargs="*", help="where to listen; default 127.0.0.1")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
