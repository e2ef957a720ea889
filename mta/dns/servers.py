"""Which name servers are asked, in what order, and how patiently: resolv.conf or the configuration, and what they did lately.

A server that did not answer is asked last for a while, so that a dead first one costs one time-out and not one for each question. One
that does not know EDNS0 is asked without it (RFC 6891 section 6.2.2). The AD bit is believed of loopback and of listed servers alone
(RFC 6840 section 5.7: anybody on the way could have set it); `trust-ad` of resolv.conf is not enough.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mta.config.model import Configuration
from mta.config.name_server import DNS_PORT, parse_name_server
from mta.dns.watched_file import WatchedFile

RESOLV_CONF = "/etc/resolv.conf"
SERVERS_LIMIT = 8
TIMEOUT_SECONDS, TIMEOUT_LIMIT_SECONDS = 5.0, 30.0  # resolv.conf(5)
ATTEMPTS, ATTEMPTS_LIMIT = 2, 5  # resolv.conf(5)
LAST_FOR_SECONDS = 30.0  # how long a silent server is asked last
PLAIN_FOR_SECONDS = 3600.0  # how long a server that knows no EDNS0 is asked without


@dataclass(frozen=True, slots=True)
class DnsOptions:
    """What the resolver takes from the configuration. No `servers`: those of resolv.conf. None: resolv.conf's, or its default."""

    servers: tuple[tuple[str, int], ...] = ()
    trusted: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    timeout_seconds: float | None = None
    attempts: int | None = None
    resolv_conf: str = RESOLV_CONF

    @classmethod
    def of(cls, configuration: Configuration) -> DnsOptions:
        table = configuration.dns
        servers = tuple(parse_name_server(text) for text in table.servers)
        return cls(servers, tuple(table.trusted), table.timeout, table.attempts)

    def trusts(self, address: str) -> bool:
        found = ipaddress.ip_address(address.partition("%")[0])
        return found.is_loopback or any(found in each for each in self.trusted if each.version == found.version)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What is used of resolv.conf(5)."""

    servers: tuple[str, ...] = ()
    timeout_seconds: float = TIMEOUT_SECONDS
    attempts: int = ATTEMPTS
    rotate: bool = False


def parse_resolv_conf(text: str) -> ResolvConf:
    """The last word on an option holds; what is not understood is passed over, as the C library does."""
    servers: list[str] = []
    timeout, attempts, rotate = TIMEOUT_SECONDS, ATTEMPTS, False
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest:
            with suppress(ValueError):
                servers.append(parse_name_server(rest[0])[0])
        elif word == "options":
            for option in rest:
                name, _, value = option.partition(":")
                number = int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0
                if name == "timeout" and number:
                    timeout = min(float(number), TIMEOUT_LIMIT_SECONDS)
                elif name == "attempts" and number:
                    attempts = min(number, ATTEMPTS_LIMIT)
                elif name == "rotate":
                    rotate = True
    return ResolvConf(tuple(dict.fromkeys(servers))[:SERVERS_LIMIT], timeout, attempts, rotate)


class Server:
    """A name server, and what it did lately (times of the monotonic clock)."""

    __slots__ = ("address", "plain_until", "port", "silent_until", "trusted")

    def __init__(self, address: str, port: int, *, trusted: bool) -> None:
        self.address, self.port, self.trusted = address, port, trusted
        self.silent_until = self.plain_until = float("-inf")

    def __str__(self) -> str:
        if self.port == DNS_PORT:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """For one question: the servers in their order, and how long each is waited for in each round."""

    servers: tuple[Server, ...]
    timeout_seconds: float
    attempts: int

    def patience(self, attempt: int) -> float:
        """Seconds. As the C library: twice as long each round, but from the second one shared by the servers."""
        return self.timeout_seconds if attempt == 0 else self.timeout_seconds * 2**attempt / len(self.servers)


class Servers:
    """The servers there are now. `seconds`: a monotonic clock."""

    def __init__(self, options: DnsOptions, seconds: Callable[[], float]) -> None:
        self._options = options
        self._seconds = seconds
        self._file = WatchedFile(options.resolv_conf, parse_resolv_conf, seconds)
        self._known: dict[tuple[str, int], Server] = {}
        self._heard = ResolvConf()  # the last resolv.conf that names a server
        self._turn = 0

    def plan(self) -> Plan:
        options, conf = self._options, self._resolv_conf()
        # resolv.conf(5): without a name server, the one on this machine
        wanted = options.servers or tuple((each, DNS_PORT) for each in conf.servers or ("127.0.0.1",))
        servers = self._servers(wanted)
        if conf.rotate and not options.servers:
            self._turn = (self._turn + 1) % len(servers)
            servers = servers[self._turn :] + servers[: self._turn]
        now = self._seconds()
        servers.sort(key=lambda each: each.silent_until > now)
        return Plan(
            tuple(servers),
            options.timeout_seconds or conf.timeout_seconds,
            options.attempts or conf.attempts,
        )

    def _resolv_conf(self) -> ResolvConf:
        """A file that is empty for the moment in which it is written names no server: the old one holds."""
        conf = self._file.content
        if conf.servers or not self._heard.servers:
            self._heard = conf
        return self._heard

    def _servers(self, wanted: Sequence[tuple[str, int]]) -> list[Server]:
        if tuple(self._known) != tuple(wanted):
            trusts = self._options.trusts
            old = self._known
            self._known = {each: old.get(each) or Server(each[0], each[1], trusted=trusts(each[0])) for each in wanted}
        return list(self._known.values())

    def silent(self, server: Server) -> None:
        server.silent_until = self._seconds() + LAST_FOR_SECONDS

    def answered(self, server: Server) -> None:
        server.silent_until = float("-inf")

    def plain(self, server: Server) -> None:
        server.plain_until = self._seconds() + PLAIN_FOR_SECONDS

    def knows_edns(self, server: Server) -> bool:
        return server.plain_until <= self._seconds()
