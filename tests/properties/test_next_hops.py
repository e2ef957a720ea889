"""The relaying agent against hosts that do anything: every job ends in time, once, with an outcome for each of its recipients."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mta.delivery.agent import Attempt
from mta.delivery.options import SmtpOptions
from mta.delivery.smtp import SmtpAgent
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.testing.fake_resolver import FakeResolver
from mta.testing.letters import job

EXAMPLES = 2000 if os.environ.get("MTA_LONG") else 150
LONGEST_SECONDS = 5 * 1300  # of an attempt: two sessions of several stalls, for each of those who wait in line
JOBS = 6

EHLO = b"250-mx\r\n250-PIPELINING\r\n250-SIZE 100000\r\n250 DSN\r\n"
SAID = [
    "honest", "honest", "honest", "honest", "honest", b"250 ok\r\n", b"550 5.1.1 no\r\n", b"450 4.2.0 later\r\n", b"452 4.5.3 many\r\n",
    b"354 go\r\n", b"421 4.3.2 bye\r\n", b"rubbish\r\n", b"25", b"250 ok\r\n250 ok\r\n", b"554 no\r\n", "close", "silence",
]  # fmt: skip


class Host:
    """One connection to a host that says what was drawn; a transport for our side."""

    disconnecting = False

    def __init__(self, world: World, protocol: Any) -> None:
        self.world, self.protocol = world, protocol
        self.heard = b""
        self.alive = True
        self.in_content = False
        self.mail = 0  # of which job
        self.accepted: list[bytes] = []

    def write(self, octets: bytes) -> None:
        if self.alive:
            self.heard += octets

    def loseConnection(self) -> None:
        self.end(ConnectionDone())

    def abortConnection(self) -> None:
        self.end(ConnectionLost())

    def end(self, reason: Exception) -> None:
        if self.alive:
            self.alive = False
            self.world.clock.callLater(0, self.protocol.connectionLost, Failure(reason))

    def turn(self) -> bool:
        """Answer one line, or the content."""
        if not self.alive:
            return False
        if self.in_content:
            _, dot, rest = self.heard.partition(b"\r\n.\r\n")
            if not dot:
                return False
            self.heard, self.in_content = rest, False
            if self.say(b"250 2.0.0 taken\r\n") == b"2":
                self.world.taken.update((self.mail, each) for each in self.accepted)
            else:
                self.world.doubtful.update((self.mail, each) for each in self.accepted)
            return True
        line, end, rest = self.heard.partition(b"\r\n")
        if not end:
            return False
        self.heard = rest
        verb = line[:4]
        if verb == b"MAIL":
            self.mail, self.accepted = int(line.split(b"@")[0][len(b"MAIL FROM:<s") :]), []
        code = self.say(
            {b"EHLO": EHLO, b"DATA": b"354 go\r\n" if self.accepted else b"554 nobody\r\n"}.get(verb, b"250 ok\r\n")
        )
        if verb == b"RCPT" and code == b"2":
            self.accepted.append(line)
        elif verb == b"DATA" and code == b"3":
            self.in_content = True
        return True

    def say(self, honest: bytes) -> bytes:
        said = self.world.next()
        if said == "close":
            self.end(ConnectionDone())
        elif said != "silence":
            octets = honest if said == "honest" else said
            self.world.clock.callLater(0, self._give, octets)
            return octets[:1]
        return b""

    def _give(self, octets: bytes) -> None:
        if self.alive:
            self.protocol.dataReceived(octets)


class World:
    """The reactor of the agent, and the hosts that it meets."""

    def __init__(self, said: list[str | bytes], refusals: list[bool]) -> None:
        self.clock = self
        self._said, self._refusals = said, refusals
        self._drawn = self._connected = 0
        self.hosts: list[Host] = []
        self.taken: Counter[tuple[int, bytes]] = Counter()
        self.doubtful: Counter[tuple[int, bytes]] = Counter()
        self._clock = Clock()
        self.callLater, self.seconds, self.advance = self._clock.callLater, self._clock.seconds, self._clock.advance

    def next(self) -> Any:
        self._drawn += 1
        return self._said[self._drawn - 1] if self._drawn <= len(self._said) else "honest"

    def connectTCP(self, _host: str, _port: int, factory: Any, timeout: float = 30) -> Any:
        refused = self._refusals[self._connected] if self._connected < len(self._refusals) else False
        self._connected += 1
        protocol = factory.buildProtocol(None)
        if refused:
            self.callLater(0, factory.clientConnectionFailed, self, Failure(ConnectError()))
        else:
            self.callLater(0, self._connect, protocol)
        return self

    def _connect(self, protocol: Any) -> None:
        host = Host(self, protocol)
        self.hosts.append(host)
        protocol.makeConnection(host)
        host.say(b"220 mx\r\n")

    def stopConnecting(self) -> None:
        """Nothing stops on the way in here."""


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    said=st.lists(st.sampled_from(SAID), max_size=60),
    refusals=st.lists(st.booleans(), max_size=6),
    concurrency=st.integers(1, 3),
    hosts=st.integers(1, 3),
)
def test_every_job_ends_once_and_nobody_is_said_to_have_what_he_has_not(
    said: list[str | bytes], refusals: list[bool], concurrency: int, hosts: int
) -> None:
    world = World(said, refusals)
    options = SmtpOptions("me.example.org", concurrency)
    agent = SmtpAgent(
        world,
        resolver=FakeResolver(
            {"example.org": [(n, f"mx{n}.example.org") for n in range(hosts)]},
            {f"mx{n}.example.org": [f"192.0.2.{n}"] for n in range(hosts)},
        ),
        random=random.Random(1),
        now=lambda: 1.7e9 + world.seconds(),
        options=lambda: options,
        body_path=lambda *_: None,  # type: ignore[arg-type,return-value]
        in_thread=maybeDeferred,
    )
    ends: dict[int, list[Attempt]] = {}
    for number in range(1, JOBS + 1):
        letter = job(
            "mx:example.org", f"a{number}@example.org", f"b{number}@example.org", sender=f"s{number}@example.net"
        )
        agent.deliver(letter).addCallback(ends.setdefault(number, []).append)

    def settled() -> bool:
        while True:
            world.advance(0)
            if not any(host.turn() for host in world.hosts):
                break
        return all(ends.values())

    for _ in range(LONGEST_SECONDS):
        if settled():
            break
        world.advance(1)
    for number, attempts in ends.items():
        (attempt,) = attempts  # it came, and once
        assert set(attempt.outcomes) == {1, 2}
        for index, outcome in attempt.outcomes.items():
            assert isinstance(outcome, Relayed | Deferred | Failed)
            place = (number, f"RCPT TO:<{'ab'[index - 1]}{number}@example.org>".encode())
            if isinstance(outcome, Relayed):
                assert world.taken[place] == 1  # by one host, once
            else:
                certain = not getattr(outcome, "uncertain", False)
                assert not (world.taken[place] and certain), (outcome, attempt)
    stopped = agent.stop()
    for _ in range(30):
        settled()
        world.advance(1)
    assert stopped.called  # every connection was let go of
