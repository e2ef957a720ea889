"""A scripted SMTP peer on a real socket: the neighbour of a test, well-behaved unless the script says otherwise.

    remote = RemoteHost(reactor, {"RCPT TO:<bad@": "550 5.1.1 nobody", ".": CLOSE})
    port = remote.start()
    ...
    assert remote.messages[0].content == b"..."
    await remote.stop()

The script's keys are beginnings of what the client says (longest first), in upper case up to the argument: "EHLO", "MAIL", "RCPT
TO:<bad@", "DATA", "." (end of data), "RSET", "QUIT", "STARTTLS", and "connect" for the greeting. Values:

- a str: a reply; lines parted by newline become a reply of several lines
- bytes: sent as they are
- CLOSE: close the connection; ABORT: reset it; STALL: say nothing (and go on listening)
- a list: one after the other, for this one command
- Turns(a, b, ...): the first time a, the second time b ...; the last one for ever after
- a function of the RemoteSession: called; what it returns is done (None: nothing). It may set `session.listener`, which then gets the
  lines that follow (the answers to a challenge), until it is set to None
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from twisted.internet import defer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

EXTENSIONS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


class Act(enum.Enum):
    CLOSE = "close"
    ABORT = "abort"
    STALL = "stall"


CLOSE, ABORT, STALL = Act


class Turns:
    """Another answer each time."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)

    def next(self) -> Answer:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


Answer: TypeAlias = "str | bytes | Act | Turns | Sequence[Answer] | Callable[[RemoteSession], Answer | None]"


@dataclass
class RemoteMessage:
    """A message that arrived with its end: as the client said MAIL and RCPT, dots unstuffed, `wire` as it came."""

    mail: str
    recipients: list[str]
    content: bytes
    wire: bytes
    tls: bool


@dataclass
class RemoteHost:
    """`tls`: a context factory for STARTTLS (announced when given), or with `tls_at_once` for a handshake before the greeting.

    `lmtp`: a final reply for each accepted recipient. `extensions_in_tls`: what is offered there instead.
    """

    reactor: Any
    script: Mapping[str, Answer] = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    tls: Any = None
    tls_at_once: bool = False
    lmtp: bool = False
    extensions_in_tls: Sequence[str] | None = None
    name: str = "remote.test"
    sessions: list[RemoteSession] = field(default_factory=list)
    messages: list[RemoteMessage] = field(default_factory=list)
    port: int = 0
    _listening: Any = None

    def start(self, interface: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; the port."""
        self._listening = self.reactor.listenTCP(port, Factory.forProtocol(self._session), interface=interface)
        self.port = self._listening.getHost().port
        return self.port

    async def stop(self) -> None:
        if self._listening is not None:
            await defer.maybeDeferred(self._listening.stopListening)
        for session in self.sessions:
            if session.alive:
                session.wire.abortConnection()
                await session.gone

    @property
    def commands(self) -> list[str]:
        """Of all sessions, in their order."""
        return [command for session in self.sessions for command in session.commands]

    def _session(self) -> RemoteSession:
        session = RemoteSession(self)
        self.sessions.append(session)
        return session


class RemoteSession(Protocol):
    """One connection. `commands` are the lines heard, `received` every octet outside TLS's own."""

    def __init__(self, host: RemoteHost) -> None:
        self.host = host
        self.commands: list[str] = []
        self.received = b""
        self.segments: list[bytes] = []  # as they came
        self.alive = False
        self.gone: defer.Deferred[None] = defer.Deferred()
        self.tls = False
        self.listener: Callable[[str], Answer | None] | None = None
        self._buffer = b""
        self._in_data = self._closing = False
        self._mail = ""
        self._accepted: list[str] = []

    @property
    def wire(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self.alive = True
        if self.host.tls_at_once:
            self.tls = True
            self.wire.startTLS(self.host.tls)
        self._answer("connect", "connect", f"220 {self.host.name} ESMTP")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.alive = False
        self.gone.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.segments.append(data)
        self._buffer += data
        while self._buffer and (self._content() if self._in_data else self._line()):
            pass

    def say(self, text: str) -> None:
        *lines, last = text.split("\n")
        code = text[:3]
        more = [line if line.startswith(code) else f"{code} {line}" for line in [*lines, last]]
        lines = [f"{code}-{line[4:]}" for line in more[:-1]]
        self.wire.write("".join(line + "\r\n" for line in [*lines, more[-1]]).encode())

    def _line(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return False
        self._buffer = rest
        command = line.decode("utf-8", "backslashreplace")
        self.commands.append(command)
        if self.listener is not None:
            self._do(self.listener(command))
            return not self._closing
        verb = command.partition(" ")[0].upper()
        usual: Answer = f"502 5.5.1 {verb}?"
        match verb:
            case "EHLO" | "LHLO":
                host = self.host
                offered = [*(host.extensions_in_tls if self.tls and host.extensions_in_tls else host.extensions)]
                if self.host.tls is not None and not self.tls:
                    offered.append("STARTTLS")
                usual = "\n".join([f"250 {self.host.name}", *offered])
            case "MAIL":
                usual, self._mail, self._accepted = "250 2.1.0 Ok", command, []
            case "RCPT":
                usual = "250 2.1.5 Ok" if self._mail else "503 5.5.1 MAIL first"
            case "RSET":
                usual, self._mail, self._accepted = "250 2.0.0 Ok", "", []
            case "HELO" | "NOOP":
                usual = "250 2.0.0 Ok"
            case "DATA":
                usual = "354 go on" if self._accepted else "554 5.5.1 no valid recipients"
            case "QUIT":
                usual = ["221 2.0.0 Bye", CLOSE]
            case "STARTTLS":
                usual = "220 2.0.0 go" if self.host.tls is not None else usual
        code = self._answer(command, verb, usual)
        if verb == "MAIL" and code != "2":
            self._mail = ""
        elif verb == "RCPT" and code == "2" and self._mail:
            self._accepted.append(command)
        elif verb == "DATA" and code == "3":
            self._in_data = True
        elif verb == "STARTTLS" and code == "2" and self.host.tls is not None:
            self._buffer = b""
            self.tls = True
            self.wire.startTLS(self.host.tls)
        return not self._closing

    def _content(self) -> bool:
        stream = b"\r\n" + self._buffer
        end = stream.find(b"\r\n.\r\n")
        if end < 0:
            return False
        self._in_data = False
        wire, self._buffer = self._buffer[: max(end, 0)], stream[end + 5 :]
        content = (b"\r\n" + wire).replace(b"\r\n.", b"\r\n")[2:]
        accepted = self._accepted
        message = RemoteMessage(self._mail, accepted, content, wire, self.tls)
        self._mail, self._accepted = "", []
        taken = False
        for _ in accepted if self.host.lmtp else [None]:
            taken = self._answer(".", ".", f"250 2.0.0 taken as {len(self.host.messages) + 1}") == "2" or taken
        if taken:
            self.host.messages.append(message)
        return not self._closing

    def _answer(self, command: str, verb: str, usual: Answer) -> str:
        """Do what the script says, or what is usual; the first digit of what was said."""
        spoken = verb + command[len(verb) :]
        fitting = [key for key in self.host.script if spoken.startswith(key)]
        return self._do(self.host.script[max(fitting, key=len)] if fitting else usual)

    def _do(self, answer: Answer | None) -> str:
        match answer:
            case None | Act.STALL:
                return ""
            case Act.CLOSE:
                self._closing = True
                self.wire.loseConnection()
            case Act.ABORT:
                self._closing = True
                self.wire.abortConnection()
            case str():
                self.say(answer)
                return answer[:1]
            case bytes():
                self.wire.write(answer)
                return answer[:1].decode("ascii", "replace")
            case Turns():
                return self._do(answer.next())
            case list() | tuple():
                return "".join([self._do(each) for each in answer])[:1]
            case _ if callable(answer):
                return self._do(answer(self))
        return ""
