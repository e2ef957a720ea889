"""The whole of reception in memory: listeners, protocol, session, policy, routing, passwords and spool, on a clock turned by hand.

    reception = MemoryReception()
    client = reception.connect("mx")
    client.send(b"EHLO client.example\\r\\n")
    assert client.read().startswith(b"220 ")

No sockets and no real TLS: `handshake` says that one is done. What was accepted lies in `mailbox`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.inbound.deadlines import Deadlines
from mta.inbound.factory import ESMTPFactory
from mta.inbound.listener import make_listener
from mta.inbound.protocol import ESMTP
from mta.inbound.reception import Policies, Reception
from mta.mail.address import Address
from mta.mail.envelope import Content
from mta.policy.limits import ConnectionCounts
from mta.routing.router import build_router
from mta.sasl.authenticator import Authenticator
from mta.sasl.credentials import IPasswordCredentials, IScramSha256Credentials
from mta.sasl.realm import SenderRealm
from mta.sasl.refusal import Refused
from mta.sasl.throttle import Throttle
from mta.sasl.verifier import derive
from mta.spool.contract import Accepted
from mta.testing.house import USERS, house_configuration
from mta.testing.steered_spool import SteeredSpool

PACKET_OCTETS = 65536  # what a real transport hands over at once, at most
OWNER = 1
EPOCH = 1_700_000_000.0  # wall time when the monotonic clock stood at zero
BOOTED_SECONDS = 1000.0  # ... and now it does not: a clock at zero hides mistakes


class EventList:
    """An event log that can be looked at."""

    fault = ""  # it is never in trouble
    dropped_lines = 0

    def __init__(self) -> None:
        self.events: list[tuple[str, int, dict[str, Any]]] = []

    def event(self, name: str, message: int = 0, /, **fields: Any) -> None:
        self.events.append((name, message, fields))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [fields for each, _, fields in self.events if each == name]


class RefusalList:
    """What refused mail left behind."""

    def __init__(self) -> None:
        self.entries: list[dict[str, object]] = []

    def note(self, entry: dict[str, object]) -> None:
        self.entries.append(entry)


@implementer(ICredentialsChecker)
class MemoryUsers:
    """A password store in memory, with verifiers of a few rounds."""

    credentialInterfaces = (IPasswordCredentials, IScramSha256Credentials)  # noqa: N815 - twisted.cred's name

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[Any]:
        some: Any = credentials
        name = some.authcid if "@" in some.authcid else some.authcid + "@dev.test"
        password = self._users.get(name)
        if password is None:
            return fail(Refused("unknown user"))
        if IScramSha256Credentials.providedBy(credentials):
            proof: Deferred[bool] = some.prove(
                derive(password, "sha256", hashlib.sha256(name.encode()).digest()[:16], 4096)
            )
            return proof.addCallback(lambda right: name.encode() if right else fail(Refused("wrong password")))
        return succeed(name.encode()) if some.secret == password else fail(Refused("wrong password"))


class Transport(StringTransport):
    """A transport that remembers what it was asked to do. TLS is a word here."""

    def __init__(self, peer: Any) -> None:
        super().__init__(peerAddress=peer)  # type: ignore[no-untyped-call] # Twisted is typed in part
        self.handshaking = False
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed."""

    def startTLS(self, context_factory: object) -> None:
        self.handshaking = True

    def getHandle(self) -> _Handle:
        return _Handle()

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True


class _Handle:
    """What is asked of a TLS connection."""

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"


class Connection:
    """A client's end of one connection."""

    def __init__(self, reception: MemoryReception, factory: ESMTPFactory, peer: IPv4Address | IPv6Address) -> None:
        self._reception = reception
        self._waiting: list[bytes] = []
        self.closed = False
        self.transport = Transport(peer)
        protocol = factory.buildProtocol(peer)
        assert isinstance(protocol, ESMTP)
        self.protocol = protocol
        self._wire: Any = self.transport  # Twisted is typed in part
        cast(Any, protocol).makeConnection(self.transport)
        reception.settle()
        if self.transport.handshaking:
            self.handshake()

    def send(self, octets: bytes) -> None:
        """As packets, as far as the server reads; the rest waits until it does."""
        self._waiting += [octets[at : at + PACKET_OCTETS] for at in range(0, len(octets), PACKET_OCTETS)]
        self._reception.settle()

    def read(self) -> bytes:
        """What has come since."""
        self._reception.settle()
        octets = bytes(self._wire.value())
        self._wire.clear()
        return octets

    def handshake(self) -> None:
        """The TLS handshake is done."""
        if not self.transport.handshaking:
            raise AssertionError("the server did not begin a TLS handshake")
        self.transport.handshaking = False
        self.protocol.handshakeCompleted()
        self._reception.settle()

    def hang_up(self) -> None:
        """The client goes away."""
        self._lose(ConnectionLost())

    def deal(self) -> bool:
        """One packet, or the end; False when there was nothing to do."""
        if self.closed:
            return False
        if self.transport.disconnecting:
            self._lose(ConnectionDone())
            return True
        if self._waiting and self.transport.producerState == "producing" and not self.transport.handshaking:
            self.protocol.dataReceived(self._waiting.pop(0))
            return True
        return False

    def _lose(self, why: Exception) -> None:
        if not self.closed:
            self.closed = True
            self._waiting.clear()
            self.protocol.connectionLost(Failure(why))


class MemoryReception:
    """One house's reception. `settings` lie over those of mta.testing.house."""

    def __init__(self, settings: Mapping[str, Any] | None = None, *, users: Mapping[str, str] = USERS) -> None:
        self.clock = Clock()
        self.clock.advance(BOOTED_SECONDS)
        self.configuration = configuration = house_configuration(settings)
        self.spool = SteeredSpool(self.now)
        self.log = EventList()
        self.refusals = RefusalList()
        self.accepted: list[tuple[Accepted, Content]] = []
        self.deadlines = Deadlines(self.clock)
        self.connections: list[Connection] = []
        self.router = build_router(configuration, generation=1, users=lambda address: str(address) in users)
        self.portal = Portal(SenderRealm("dev.test"), [MemoryUsers(users)])
        authenticator = Authenticator(
            self.portal,
            configuration.auth.mechanisms,
            domain="dev.test",
            throttle=Throttle(self.clock.seconds),
            call_later=self.clock.callLater,
            random=lambda octets: b"\x17" * octets,
        )
        tls: Any = object()
        self.reception = Reception(
            policies=Policies.of(configuration, 1, self.router),
            spools=[cast(Any, self.spool)],
            deliver=lambda accepted, content: self.accepted.append((accepted, content)),
            log=self.log,  # type: ignore[arg-type]
            refusals=self.refusals,
            now=self.now,
            owner=OWNER,
            counts=ConnectionCounts(),
        )
        self.factories = {
            section.name: ESMTPFactory(
                self.portal,
                make_listener(section, configuration, authenticator=authenticator, tls=tls),
                self.reception,
                self.deadlines,
                self.clock,
            )
            for section in configuration.listener
        }

    def now(self) -> float:
        """Wall time."""
        return EPOCH + self.clock.seconds()

    def connect(self, listener: str = "mx", client: str = "192.0.2.1", port: int = 40000) -> Connection:
        peer = IPv6Address("TCP", client, port) if ":" in client else IPv4Address("TCP", client, port)
        connection = Connection(self, self.factories[listener], peer)
        self.connections.append(connection)
        return connection

    def settle(self) -> None:
        """Until nothing moves: packets, and what is due now."""
        busy = True
        while busy:
            busy = False
            for connection in self.connections:
                busy = connection.deal() or busy
            if any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                self.clock.advance(0)
                busy = True

    def wait(self, seconds: float) -> None:
        """Let time pass, a second at most at once."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(1.0, end - self.clock.seconds()))
            self.settle()

    def shut_down(self) -> None:
        self.reception.closing = True
        for factory in self.factories.values():
            factory.close_sessions()
        self.settle()

    def mailbox(self, address: str) -> list[bytes]:
        """The messages accepted for an address, oldest first."""
        found = []
        for accepted, content in self.accepted:
            copies = sum(1 for each in accepted.recipients if each.address == _address(address))
            found += [self.whole(content)] * copies
        return found

    def whole(self, content: Content) -> bytes:
        body = content.body
        octets = body if isinstance(body, bytes) else bytes(self.spool.bodies[body.path].octets)
        return content.header + b"\r\n" + octets

    def end(self) -> None:
        """Hang up everywhere; no call is left behind."""
        for connection in self.connections:
            connection.hang_up()
        self.deadlines.stop()


def _address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain)
