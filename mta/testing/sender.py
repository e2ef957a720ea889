"""A client that hands in one message, in lock step, over a fake network; it remembers what it heard.

`reply` is the answer to the end of data, "" while none was heard: then nobody may say whether the message was taken.
"""

from __future__ import annotations

import base64
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

Step = bytes | None  # what to say; None: begin TLS


@dataclass
class Letter:
    """What is handed in. `mail_options` and `rcpt_options` go behind the paths: "RET=HDRS", "NOTIFY=NEVER"."""

    sender: str
    recipients: Sequence[str]
    content: bytes
    mail_options: str = ""
    rcpt_options: str = ""
    login: tuple[str, str] | None = None
    name: str = "client.test"


@dataclass
class Receipt:
    """What became of it at the door. `refused`: recipients and what was said of them."""

    letter: Letter
    reply: str = ""
    refused: dict[str, str] = field(default_factory=dict)
    over: bool = False  # the session has ended
    heard: list[str] = field(default_factory=list)

    @property
    def taken(self) -> bool:
        return self.reply.startswith("250")

    @property
    def id(self) -> str:
        """The queue ID."""
        return self.reply.split()[-1] if self.taken else ""

    @property
    def recipients(self) -> list[str]:
        """Those that were taken with it."""
        return [each for each in self.letter.recipients if each not in self.refused] if self.taken else []


@implementer(IHandshakeListener)
class Sender(Protocol):
    def __init__(self, letter: Letter) -> None:
        self.receipt = Receipt(letter)
        self._dialogue = _dialogue(self.receipt)
        self._buffer = b""
        next(self._dialogue)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            text = line.decode("utf-8", "replace")
            self.receipt.heard.append(text)
            if text[3:4] != "-":
                self._go_on(text)

    def handshakeCompleted(self) -> None:
        self._go_on("")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.receipt.over = True

    def give_up(self) -> None:
        """It waited long enough."""
        transport: Any = self.transport
        if not self.receipt.over and transport is not None:
            transport.abortConnection()
        self.receipt.over = True

    def _go_on(self, reply: str) -> None:
        transport: Any = self.transport
        try:
            step = self._dialogue.send(reply)
        except StopIteration:
            transport.loseConnection()
            return
        if step is None:
            transport.startTLS(object())
        else:
            transport.write(step)


def _dialogue(receipt: Receipt) -> Generator[Step, str, None]:
    """Says one thing after another, hears a reply each time. It ends early when there is nothing left to ask for."""
    letter = receipt.letter
    hello = f"EHLO {letter.name}\r\n".encode()
    if not (yield b"").startswith("220"):
        return
    yield hello
    if letter.login is not None:
        if not (yield b"STARTTLS\r\n").startswith("220"):
            return
        yield None
        yield hello
        secret = base64.b64encode("\0{}\0{}".format(*letter.login).encode())
        if not (yield b"AUTH PLAIN " + secret + b"\r\n").startswith("235"):
            return
    receipt.reply = yield _command(f"MAIL FROM:<{letter.sender}>", letter.mail_options)
    if not receipt.taken:
        return
    receipt.reply = ""
    for recipient in letter.recipients:
        said = yield _command(f"RCPT TO:<{recipient}>", letter.rcpt_options)
        if not said.startswith("250"):
            receipt.refused[recipient] = said
    receipt.reply = yield b"DATA\r\n"
    if not receipt.reply.startswith("354"):
        return
    receipt.reply = ""
    receipt.reply = yield (b"\r\n" + letter.content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    yield b"QUIT\r\n"


def _command(text: str, options: str) -> bytes:
    return f"{text} {options}".rstrip().encode() + b"\r\n"
