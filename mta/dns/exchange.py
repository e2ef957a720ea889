"""One question to one server over one channel: a response that fits it, or why none came.

What does not fit (another id, another question, no message at all) is not from the server, or not for us: it is passed over and the
wait goes on (RFC 5452 section 4). Many such are somebody who guesses: then UDP is given up for TCP, where guessing does not help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mta.dns.channel import Broken, Channel, Received
from mta.dns.servers import Server
from mta.dns.wire import Question, Response, query_octets, read_response

STRAYS_LIMIT = 20  # of 65,536 ids and 28,000 ports; an honest server sends none


@dataclass(frozen=True, slots=True)
class Silence:
    """No response; `why` for the journal. `forged`: somebody sends wrong ones. `heard`: the server did, but what can't be read."""

    why: str
    forged: bool = False
    heard: bool = False


class Opens(Protocol):
    def __call__(self, address: str, port: int, received: Received, broken: Broken, /) -> Channel: ...


class Exchange:
    """`result` never takes longer than `patience_seconds`, and fails only when it is cancelled: then nobody else is to be asked."""

    def __init__(
        self,
        clock: IReactorTime,
        opens: Opens,
        server: Server,
        question: Question,
        number: int,
        *,
        edns: bool,
        patience_seconds: float,
    ) -> None:
        self.result: Deferred[Response | Silence] = Deferred(lambda _: self._close())
        self._question, self._number = question, number
        self._strays = 0
        self._ended = False
        self._timer = clock.callLater(patience_seconds, self._late)
        self._channel = opens(server.address, server.port, self._received, self._broken)
        self._channel.send(query_octets(question, number, edns=edns, dnssec=server.trusted))

    def _received(self, octets: bytes) -> None:
        response = read_response(octets)
        if response is not None and response.answers_to(self._question, self._number):
            self._end(response)
        elif response is None and octets[:2] == self._number.to_bytes(2, "big") and octets[2:3] >= b"\x80":
            self._end(Silence("an answer that can't be read", heard=True))
        else:
            self._strays += 1
            if self._strays >= STRAYS_LIMIT:
                self._end(Silence("wrong answers, as of somebody who guesses", forged=True))

    def _broken(self, why: str) -> None:
        self._end(Silence(why))

    def _late(self) -> None:
        self._end(Silence("no answer"))

    def _end(self, said: Response | Silence) -> None:
        if not self._ended:
            self._close()
            self.result.callback(said)

    def _close(self) -> None:
        self._ended = True
        if self._timer.active():
            self._timer.cancel()
        self._channel.close()
