"""The resolver of the house: a stub that asks the name servers of resolv.conf or of the configuration, and remembers.

Strategies, and what goes wrong without each:
- What is remembered is answered without a Deferred: the queue asks for the same domains all day.
- One question on the wire for all who ask it at once: a burst to one domain would ask a thousand times.
- So many questions at once and no more; others wait in line, and beyond the line are told Temporary at once: with the name servers
  down, each question holds a socket for half a minute, and all of them together would take the sockets from the listeners.

What it does not do: DNSSEC validation (it believes the AD bit of servers that are trusted), recursion, search lists.
"""

from __future__ import annotations

import random as system_random
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.dns.cache import Cache, Key
from mta.dns.channel import Network, ReactorNetwork
from mta.dns.hosts_file import HostsFile
from mta.dns.inquiry import TOTAL_SECONDS, Draws, Inquiry
from mta.dns.pursuit import Pursuit
from mta.dns.resolver import (
    AddressAnswer,
    Answer,
    AnyAnswer,
    MxAnswer,
    NoData,
    NoSuchName,
    RecordType,
    Soon,
    Temporary,
    Trouble,
)
from mta.dns.servers import DnsOptions, Servers
from mta.dns.wire import Question, question_for
from mta.telemetry.metrics import counter, counters, gauge

IN_FLIGHT_LIMIT = 200  # sockets
LINE_LIMIT = 20_000  # as many rows as the scheduler holds: a list with many domains must not be told "too many"

_A, _AAAA, _MX = RecordType.A, RecordType.AAAA, RecordType.MX
_BUSY = Temporary("too many questions wait for the name servers", Trouble.LOCAL)
_CLOSED = Temporary("shutting down", Trouble.LOCAL)

_log = Logger()
_answers = counters("mta_dns_answers_total", "Questions to name servers, by what they came to", "result")
_busy = _answers.bound("busy")
_remembered = counter("mta_dns_remembered_total", "Questions answered from memory")
_in_flight = gauge("mta_dns_in_flight", "Questions on the wire or in line for it")


class StubResolver:
    """A Resolver. Makes no timer and opens nothing before it is asked. Call `close` at the end.

    `reactor`: its clock, and IReactorFDSet and IReactorTCP unless `network` is given. `random`: unpredictable in production.
    """

    def __init__(
        self,
        reactor: Any,
        options: DnsOptions | None = None,
        *,
        hosts_file: str = "/etc/hosts",
        random: Draws | None = None,
        network: Network | None = None,
    ) -> None:
        self._reactor = reactor
        self._seconds: Callable[[], float] = reactor.seconds
        self._random = random or system_random.SystemRandom()
        self._network = network or ReactorNetwork(reactor)
        self._hosts = HostsFile(hosts_file, self._seconds)
        self._cache = Cache(self._seconds)
        self._asking: dict[Key, list[Deferred[AnyAnswer]]] = {}  # who waits for what
        self._line: deque[tuple[Key, Question, float]] = deque()  # not on the wire yet; since when
        self._running: set[Deferred[Any]] = set()
        self._closed = self._going_on = False
        self._use(options or DnsOptions())

    def _use(self, options: DnsOptions) -> None:
        self._options = options
        self._servers = Servers(options, self._seconds)
        self._inquiry = Inquiry(self._reactor, self._servers, self._network, self._random)

    def configure(self, options: DnsOptions) -> None:
        """After a reload. What was learned from other servers is forgotten; questions under way end as they began."""
        if options != self._options:
            self._use(options)
            self._cache.clear()

    def close(self) -> None:
        """Whoever waits hears Temporary. No timer, no socket is left."""
        self._closed = True
        self._line.clear()
        for running in tuple(self._running):
            running.cancel()
        for key in tuple(self._asking):
            self._tell(key, _CLOSED)

    # --- Resolver -----------------------------------------------------------------------------------------------------

    def mx(self, domain: str) -> Soon[MxAnswer]:
        return self.query(domain, _MX)

    def addresses(self, host: str) -> Soon[AddressAnswer]:
        known = self._hosts.look_up(host)
        if known is not None:
            return known
        four, six = self.query(host, _A), self.query(host, _AAAA)
        if isinstance(four, Deferred) or isinstance(six, Deferred):
            return Deferred.fromCoroutine(_both(four, six))
        return join(four, six)

    def query(self, name: str, kind: RecordType) -> Soon[AnyAnswer]:
        key = (name.lower(), kind)
        known = self._cache.get(key)
        if known is None:
            return self._ask(key)
        _remembered.value += 1
        return known

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, key: Key) -> Soon[AnyAnswer]:
        if self._closed:
            return _CLOSED
        waiting = self._asking.get(key)
        if waiting is not None:
            return _one_more(waiting)
        try:
            question = question_for(*key)
        except ValueError as error:
            return Temporary(f"{key[0][:80]!a} can't be asked for: {error}", Trouble.LOCAL)
        if len(self._line) >= LINE_LIMIT:
            _busy.value += 1
            return _BUSY
        answer = _one_more(self._asking.setdefault(key, []))
        self._line.append((key, question, self._seconds()))
        self._go_on()
        return answer

    def _go_on(self) -> None:
        """Questions in line go out while there is room. Those that waited too long find that no time is left to ask."""
        if self._going_on:  # a question that ends while it begins (no sockets) must not recurse through the line
            return
        self._going_on = True
        while self._line and len(self._running) < IN_FLIGHT_LIMIT:
            key, question, since = self._line.popleft()
            self._start(key, question, since + TOTAL_SECONDS)
        self._going_on = False

    def _start(self, key: Key, question: Question, until: float) -> None:
        inquiry = self._inquiry
        running = Deferred.fromCoroutine(_pursue(inquiry, question, until))
        self._running.add(running)

        def ended(answer: AnyAnswer | Failure) -> None:
            self._running.discard(running)
            if isinstance(answer, Failure):
                if not answer.check(CancelledError):
                    _log.failure("a question to the DNS failed", answer)
                answer = _CLOSED if self._closed else Temporary("internal error", Trouble.LOCAL)
            elif inquiry is self._inquiry:  # else it is from servers that are no longer asked
                self._cache.put(key, answer)
            self._tell(key, answer)
            self._go_on()

        running.addBoth(ended)

    def _tell(self, key: Key, answer: AnyAnswer) -> None:
        _answers.bound(_result(answer)).value += 1
        for waiting in self._asking.pop(key, ()):
            waiting.callback(answer)  # of one that was cancelled Twisted makes nothing
        _in_flight.value = len(self._asking)


def _one_more(waiting: list[Deferred[AnyAnswer]]) -> Deferred[AnyAnswer]:
    waiting.append(Deferred())
    return waiting[-1]


async def _pursue(inquiry: Inquiry, question: Question, until: float) -> AnyAnswer:
    """Along its aliases to an answer."""
    pursuit = Pursuit(question)
    while True:
        heard = await inquiry.ask(pursuit.question, until)
        if isinstance(heard, Temporary):
            return heard
        response, server = heard
        answer = pursuit.take(response, trusted=server.trusted)
        if answer is not None:
            return answer


async def _both(four: Soon[AddressAnswer], six: Soon[AddressAnswer]) -> AddressAnswer:
    return join(
        await four if isinstance(four, Deferred) else four,
        await six if isinstance(six, Deferred) else six,
    )


def join(four: AddressAnswer, six: AddressAnswer) -> AddressAnswer:
    """One answer of two: addresses if any; unknown if one of both is; else what both say."""
    both = (four, six)
    found = tuple(address for answer in both if isinstance(answer, Answer) for address in answer.records)
    for answer in both:
        if not found and isinstance(answer, Temporary):
            return answer
    known = [answer for answer in both if not isinstance(answer, Temporary)]
    authentic = len(known) == 2 and all(answer.authentic for answer in known)
    if found:
        return Answer(found, authentic, min(each.ttl_seconds for each in both if isinstance(each, Answer)))
    ttl = min(answer.ttl_seconds for answer in known)
    kind = NoSuchName if all(isinstance(answer, NoSuchName) for answer in known) else NoData
    return kind(authentic, ttl)


def _result(answer: AnyAnswer) -> str:
    match answer:
        case Answer():
            return "answer"
        case NoSuchName():
            return "nxdomain"
        case NoData():
            return "nodata"
    return answer.trouble.value
