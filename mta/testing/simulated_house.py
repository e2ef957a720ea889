"""A house and its neighbours in one process, in which five days pass in the time that it takes to do what happens in them.

    house = SimulatedHouse(seed=1)
    hub = house.txmta("hub.test")
    peer = house.peer("mx.example.net", {"RCPT": Turns("451 4.3.0 later", "250 2.1.5 Ok")})
    house.dns.mx("example.net", 10, "mx.example.net")
    identifier = hub.submit("user@hub.test", ["alice@example.net"])
    house.advance(hours=1)
    assert peer.taken_for("alice@example.net")
    house.end()                     # the laws are checked: see mta.testing.laws

What is real and what is modelled, says mta.testing.simulated_node. The same seed gives the same day.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.mail.envelope import State
from mta.mail.identifiers import format_id
from mta.testing import laws
from mta.testing.fake_clock import Call
from mta.testing.memory_spool import MemorySpool
from mta.testing.modelled_peer import ModelledPeer
from mta.testing.name_server import NameServer
from mta.testing.network import Network
from mta.testing.remote_host import Answer
from mta.testing.said_tls import Certificate, NoTls
from mta.testing.simulated_node import SimulatedNode
from mta.testing.zones import Zones

COMMIT_SECONDS = 0.002
DNS_PORT = 53
DAY_SECONDS = 86400.0
OVERDUE_SECONDS = 2 * 3600.0  # longer than any destination is left alone, and than an attempt may last
LOOK_SECONDS, LOOKS = 1.0, 500


class SimulatedHouse:
    """`links`: what all links of the network are like (mta.testing.network.Link)."""

    simulated = True

    def __init__(self, seed: int = 0, **links: Any) -> None:
        self.network = Network(seed, **links)
        self.clock = self.network.clock
        self.dns = Zones()
        self.nodes: dict[str, SimulatedNode] = {}
        self.peers: dict[str, ModelledPeer] = {}
        self.faults = self.clock.faults
        self._faults = _Faults(self.faults)
        self._folder = Path(tempfile.mkdtemp(prefix="house-"))
        self._ended = False
        self._letters = 0
        servers = self.network.machine("ns.test")
        self.name_server = servers.address
        NameServer(servers.boot(), self.dns).start(DNS_PORT)
        self._clients = self.network.machine("client.test").boot()
        globalLogPublisher.addObserver(self._faults)

    # --- who is there ---------------------------------------------------------------------------------------------

    def txmta(
        self,
        name: str,
        *,
        domains: Sequence[str] = (),
        users: Mapping[str, str] | None = None,
        routes: Sequence[Mapping[str, object]] | None = None,
        spool: Any = None,
        **tables: Any,
    ) -> SimulatedNode:
        """A node that runs. Mail for `domains` (the name, if none is given) lies in its mailboxes, all else goes by MX, unless `routes`
        says otherwise; `users` log in (one, "user@" the first domain, if none is given). `tables` are those of the configuration: queue={"lifetime": "1d"}.
        """
        domains = tuple(domains) or (name,)
        machine = self.network.machine(name)
        self.dns.address(name, machine.address)
        for domain in domains:
            self.dns.mx(domain, 10, name)
        mail = self._folder / name
        local = {"domains": list(domains), "recipients": "any", "via": f"maildir:{mail}/{{domain}}/{{local}}"}
        whole: dict[str, Any] = {
            "hostname": name,
            "postmaster": f"postmaster@{domains[0]}",
            "spool": {"path": "/simulated/spool"},
            "tls": {"certificate": "/simulated/cert.pem", "private_key": "/simulated/key.pem"},
            "listener": [
                {"name": "mx", "endpoints": ["tcp:25"], "kind": "mx"},
                {"name": "submission", "endpoints": ["tcp:587"], "kind": "submission"},
            ],
            "dns": {"servers": [self.name_server]},
            "auth": {"mechanisms": ["PLAIN"], "backend": [{"kind": "users", "path": "/simulated/users.db"}]},
            "route": [local, *(routes if routes is not None else [{"domains": ["*"], "via": "mx"}])],
            **tables,
            "mail": mail,
        }
        node = SimulatedNode(self, machine, whole, users or {f"user@{domains[0]}": "password"}, spool or self.disk())
        self.nodes[name] = node
        return node

    def disk(self, commit_seconds: float = COMMIT_SECONDS) -> MemorySpool:
        """A spool in memory whose commits take so long."""
        return MemorySpool(clock=self.clock.now, reactor=_Timers(self), commit_seconds=commit_seconds)

    def peer(
        self, name: str, script: Mapping[str, Answer] | None = None, *, tls: bool | NoTls = False, **fields: Any
    ) -> ModelledPeer:
        """A neighbour that is up, with an address in the DNS. `tls`: it offers STARTTLS, with a trusted certificate for its name; NoTls():
        its handshakes fail. `fields` are RemoteHost's.
        """
        fields["tls"] = Certificate((name,)) if tls is True else tls or None
        machine = self.network.machine(name)
        self.dns.address(name, machine.address)
        peer = self.peers[name] = ModelledPeer(machine, script, **fields)
        return peer

    def letter(self, sender: str, recipients: Sequence[str], octets: int = 0) -> bytes:
        """A message that is like no other."""
        self._letters += 1
        head = (
            f"From: <{sender or 'nobody@example.org'}>\r\nTo: {', '.join(recipients[:10])}\r\n"
            f"Date: {formatdate(self.clock.now())}\r\nMessage-ID: <{self._letters}@letters.test>\r\nSubject: letter {self._letters}\r\n\r\n"
        )
        body = f"This is letter {self._letters}.\r\n.It begins with a dot.\r\n"
        line = "It goes on and on, as letters do.\r\n"
        return (head + body + line * max(0, (octets - len(head) - len(body)) // len(line))).encode()

    def connect(self, address: str, port: int, protocol: Protocol) -> None:
        """A client of the world outside."""
        factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        TCP4ClientEndpoint(self._clients, address, port).connect(factory).addErrback(protocol.connectionLost)

    # --- time -----------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Wall time."""
        return self.clock.now()

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let it pass. Raises what went wrong meanwhile."""
        self.clock.run(_seconds(days, hours, minutes, seconds))
        self._raise()

    def until(
        self,
        what: str,
        condition: Callable[[], object],
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Let time pass until `condition` holds; AssertionError when it takes longer than that (a minute, if nothing is said).

        It is looked at every second, or less often where the time allowed is long.
        """
        bound = _seconds(days, hours, minutes, seconds) or 60.0
        end = self.clock.seconds() + bound
        while not condition():
            if self.clock.seconds() >= end:
                raise AssertionError(f"{what} did not come within {bound:.0f} s of simulated time")
            self.clock.run(max(LOOK_SECONDS, bound / LOOKS))
            self._raise()

    def soon(self, what: str, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """The same, but time stops at the very event; `condition` must not ask a node, which takes time itself."""
        held = self.clock.run(seconds, condition)
        self._raise()
        if not held:
            raise AssertionError(f"{what} did not come within {seconds:.0f} s of simulated time")

    def at(
        self, do: Callable[[], object], *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> Call:
        """Do something when so much time has passed from now."""
        return self.clock.later(_seconds(days, hours, minutes, seconds), do)

    def quiet(self) -> bool:
        """Nothing waits and nothing is under way in any node."""
        return all(not node.queue() for node in self.nodes.values())

    # --- the end --------------------------------------------------------------------------------------------------

    def fault(self, failure: Failure) -> None:
        self.faults.append(f"{failure.getErrorMessage()}\n{failure.getTraceback()}")

    def _raise(self) -> None:
        if self.faults:
            faults = [each if isinstance(each, str) else Failure(each).getTraceback() for each in self.faults]
            self.faults.clear()
            raise AssertionError("faults in the house:\n" + "\n".join(faults[:5]))

    def check(self) -> None:
        """The laws hold now. Raises AssertionError with every breach."""
        self._raise()
        breaches = [*laws.breaches(self), *self._forgotten()]
        if breaches:
            raise AssertionError("laws are broken:\n" + "\n".join(breaches[:20]))

    def _forgotten(self) -> Iterator[str]:
        """Of nodes that run: what nobody works on, and nobody will. Mail for a dead host waits while one of its messages is tried."""
        for node in self.nodes.values():
            stories = node.stories() if node.running else []
            overdue = self.now() - OVERDUE_SECONDS
            busy = {
                entry.data.get("destination")
                for story in stories
                for entry in story.journal
                if entry.at >= overdue and "attempt" in entry.data
            }
            for story in stories:
                for each in story.recipients:
                    where = f"{node.name}: {format_id(story.message.id)} for {each.address}"
                    if each.state is not State.QUEUED or each.held:
                        continue
                    if each.owner and each.owner != node.owner:
                        yield f"{where}: claimed by a boot that is dead"
                    elif not each.owner and each.next_attempt < overdue and each.destination not in busy:
                        yield f"{where}: due for {self.now() - each.next_attempt:.0f} s, and nobody tries"

    def close(self) -> None:
        """Nothing of it is left; nothing is checked."""
        if not self._ended:
            self._ended = True
            globalLogPublisher.removeObserver(self._faults)
            shutil.rmtree(self._folder, ignore_errors=True)

    def end(self) -> None:
        """Check the laws, and be gone."""
        try:
            self.check()
        finally:
            self.close()

    def __enter__(self) -> SimulatedHouse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.end()
        else:
            self.close()


@implementer(ILogObserver)
class _Faults:
    """What a daemon would log as a fault of its own, is one here."""

    def __init__(self, faults: list[BaseException | str]) -> None:
        self._faults = faults

    def __call__(self, event: LogEvent) -> None:
        if event["log_level"] in {LogLevel.error, LogLevel.critical}:
            failure = event.get("log_failure")
            what = str(event.get("log_format") or "")
            self._faults.append(f"{what}\n{failure.getTraceback()}" if isinstance(failure, Failure) else what)


class _Timers:
    """The disk's own time: it does not end with a process."""

    def __init__(self, house: SimulatedHouse) -> None:
        self._clock = house.clock

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Call:  # noqa: A002 - Twisted's
        return self._clock.later(delay, callable, *args)


def _seconds(days: float, hours: float, minutes: float, seconds: float) -> float:
    return days * DAY_SECONDS + hours * 3600 + minutes * 60 + seconds
