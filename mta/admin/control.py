"""The control socket: one JSON request a line, one JSON answer a line, in their order.

    {"verb": "queue.show", "arguments": {"id": "..."}}
    {"ok": true, "result": {...}}
    {"ok": false, "error": "no message ... is in the queue", "code": 1}

`code` is the exit code that the command ends with. Peers are known by SO_PEERCRED: root, the daemon's own uid and the configured
admins may use every verb; whoever else could open the socket gets a refusal (77) to each. A connection's requests are done one
after the other; further ones wait in a bounded buffer, by a flat loop. A request that fails inside is answered with 70 and
logged; it ends nothing else.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.admin.credentials import administrators, peer_uid, user_name
from mta.admin.errors import DATA, NOT_ALLOWED, SOFTWARE, TEMPORARY, USAGE, VerbError
from mta.admin.house import Caller, House
from mta.admin.operations import VERBS

LINE_LIMIT_OCTETS = 4 << 20
IDLE_TIMEOUT_SECONDS = 600
CONNECTIONS_MAX = 32
SOCKET_MODE = 0o660
_log = Logger()
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


@implementer(IHalfCloseableProtocol)
class ControlProtocol(Protocol, TimeoutMixin):
    """One administrator's connection."""

    def __init__(self, factory: ControlFactory) -> None:
        self._factory = factory
        self._buffer = bytearray()
        self._searched = 0
        self._busy = False
        self._lost = False
        self._ended = False  # the peer will say nothing more, and waits for its answers
        self._caller = Caller(-1, "nobody")

    def connectionMade(self) -> None:
        factory = self._factory
        factory.connections += 1
        self.setTimeout(IDLE_TIMEOUT_SECONDS)  # type: ignore[no-untyped-call]
        assert self.transport is not None
        try:
            uid = factory.credentials(self.transport)
        except OSError as error:
            self._refuse(f"the peer's credentials can't be read: {error}", NOT_ALLOWED)
            return
        self._caller = Caller(uid, user_name(uid))
        if factory.connections > CONNECTIONS_MAX:
            self._refuse("too many administrators at once; try again", TEMPORARY)
        elif uid not in factory.admins():
            factory.house.log.event("control-refused", uid=uid, user=self._caller.name)
            text = f"user {self._caller.name} may not administer this mail server; see [control] admins in its configuration"
            self._refuse(text, NOT_ALLOWED)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._factory.connections -= 1
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        if not self._busy:
            self._caller.drop_upload()

    def readConnectionLost(self) -> None:
        self._ended = True
        self._work()

    def writeConnectionLost(self) -> None:
        """Not of interest: connectionLost follows."""

    def timeoutConnection(self) -> None:
        if self._busy:
            self.setTimeout(IDLE_TIMEOUT_SECONDS)  # type: ignore[no-untyped-call]
        else:
            assert self.transport is not None
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._lost:
            return
        self.resetTimeout()  # type: ignore[no-untyped-call]
        self._buffer += data
        if len(self._buffer) > LINE_LIMIT_OCTETS:
            self._refuse(f"a request longer than {LINE_LIMIT_OCTETS} octets", DATA)
        else:
            self._work()

    def _work(self) -> None:
        """The pump: a flat loop; a request that is not done at once leaves it and comes back."""
        while not self._busy and not self._lost:
            end = self._buffer.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._buffer)
                if self._ended:
                    self._close()
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if line.strip():
                self._request(line)

    def _request(self, line: bytes) -> None:
        self._busy = True
        done = maybeDeferred(self._perform, line)
        done.addCallbacks(lambda result: {"ok": True, "result": result}, self._failed)
        done.addCallback(self._answer)

    def _perform(self, line: bytes) -> Deferred[dict[str, Any]]:
        try:
            request = json.loads(line)
            name, arguments = request["verb"], request.get("arguments", {})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise VerbError("the request is no JSON object with a verb", USAGE) from error
        verb = VERBS.get(name) if isinstance(name, str) else None
        if verb is None or not isinstance(arguments, dict):
            raise VerbError(f"no such verb: {name!r}", USAGE)
        return Deferred.fromCoroutine(verb.operation(self._factory.house, self._caller, arguments))

    def _failed(self, failure: Failure) -> dict[str, Any]:
        error = failure.value
        if isinstance(error, VerbError):
            return {"ok": False, "error": str(error), "code": error.code, **error.details}
        _log.failure("a verb of the control socket failed", failure=failure)
        return {"ok": False, "error": f"internal error: {type(error).__name__}: {error}", "code": SOFTWARE}

    def _answer(self, answer: dict[str, Any]) -> None:
        self._busy = False
        if self._lost:
            self._caller.drop_upload()
            return
        assert self.transport is not None
        self.transport.write(_encode(answer).encode("ascii") + b"\n")
        self.resetTimeout()  # type: ignore[no-untyped-call]
        # A later turn, so that answers at once don't nest.
        self._factory.call_soon(self._work)

    def _refuse(self, text: str, code: int) -> None:
        assert self.transport is not None
        self.transport.write(_encode({"ok": False, "error": text, "code": code}).encode("ascii") + b"\n")
        self._close()

    def _close(self) -> None:
        """What was written goes out; nothing more is taken."""
        assert self.transport is not None
        self.transport.loseConnection()
        self._lost = True


def _socket_uid(transport: Any) -> int:
    return peer_uid(transport.getHandle())


class ControlFactory(Factory):
    """`credentials(transport) -> uid` is the kernel's word; a test gives another. `call_soon` runs something in a later turn."""

    noisy = False

    def __init__(
        self,
        house: House,
        call_soon: Callable[[Callable[[], None]], object],
        credentials: Callable[[Any], int] = _socket_uid,
    ) -> None:
        self.house = house
        self.call_soon = call_soon
        self.credentials = credentials
        self.connections = 0
        self._admins: tuple[int, frozenset[int]] = (-1, frozenset())

    def admins(self) -> frozenset[int]:
        """Looked up once for each generation of the settings: names cost a look into the password file."""
        settings = self.house.settings()
        if self._admins[0] != settings.generation:
            self._admins = (settings.generation, administrators(settings.configuration.control.admins))
        return self._admins[1]

    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol:
        return ControlProtocol(self)


class SocketTaken(OSError):
    """Another process answers on the socket's path."""


def listen(reactor: Any, path: Path, factory: ControlFactory) -> IListeningPort:
    """Listen on the UNIX socket. A socket that a dead daemon left is replaced. Raises SocketTaken, OSError, CannotListenError."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink(missing_ok=True)
            else:
                raise SocketTaken(f"another daemon answers on {path}")
    # The mode is right from the first moment: nobody connects between bind and chmod.
    mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        port: IListeningPort = reactor.listenUNIX(str(path), factory, mode=SOCKET_MODE)
    finally:
        os.umask(mask)
    return port
