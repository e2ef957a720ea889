"""A stub resolver on a network of memory, with a clock that tests move."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mta.dns.servers import DnsOptions
from mta.dns.stub import StubResolver
from mta.testing.scripted_name_servers import LATENCY_SECONDS, Asked, FakeNetwork, Rule, respond

SERVERS = ("192.0.2.53", "192.0.2.54")


class World:
    """`say(rule)` makes both name servers follow a rule."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.network = FakeNetwork(self.clock)
        self.hosts_file = folder / "hosts"
        self.hosts_file.write_text(
            "127.0.0.1 localhost\n::1 localhost ip6 # comment\n192.0.2.7 One.example one\nbad line\n"
        )
        self.options = DnsOptions(tuple((each, 53) for each in SERVERS))
        self.resolver = self.make(self.options)

    def make(self, options: DnsOptions) -> StubResolver:
        made = StubResolver(
            self.clock, options, hosts_file=str(self.hosts_file), random=random.Random(1), network=self.network
        )
        self.resolver = made
        return made

    def say(self, rule: Rule) -> None:
        for each in SERVERS:
            self.network.servers[each] = rule

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.5)):
            self.clock.advance(0.5)

    def settle(self) -> None:
        """As long as answers come in without waiting."""
        for _ in range(60):
            self.clock.advance(LATENCY_SECONDS)

    def ask(self, soon: Any, seconds: float = 0.0) -> Any:
        """The answer, which must come at once, or after `seconds`."""
        if not isinstance(soon, Deferred):
            return soon
        found: list[Any] = []
        soon.addBoth(found.append)
        self.settle()
        self.pass_time(seconds)
        assert found, "no answer yet"
        return found[0]

    def questions(self) -> list[tuple[str, bytes, int]]:
        return [(each.over, each.name, each.kind) for each in self.network.asked]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.resolver.close()
    world.settle()
    assert (world.network.open, world.clock.getDelayedCalls()) == (0, []), "something was left open"


@pytest.fixture
def always() -> Callable[..., Rule]:
    """A rule: the same response to everything."""

    def make(*records: Any, **how: Any) -> Rule:
        def rule(asked: Asked) -> bytes:
            return respond(asked, *records, **how)

        return rule

    return make
