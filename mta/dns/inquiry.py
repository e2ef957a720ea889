"""One question to the name servers, in turn and again, until one of them gives an answer that means something.

What a server says, and what follows:
- NOERROR, NXDOMAIN: that is it.
- truncated: the same server by TCP (RFC 7766 section 5).
- FORMERR, NOTIMP, BADVERS to EDNS0: the same server without it (RFC 6891 section 6.2.2).
- SERVFAIL, REFUSED, lame, unreadable: the next server, and this one not again (RFC 9520 section 3.1).
- nothing: the next server; it is asked again in the next round, which is more patient.
When none gave an answer: an answer that they can't (SERVFAIL) says more than silence (TIMEOUT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mta.dns.channel import Network
from mta.dns.exchange import Exchange, Opens, Silence
from mta.dns.resolver import Temporary, Trouble
from mta.dns.servers import Server, Servers
from mta.dns.wire import BADVERS, FORMERR, NOERROR, NOTIMP, NXDOMAIN, Question, Response

TOTAL_SECONDS = 30.0  # for one question, with all its servers and rounds


class Draws(Protocol):
    """What random.Random offers and this package needs."""

    def randrange(self, stop: int, /) -> int: ...


class Inquiry:
    """`ask` gives a response with NOERROR or NXDOMAIN and its server, or Temporary."""

    def __init__(self, clock: Any, servers: Servers, network: Network, random: Draws) -> None:
        self._clock = clock
        self._servers = servers
        self._network = network
        self._random = random
        self._seconds: Callable[[], float] = clock.seconds

    async def ask(self, question: Question, until: float) -> tuple[Response, Server] | Temporary:
        """`until`: when it is given up, by the clock."""
        plan = self._servers.plan()
        left = list(plan.servers)
        failed: Temporary | None = None
        silent: dict[Server, str] = {}
        for attempt in range(plan.attempts):
            for server in tuple(left):
                if until <= self._seconds():
                    break
                said = await self._converse(server, question, plan.patience(attempt), until)
                if isinstance(said, Silence):
                    silent[server] = said.why
                    if not said.heard:
                        self._servers.silent(server)
                        continue
                    failed = failed or Temporary(f"{said.why} from {server}", Trouble.MALFORMED)
                else:
                    self._servers.answered(server)
                    if said.rcode in {NOERROR, NXDOMAIN} and not said.is_lame:
                        return said, server
                    failed = failed or Temporary(f"{said.words} from {server}", Trouble.SERVFAIL, said.rcode)
                left.remove(server)
        if failed is not None:
            return failed
        words = ", ".join(f"{why} from {server}" for server, why in silent.items())
        return Temporary(words or "no time was left to ask: many questions wait", Trouble.TIMEOUT)

    async def _converse(self, server: Server, question: Question, patience: float, until: float) -> Response | Silence:
        """With one server, over UDP and where need be TCP; with EDNS0 unless it does not know it. Each try has `patience` seconds."""
        edns = self._servers.knows_edns(server)
        said = await self._exchange(self._network.udp, server, question, patience, until, edns=edns)
        if edns and isinstance(said, Response) and said.rcode in {FORMERR, NOTIMP, BADVERS}:
            edns = False
            said = await self._exchange(self._network.udp, server, question, patience, until, edns=edns)
            if isinstance(said, Response) and said.rcode not in {FORMERR, NOTIMP, BADVERS}:
                self._servers.plain(server)
        if said.truncated if isinstance(said, Response) else said.forged:
            said = await self._exchange(self._network.tcp, server, question, patience, until, edns=edns)
            if isinstance(said, Response) and said.truncated:
                return Silence("an answer cut off over TCP", heard=True)
        return said

    async def _exchange(
        self, opens: Opens, server: Server, question: Question, patience: float, until: float, *, edns: bool
    ) -> Response | Silence:
        patience = min(patience, max(until - self._seconds(), 0.0))
        number = self._random.randrange(1 << 16)
        exchange = Exchange(self._clock, opens, server, question, number, edns=edns, patience_seconds=patience)
        return await exchange.result
