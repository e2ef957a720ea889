"""The relaying agent between a clock that a test turns and peers on real sockets: reuse, fall-back, TLS, hostility, hours of silence.

    hops = NextHops()
    remote = hops.remote({"MAIL": "451 later"})
    attempt = await hops.agent().deliver(hops.to(remote))
    await hops.end()

Names and addresses are of the FakeResolver's world; `ports` says which loopback port stands behind which address.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import defer, reactor, task
from twisted.internet.endpoints import TCP4ClientEndpoint

from mta.delivery.agent import Attempt, Job
from mta.delivery.logins import NO_LOGINS, Logins
from mta.delivery.mx import Ourselves
from mta.delivery.options import SmtpOptions
from mta.delivery.smtp import SmtpAgent
from mta.mail.outcome import Outcome
from mta.testing.fake_resolver import FakeResolver
from mta.testing.letters import job
from mta.testing.remote_host import RemoteHost

REACTOR: Any = reactor
NAME = "smart.test"  # for hosts that are met by name: their certificates are made for it


class NextHops:
    """`clock` keeps the agents' deadlines; sockets live in real time."""

    def __init__(self) -> None:
        self.clock = task.Clock()
        self.clock.advance(1000)
        self.resolver = FakeResolver()
        self.remotes: list[RemoteHost] = []
        self.agents: list[SmtpAgent] = []
        self.ports: dict[str, int] = {}
        self.bodies = Path()
        self.concurrency = 20
        self.logins: Logins = NO_LOGINS

    def remote(self, script: Any = None, **fields: Any) -> RemoteHost:
        remote = RemoteHost(REACTOR, script or {}, **fields)
        remote.start()
        self.remotes.append(remote)
        return remote

    def agent(self, tls: Any = None, port: int = 25, ports: Mapping[str, int] | None = None) -> SmtpAgent:
        behind = self.ports | dict(ports or {})

        def connect(address: str, wanted: int) -> TCP4ClientEndpoint:
            return TCP4ClientEndpoint(REACTOR, "127.0.0.1", behind.get(address, wanted), timeout=5)

        options = SmtpOptions("me.example.org", self.concurrency, port, Ourselves("me.example.org"), logins=self.logins)
        agent = SmtpAgent(
            self.clock,
            resolver=self.resolver,
            random=random.Random(1),
            now=lambda: 1_700_000_000.0 + self.clock.seconds(),
            options=lambda: options,
            body_path=lambda _message, body: self.bodies / body.path,
            tls=tls,
            in_thread=defer.maybeDeferred,
            connect=connect,
        )
        self.agents.append(agent)
        return agent

    def to(self, remote: RemoteHost, *addresses: str, tls: str = "", **fields: Any) -> Job:
        """By address. `tls`: the level of the route."""
        return job(key(f"smtp:[127.0.0.1]:{remote.port}", tls), *(addresses or ("a@example.org",)), **fields)

    def by_name(self, remote: RemoteHost, *addresses: str, tls: str = "", scheme: str = "smtp", **fields: Any) -> Job:
        """As the smart host NAME."""
        self.resolver.hosts_table[NAME] = ["127.0.0.1"]
        return job(key(f"{scheme}:[{NAME}]:{remote.port}", tls), *(addresses or ("a@example.org",)), **fields)

    def exchangers(self, domain: str, *remotes: RemoteHost | int) -> None:
        """`domain` has these as its MX, best first, mx1 to mx9 of it; a number is a port where somebody may listen."""
        self.resolver.mx_table[domain] = [(10 * n, f"mx{n}.{domain}") for n in range(1, len(remotes) + 1)]
        for n, remote in enumerate(remotes, 1):
            self.resolver.hosts_table[f"mx{n}.{domain}"] = [f"192.0.2.{n}"]
            self.ports[f"192.0.2.{n}"] = remote if isinstance(remote, int) else remote.port

    async def end(self) -> None:
        for agent in self.agents:
            stopped = agent.stop()
            while not stopped.called:
                self.clock.advance(1)
                await pause()
        for remote in self.remotes:
            await remote.stop()


def key(place: str, tls: str) -> str:
    return f"{place};tls={tls}" if tls else place


def only(attempt: Attempt) -> Any:
    """The outcome of its one recipient."""
    (outcome,) = attempt.outcomes.values()
    return outcome


def kinds(attempt: Attempt) -> set[type[Outcome]]:
    return {type(outcome) for outcome in attempt.outcomes.values()}


def pause(seconds: float = 0.005) -> defer.Deferred[None]:
    """Let the reactor turn: real sockets need a moment that is not a fixed one; callers loop on a condition."""
    return task.deferLater(REACTOR, seconds, lambda: None)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await pause()
    raise TimeoutError("it did not come")
