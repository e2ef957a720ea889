"""A model of a session against the engine: random commands in random order, whole or octet by octet, each reply foretold.

The model knows hello, TLS, login, MAIL, recipients and chunks, and nothing of how the engine works.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.mail import reply
from mta.mail.reply import Reply
from mta.smtp import events
from mta.smtp.extensions import ServerProfile
from mta.testing.engine_driver import EngineDriver, accept_all

EXAMPLES = 5000 if os.environ.get("MTA_LONG") else 250
PROFILE = ServerProfile(
    "m.example", starttls=True, auth=True, junk_limit=10**6, soft_errors=10**6, hard_errors=10**6, messages_limit=10**6
)

COMMANDS = st.lists(
    st.sampled_from(
        ["HELO c", "EHLO c", "MAIL FROM:<a@b>", "MAIL FROM:<refused@b>", "RCPT TO:<c@d>", "RCPT TO:<refused@d>", "DATA", "RSET", "NOOP",
         "BDAT 3", "BDAT 3 LAST", "BDAT 0 LAST", "BDAT bad", "STARTTLS", "AUTH PLAIN AGEAYg==", "AUTH PLAIN", "VRFY x", "ETRN x", "XYZZY"]
    ),
    max_size=25,
)  # fmt: skip


@dataclass
class Model:
    hello: str = ""
    tls: bool = False
    login: bool = False
    mail: bool = False
    recipients: int = 0
    chunks: str = ""  # "", "open", "broken"
    accepted: int = 0

    def end(self) -> None:
        self.mail, self.recipients, self.chunks = False, 0, ""

    def foretell(self, command: str) -> list[str]:
        """The codes of the replies; "close" where the session ends."""
        verb, _, argument = command.partition(" ")
        match verb:
            case "HELO" | "EHLO":
                self.end()
                self.hello = verb
                return ["250"]
            case "NOOP":
                return ["250"]
            case "RSET":
                self.end()
                return ["250"]
            case "VRFY":
                return ["252"]
            case "XYZZY":
                return ["500"]
            case "ETRN":
                return ["503"] if not self.hello or self.mail else ["252"]
            case "STARTTLS":
                if self.mail:
                    return ["503"]
                if self.tls:
                    return ["554"]
                if self.login:
                    return ["503"]
                self.tls, self.hello, self.login = True, "", False
                return ["220"]
            case "AUTH":
                if not self.hello or self.mail or self.login:
                    return ["503"]
                self.login = True
                return ["235"] if argument != "PLAIN" else ["334", "235"]
        if not self.hello:
            return ["501", "close"] if command == "BDAT bad" else ["503"]
        return self._transaction(verb, argument)

    def _transaction(self, verb: str, argument: str) -> list[str]:
        if verb == "BDAT" and argument == "bad":
            return ["501", "close"]
        if self.chunks == "broken":
            return ["503"]
        match verb:
            case "MAIL":
                if self.mail:
                    return ["503"]
                self.mail = "refused" not in argument
                return ["250" if self.mail else "530"]
            case "RCPT":
                if not self.mail or self.chunks:
                    return ["503"]
                self.recipients += "refused" not in argument
                return ["550" if "refused" in argument else "250"]
            case "DATA":
                if not self.mail or self.chunks:
                    return ["503"]
                if not self.recipients:
                    return ["554"]
                self.end()
                self.accepted += 1
                return ["354", "250"]
        if not self.mail:
            return ["503"]
        if not self.recipients:
            return ["554"]
        if "LAST" in argument:
            self.end()
            self.accepted += 1
        else:
            self.chunks = "open"
        return ["250"]


def answer(event: events.Event) -> Reply | bytes | None:
    if isinstance(event, events.Mail) and event.reverse_path.local == "refused":
        return reply.AUTH_REQUIRED
    if isinstance(event, events.Rcpt) and event.address.local == "refused":
        return reply.NO_SUCH_USER
    return accept_all(event)


def codes(wire: bytes) -> list[str]:
    return [line[:3].decode() for line in wire.split(b"\r\n") if line[3:4] == b" "]


@settings(max_examples=EXAMPLES, deadline=None)
@given(commands=COMMANDS, singly=st.booleans())
def test_a_session_keeps_to_its_model(commands: list[str], singly: bool) -> None:
    model, driver = Model(), EngineDriver(PROFILE, answer)
    for command in commands:
        foretold = model.foretell(command)
        octets = command.encode() + b"\r\n"
        if command.startswith("BDAT 3"):
            octets += b"x\r\n"
        said = driver.send(*([octets[at : at + 1] for at in range(len(octets))] if singly else [octets]))
        if said.startswith(b"354"):
            said += driver.send(b"x\r\n.\r\n")
        if said.startswith(b"334"):
            said += driver.send(b"AGEAYg==\r\n")
        if foretold[-1] == "close":
            assert codes(said) == foretold[:-1]
            assert driver.closed
            break
        assert codes(said) == foretold, command
        engine = driver.engine
        assert (engine.over_tls, engine.authenticated, engine.in_transaction) == (model.tls, model.login, model.mail)
    ended = [each for each in driver.seen if isinstance(each, events.ContentEnd)]
    assert len(ended) == model.accepted
    assert all(content == b"" or content.endswith(b"x\r\n") for content in driver.content)
