"""A network in memory: machines with addresses, links between them, one clock, and chance from one seed.

    network = Network(seed=1)
    here, there = network.machine("hub.test"), network.machine("mx.example.net")
    network.link("hub.test", "mx.example.net", latency=0.2, octets_per_second=2000)
    there.boot().listenTCP(25, factory)
    here.boot().connectTCP(there.address, 25, factory)
    network.clock.run(3600)

A link is one way; `link` sets both unless it is told otherwise, and new settings hold for connections that are open too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mta.testing.fake_clock import FakeClock
from mta.testing.fake_reactor import FakeReactor

PACKET_OCTETS = 1460
PIECE_OCTETS = 65536  # what a transport hands over at once, at most


@dataclass(slots=True)
class Link:
    """One direction between two machines.

    `jitter`: up to so many seconds more, by chance. `slicing`: octets come in pieces of any size. `silent_after` and `lost_after`: after so
    many octets of a connection nothing more comes, without a word or with a reset. `dead`: nothing comes at all.
    `loss`: the share of datagrams that is lost.
    """

    latency: float = 0.02
    jitter: float = 0.0
    octets_per_second: float = 12_500_000.0
    slicing: bool = False
    silent_after: int | None = None
    lost_after: int | None = None
    dead: bool = False
    loss: float = 0.0

    def cut(self, octets: bytes, chance: random.Random) -> Iterator[bytes]:
        at = 0
        while at < len(octets):
            size = chance.randint(1, PACKET_OCTETS) if self.slicing else PIECE_OCTETS
            yield octets[at : at + size]
            at += size

    def wait(self, chance: random.Random) -> float:
        return self.latency + (self.jitter * chance.random() if self.jitter else 0.0)

    def octets_left(self, sent: int) -> int | None:
        """How many more octets of a connection come through; None: all."""
        bounds = [each - sent for each in (self.silent_after, self.lost_after) if each is not None]
        return max(0, min(bounds)) if bounds else None


class Machine:
    """A host: what stays when its processes come and go. `up`: False while it is off, and answers to nothing."""

    def __init__(self, network: Network, name: str, address: str) -> None:
        self.network, self.name, self.address = network, name, address
        self.up = True
        self.listening: dict[int, Any] = {}
        self.datagrams: dict[int, Any] = {}
        self.processes: list[FakeReactor] = []

    def boot(self) -> FakeReactor:
        """A new process: the reactor that it sees."""
        process = FakeReactor(self)
        self.processes.append(process)
        return process

    def end(self, process: FakeReactor, *, told: bool) -> None:
        self.processes.remove(process)
        for ports in (self.listening, self.datagrams):
            for number in [number for number, port in ports.items() if port.reactor is process]:
                del ports[number]
        process.end(told=told)


class Network:
    def __init__(self, seed: int = 0, clock: FakeClock | None = None, **defaults: Any) -> None:
        """`defaults`: of all links."""
        self.clock = clock or FakeClock()
        self.random = random.Random(seed)
        self.machines: dict[str, Machine] = {}  # by address
        self._names: dict[str, Machine] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._defaults = Link(**defaults)
        self._last_address = 0

    def machine(self, name: str, address: str = "") -> Machine:
        """Made when it is asked for first."""
        if name not in self._names:
            machine = Machine(self, name, address or self._next_address())
            if machine.address in self.machines:
                raise ValueError(f"{machine.address} is {self.machines[machine.address].name}'s")
            self._names[name] = self.machines[machine.address] = machine
        return self._names[name]

    def _next_address(self) -> str:
        """Of 198.18.0.0/15, which is there for such tests (RFC 2544)."""
        self._last_address += 1
        return f"198.18.{self._last_address >> 8}.{self._last_address & 255}"

    def between(self, sender: str, receiver: str) -> Link:
        """By address."""
        return self._links.setdefault((sender, receiver), replace(self._defaults))

    def link(self, one: str, other: str, *, both_ways: bool = True, **settings: Any) -> None:
        """Change what holds between two machines, by name."""
        ends = (self._names[one].address, self._names[other].address)
        for pair in (ends, ends[::-1])[: 2 if both_ways else 1]:
            link = self.between(*pair)
            for name, value in settings.items():
                if not hasattr(link, name):
                    raise TypeError(f"a link has no {name}")
                setattr(link, name, value)
