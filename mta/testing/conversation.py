r"""Dialogues with an SMTP server, as files: what the client says, what the server must say. One file, any server.

    title: a mail is taken
    runners: engine memory daemon
    listener: mx

    S: 220 *
    C: EHLO client.example
    S* 250
    S? PIPELINING

Headers stand before the first empty line; `#` begins a comment. Then, line by line:

    C: text          sent with CRLF; neighbouring C lines go out in one packet
    C*3: RCPT {n}    the same three times, {n} being 1, 2, 3
    C= "a\0" * 3     octets as they stand; string literals joined by `+` and repeated by `*`
    CUT              ends a packet
    S: pattern       one line of a reply; `*` stands for anything
    S*3: pattern     three such lines
    S= "octets"      one line, exactly, without its CRLF
    S* 250           a whole reply, of any number of lines, with this code
    S? WORD ...      the last whole reply has a line with all these words
    S! WORD ...      it has none
    TLS              do the handshake
    SILENT           nothing has come
    CLOSED           the server has closed
    WAIT 300         let so many seconds pass (where there is a clock to turn)
    SHUTDOWN         end the server (where that is possible)
    DELIVERED 1 to demo@dev.test     so many messages of this dialogue have come to a mailbox
    HAS "octets"     the last of them contains ...
    LACKS "octets"   ... or does not
    BODY "octets"    its body is exactly this

What the server says beyond what is expected is an error too. To try a server of one's own:

    python -m mta.testing.conversation --connect 127.0.0.1:2525 tests/conversations/1*.conv
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

RUNNERS = ("engine", "memory", "daemon")
_TRANSCRIPT_LINES = 24  # shown of a dialogue that failed
_SHOWN_CHARACTERS = 200
_STEP = re.compile(r"([CS])\*(\d+): ?(.*)")
_DELIVERED = re.compile(r"(\d+) to (\S+)")


class ConversationError(AssertionError):
    """The server did not say what the dialogue says, or the file is no dialogue. The text names file and line."""


class Party(Protocol):
    """The other end of a dialogue."""

    @property
    def closed(self) -> bool:
        """Has the server closed the connection?"""

    def send(self, octets: bytes) -> None: ...

    def pull(self, *, patiently: bool) -> bytes:
        """What came since; b"" when nothing comes. `patiently`: wait for it, where replies take time."""

    def start_tls(self) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def shut_down(self) -> None: ...

    def mailbox(self, address: str, *, at_least: int) -> list[bytes]:
        """Messages that came to a mailbox in this dialogue, oldest first; waits for so many, where delivery takes time."""

    def end(self) -> None:
        """Hang up."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a dialogue."""

    line: int
    kind: str
    text: str
    octets: bytes = b""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue file. `settings` are what it asks of the configuration, as nested tables of TOML."""

    path: Path
    title: str
    runners: tuple[str, ...]
    listener: str
    tls: bool  # begins inside TLS: the runner has said STARTTLS before
    client: str  # the peer's address, where the runner can choose
    settings: dict[str, Any]
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return self.path.stem


# --- reading files ------------------------------------------------------------------------------------------------------


def read_dialogue(path: Path) -> Dialogue:
    """Raises ConversationError naming file and line."""
    lines = path.read_text("utf-8").split("\n")
    try:
        blank = lines.index("")
    except ValueError:
        blank = len(lines)
    headers: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for number, line in enumerate(lines[:blank], 1):
        if line.startswith("#"):
            continue
        key, colon, value = (each.strip() for each in line.partition(":"))
        if key == "set":
            _merge(settings, _toml(path, number, value))
        elif not colon or key not in {"title", "runners", "listener", "tls", "client"} or key in headers:
            raise ConversationError(f"{path}:{number}: no header of a dialogue: {line!r}")
        else:
            headers[key] = value
    runners = tuple(headers.get("runners", "engine memory daemon").split())
    if "title" not in headers or not set(runners) <= set(RUNNERS):
        raise ConversationError(f"{path}:1: a dialogue needs a title, and runners of {', '.join(RUNNERS)}")
    steps = []
    for number, line in enumerate(lines[blank:], blank + 1):
        if line.strip() and not line.startswith("#"):
            steps.append(_read_step(path, number, line))
    return Dialogue(
        path,
        headers["title"],
        runners,
        headers.get("listener", "mx"),
        headers.get("tls", "no") == "yes",
        headers.get("client", "192.0.2.1"),
        settings,
        tuple(steps),
    )


def read_dialogues(folder: Path, runner: str) -> list[Dialogue]:
    """The dialogues of a folder that are meant for this runner, by name."""
    dialogues = [read_dialogue(path) for path in sorted(folder.glob("*.conv"))]
    return [each for each in dialogues if runner in each.runners]


def _read_step(path: Path, number: int, line: str) -> Step:
    repeated = _STEP.fullmatch(line)
    if repeated is not None:
        kind = "send" if repeated[1] == "C" else "line"
        return _sending(number, repeated[3], int(repeated[2])) if kind == "send" else Step(
            number, kind, repeated[3], count=int(repeated[2])
        )  # fmt: skip
    head, _, text = line.partition(" ")
    match head:
        case "C:":
            return _sending(number, text, 1)
        case "C=":
            return Step(number, "send", line, _octets(path, number, text))
        case "S=":
            return Step(number, "octets", text, _octets(path, number, text))
        case "S:" | "S*" | "S?" | "S!":
            kind = {"S:": "line", "S*": "reply", "S?": "has word", "S!": "lacks word"}[head]
            return Step(number, kind, text)
        case "CUT" | "TLS" | "SILENT" | "CLOSED" | "SHUTDOWN":
            return Step(number, head.lower(), text)
        case "WAIT":
            return Step(number, "wait", str(float(text)))
        case "DELIVERED":
            hit = _DELIVERED.fullmatch(text.strip())
            if hit is not None:
                return Step(number, "delivered", hit[2], count=int(hit[1]))
        case "HAS" | "LACKS" | "BODY":
            return Step(number, head.lower(), text, _octets(path, number, text))
    raise ConversationError(f"{path}:{number}: not understood: {line!r}")


def _sending(number: int, text: str, times: int) -> Step:
    if times == 1:
        return Step(number, "send", text, text.encode() + b"\r\n")
    lines = [text.replace("{n}", str(n)).encode() for n in range(1, times + 1)]
    return Step(number, "send", f"{text} ({times} times)", b"\r\n".join(lines) + b"\r\n")


def _octets(path: Path, number: int, text: str) -> bytes:
    """An expression of string literals, `+` and `*`; its characters are octets."""
    try:
        return _evaluate(ast.parse(text.strip(), mode="eval").body).encode("latin-1")
    except (SyntaxError, ValueError) as error:
        raise ConversationError(f"{path}:{number}: no octets: {text!r} ({error})") from error


def _evaluate(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _evaluate(left) + _evaluate(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))):
            return _evaluate(left) * times
    raise ValueError("only string literals, + and * count")


def _toml(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConversationError(f"{path}:{number}: no setting: {text!r} ({error})") from error


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


# --- playing ------------------------------------------------------------------------------------------------------------


def play(dialogue: Dialogue, party: Party) -> None:
    """Raises ConversationError where the party does not keep to the dialogue."""
    try:
        _Player(dialogue, party).play()
    finally:
        party.end()


@dataclass
class _Player:
    dialogue: Dialogue
    party: Party
    buffer: bytes = b""
    packet: list[Step] = field(default_factory=list)
    reply: list[str] = field(default_factory=list)
    transcript: list[str] = field(default_factory=list)
    last: bytes = b""  # message of the last DELIVERED
    at: int = 0

    def play(self) -> None:
        if self.dialogue.tls:
            self._into_tls()
        for step in self.dialogue.steps:
            if step.kind == "send":
                self.packet.append(step)
                continue
            self._send_packet()
            self.at = step.line
            self._take(step)
        self._send_packet()
        self.buffer += self.party.pull(patiently=False)
        if self.buffer:
            raise self._error("nothing more", _shown(self.buffer))

    def _into_tls(self) -> None:
        """What comes before a dialogue that begins inside TLS."""
        for said in (b"", b"EHLO client.example\r\n", b"STARTTLS\r\n"):
            if said:
                self.party.send(said)
            self._read_reply("")
        if not self.reply[-1].startswith("220"):
            raise self._error("STARTTLS taken", self.reply[-1])
        self.party.start_tls()

    def _send_packet(self) -> None:
        if not self.packet:
            return
        self.at = self.packet[-1].line
        self.transcript += [f"C: {_shown(step.octets.removesuffix(CRLF))}" for step in self.packet]
        octets = b"".join(step.octets for step in self.packet)
        self.packet = []
        self.party.send(octets)

    def _take(self, step: Step) -> None:
        match step.kind:
            case "line":
                for _ in range(step.count):
                    self._expect(step.text, self._read_line(step.text))
            case "octets":
                line = self._read_line(step.text)
                if line.encode("utf-8") != step.octets:
                    raise self._error(step.text, repr(line))
            case "reply":
                self._read_reply(step.text)
            case "has word" | "lacks word":
                words = set(step.text.split())
                if any(words <= set(line[4:].split()) for line in self.reply) != (step.kind == "has word"):
                    raise self._error(f"{step.kind} {step.text!r}", " | ".join(self.reply))
            case "tls":
                self.party.start_tls()
            case "wait":
                self.party.wait(float(step.text))
            case "shutdown":
                self.party.shut_down()
            case "silent":
                self.buffer += self.party.pull(patiently=False)
                if self.buffer:
                    raise self._error("silence", _shown(self.buffer))
            case "closed":
                self._expect_end()
            case "delivered":
                self._expect_delivered(step)
            case "has" | "lacks":
                if (step.octets in self.last) != (step.kind == "has"):
                    raise self._error(f"a message that {step.kind} {step.text}", repr(self.last))
            case "body":
                body = self.last.partition(b"\r\n\r\n")[2]
                if body != step.octets:
                    raise self._error(f"the body {step.octets!r}", repr(body))

    def _read_line(self, expected: str) -> str:
        while CRLF not in self.buffer:
            more = self.party.pull(patiently=True)
            if not more:
                end = "the server closed" if self.party.closed else "nothing came"
                raise self._error(repr(expected) if expected else "a reply", f"{_shown(self.buffer)} and then {end}")
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(CRLF)
        text = line.decode("utf-8", "backslashreplace")
        self.transcript.append(f"S: {_cut(text)}")
        return text

    def _read_reply(self, code: str) -> None:
        self.reply = []
        while True:
            line = self._read_line(code)
            if code and not line.startswith(code):
                raise self._error(f"a reply {code}", repr(line))
            self.reply.append(line)
            if line[3:4] != "-":
                return

    def _expect(self, pattern: str, line: str) -> None:
        self.reply = [*self.reply, line] if self.reply and self.reply[-1][3:4] == "-" else [line]
        if not re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), line):
            raise self._error(repr(pattern), repr(line))

    def _expect_end(self) -> None:
        if not self.buffer and not self.party.closed:
            self.buffer += self.party.pull(patiently=True)
        if self.buffer:
            raise self._error("the end of the connection", _shown(self.buffer))
        if not self.party.closed:
            raise self._error("the end of the connection", "nothing")

    def _expect_delivered(self, step: Step) -> None:
        messages = self.party.mailbox(step.text, at_least=step.count)
        if len(messages) != step.count:
            raise self._error(f"{step.count} messages to {step.text}", str(len(messages)))
        self.last = messages[-1] if messages else b""

    def _error(self, expected: str, came: str) -> ConversationError:
        story = "\n".join("    " + line for line in self.transcript[-_TRANSCRIPT_LINES:])
        place = f"{self.dialogue.path}:{self.at}"
        return ConversationError(
            f"{place}: expected {expected}, came {came}\n  {self.dialogue.title}, so far:\n{story}"
        )


CRLF = b"\r\n"


def _shown(octets: bytes) -> str:
    return _cut(repr(octets)[2:-1] if octets else "nothing")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play dialogues with a server that is running."""
    import argparse  # noqa: PLC0415 - for the command alone
    import sys  # noqa: PLC0415

    from mta.testing.parties import SocketParty  # noqa: PLC0415 - it knows this module

    parser = argparse.ArgumentParser(description="Play SMTP dialogues with a running server")
    parser.add_argument("--connect", required=True, metavar="HOST:PORT")
    parser.add_argument("--implicit-tls", action="store_true", help="the port speaks TLS at once")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    host, _, port = options.connect.rpartition(":")
    failed = 0
    for path in options.files:
        try:
            dialogue = read_dialogue(path)
            play(dialogue, SocketParty(host, int(port), implicit_tls=options.implicit_tls))
        except (ConversationError, OSError) as error:
            failed += 1
            sys.stdout.write(f"FAILED {path}\n{error}\n")
        else:
            sys.stdout.write(f"ok     {path}: {dialogue.title}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
