"""Servers that a dialogue can be played with: the engine alone, a reception in memory, a server behind a socket."""

from __future__ import annotations

import hmac
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from mta.config.model import Configuration
from mta.inbound.listener import make_listener
from mta.mail import reply
from mta.mail.reply import Reply
from mta.policy.decision import ClientFacts
from mta.policy.relay import decide_recipient, decide_sender
from mta.routing.router import build_router
from mta.smtp import events
from mta.testing.conversation import Dialogue
from mta.testing.engine_driver import EngineDriver, accept_all
from mta.testing.house import USERS, house_configuration
from mta.testing.reception import Connection, MemoryReception

PATIENCE_SECONDS = 10.0  # for a reply of a real server
SILENCE_SECONDS = 0.02  # after which a real server has nothing more to say


class EngineParty:
    """The engine alone, pumped by an EngineDriver; a small table says what policy, routing and passwords would say."""

    def __init__(self, dialogue: Dialogue) -> None:
        configuration = house_configuration(dialogue.settings)
        section = next(each for each in configuration.listener if each.name == dialogue.listener)
        profile = make_listener(
            section, configuration, authenticator=cast(Any, _NO_STORE), tls=cast(Any, _NO_TLS)
        ).profile
        self._table = _Table(configuration, dialogue.client, submission=section.kind == "submission")
        over_tls = section.tls == "implicit"
        self._table.tls_started(over_tls)
        self._mechanisms = tuple(configuration.auth.mechanisms) if profile.auth else ()
        self._driver = EngineDriver(profile, self._answer, self._offered(over_tls), over_tls)
        self._read = 0

    @property
    def closed(self) -> bool:
        return self._driver.closed

    def send(self, octets: bytes) -> None:
        self._driver.send(octets)
        if self._table.failures >= 3 and not self.closed:
            self._driver.engine.close(reply.TOO_MANY_AUTH_FAILURES, "too many failed logins")
            self._driver.send(b"")

    def pull(self, *, patiently: bool) -> bytes:
        octets, self._read = self._driver.wire[self._read :], len(self._driver.wire)
        return octets

    def start_tls(self) -> None:
        """The driver has done it."""
        assert self._driver.engine.over_tls

    def wait(self, seconds: float) -> None:
        """There is no clock."""

    def shut_down(self) -> None:
        self._driver.engine.close(reply.SHUTTING_DOWN, "shutdown")
        self._driver.send(b"")

    def mailbox(self, address: str, *, at_least: int) -> list[bytes]:
        return [content for recipients, content in self._table.taken if address in recipients]

    def end(self) -> None:
        """Nothing to hang up."""

    def _offered(self, over_tls: bool) -> tuple[str, ...]:
        return tuple(each for each in self._mechanisms if over_tls or each not in {"PLAIN", "LOGIN"})

    def _answer(self, event: events.Event) -> Reply | bytes | None:
        if isinstance(event, events.StartTls):
            self._table.tls_started(True)
            self._driver.engine.mechanisms = self._offered(True)
        if isinstance(event, events.AuthStart) and event.mechanism not in self._driver.engine.mechanisms:
            known = event.mechanism in self._mechanisms
            return reply.AUTH_NEEDS_TLS if known else reply.UNKNOWN_MECHANISM
        return self._table.answer(event, self._driver.content)


class _Table:
    """Who may do what, as a session would say it, in a page."""

    def __init__(self, configuration: Configuration, client: str, *, submission: bool) -> None:
        trusted = configuration.may_relay(client)
        self.facts = ClientFacts(client, "", submission, False, trusted, "", trusted)
        self.failures = 0
        self.taken: list[tuple[list[str], bytes]] = []
        self._router = build_router(configuration, generation=1, users=lambda address: str(address) in USERS)
        self._recipients: list[str] = []
        self._mechanism = ""
        self._name = b""

    def tls_started(self, over_tls: bool) -> None:
        self.facts = replace(self.facts, over_tls=over_tls, authcid="", may_relay=self.facts.trusted_network)

    def answer(self, event: events.Event, finished: list[bytes]) -> Reply | bytes | None:
        match event:
            case events.Mail():
                return decide_sender(self.facts).reply or reply.MAIL_OK
            case events.Rcpt():
                resolution = self._router.resolve(event.address)
                refusal = decide_recipient(self.facts, resolution).reply
                if refusal is None:
                    self._recipients.append(str(resolution.address))
                return refusal or reply.RCPT_OK
            case events.ContentEnd():
                if event.refusal is None:
                    self.taken.append((self._recipients, finished[-1]))
                return event.refusal or Reply(250, "2.0.0", "Ok: queued as 0")
            case events.TransactionEnded():
                self._recipients = []
            case events.AuthStart():
                self._mechanism, self._name = event.mechanism, b""
                if event.initial is not None:
                    return self._login(event.initial)
                return b"Username:" if event.mechanism == "LOGIN" else b""
            case events.AuthResponse():
                return self._login(event.data)
            case events.Inquiry():
                refused = reply.VRFY_REFUSED if event.verb == "VRFY" else reply.EXPN_REFUSED
                return reply.ETRN_REFUSED if event.verb == "ETRN" else refused
        return accept_all(event)

    def _login(self, data: bytes) -> Reply | bytes:
        if self._mechanism == "LOGIN":
            if not self._name:
                self._name = data
                return b"Password:"
            name, password = self._name, data
        else:
            _, _, rest = data.partition(b"\0")
            name, _, password = rest.partition(b"\0")
        user = name.decode("utf-8", "replace")
        user = user if "@" in user else user + "@dev.test"
        if not hmac.compare_digest(USERS.get(user, "").encode() or b"\0", password):
            self.failures += 1
            return reply.AUTH_FAILED
        self.facts = replace(self.facts, authcid=user, may_relay=True)
        return reply.AUTHENTICATED


class _NoStore:
    """Stands where a listener needs to know that somebody checks passwords."""

    def offered(self, *, tls: bool) -> tuple[str, ...]:
        return ()


_NO_STORE = _NoStore()
_NO_TLS = object()


class MemoryParty:
    """The whole of reception in memory: factory, protocol, session, routing, passwords, spool; a clock turned by hand."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._reception = MemoryReception(dialogue.settings)
        self._connection: Connection = self._reception.connect(dialogue.listener, dialogue.client)

    @property
    def closed(self) -> bool:
        return self._connection.closed

    def send(self, octets: bytes) -> None:
        self._connection.send(octets)

    def pull(self, *, patiently: bool) -> bytes:
        return self._connection.read()

    def start_tls(self) -> None:
        self._connection.handshake()

    def wait(self, seconds: float) -> None:
        self._reception.wait(seconds)

    def shut_down(self) -> None:
        self._reception.shut_down()

    def mailbox(self, address: str, *, at_least: int) -> list[bytes]:
        return self._reception.mailbox(address)

    def end(self) -> None:
        self._connection.hang_up()
        self._reception.end()


class SocketParty:
    """A server behind a socket. `mailboxes` gives the messages of a mailbox, oldest first, where they can be seen."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        implicit_tls: bool = False,
        mailboxes: Callable[[str], list[bytes]] = lambda _: [],
    ) -> None:
        self._mailboxes = mailboxes
        self._before: Mapping[str, int] = {address: len(mailboxes(address)) for address in USERS}
        self._socket: socket.socket = socket.create_connection((host, port), PATIENCE_SECONDS)
        self.closed = False
        if implicit_tls:
            self.start_tls()

    def send(self, octets: bytes) -> None:
        try:
            self._socket.sendall(octets)
        except (BrokenPipeError, ConnectionResetError):
            return  # what was said before tells why

    def pull(self, *, patiently: bool) -> bytes:
        self._socket.settimeout(PATIENCE_SECONDS if patiently else SILENCE_SECONDS)
        try:
            octets = self._socket.recv(65536)
        except TimeoutError:
            octets = b""
        except (ConnectionResetError, ssl.SSLEOFError):
            octets, self.closed = b"", True
        else:
            self.closed = not octets
        self._socket.settimeout(PATIENCE_SECONDS)
        return octets

    def start_tls(self) -> None:
        # What certificate a server under test has is not what dialogues are about.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._socket = context.wrap_socket(self._socket)

    def wait(self, seconds: float) -> None:
        raise NotImplementedError("nobody waits for real time in a dialogue: leave out the runner")

    def shut_down(self) -> None:
        raise NotImplementedError("a dialogue does not end other people's servers: leave out the runner")

    def mailbox(self, address: str, *, at_least: int) -> list[bytes]:
        end = time.monotonic() + PATIENCE_SECONDS
        while len(found := self._mailboxes(address)[self._before.get(address, 0) :]) < at_least:
            if time.monotonic() > end:
                break
            time.sleep(0.01)
        return found

    def end(self) -> None:
        self._socket.close()
