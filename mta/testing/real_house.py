"""A house and its neighbours for real: daemons in processes of their own, neighbours on sockets, name servers that answer; all on loopback.

The same stories as in a SimulatedHouse run here, as far as they take seconds and not days:

    house = RealHouse(tmp_path)
    hub = house.txmta("hub.test")
    peer = house.peer("mx.example.net", {"RCPT": Turns("451 4.3.0 later", "250 2.1.5 Ok")})
    house.dns.mx("example.net", 10, "mx.example.net")
    hub.submit("user@hub.test", ["alice@example.net"])
    house.until("the mail", lambda: peer.messages)
    house.end()                     # the daemons stop, and the laws are checked on what they leave behind

Each host has an address of its own on loopback, and all take mail at one port (test_only.mx_port). Retries come after a second, unless
`queue` says otherwise. Neighbours and name servers run on a reactor of their own, in a thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.threads import blockingCallFromThread

from mta.admin.house import Story
from mta.cli.door import Door
from mta.spool.day import Day, Told, days
from mta.spool.sqlite import open_spool
from mta.testing import laws
from mta.testing.daemon import Daemon
from mta.testing.load import Client
from mta.testing.name_server import NameServer
from mta.testing.peer import Peer
from mta.testing.processes import free_port, wait_for
from mta.testing.pumped_reactor import PumpedReactor
from mta.testing.questions import Questions, stories_of
from mta.testing.remote_host import Answer
from mta.testing.sender import Letter, Receipt
from mta.testing.zones import Zones

QUICK = {"retry_min": "500ms", "retry_max": "1s"}
PATIENCE_SECONDS = 30.0


class RealPeer(Peer):
    """A neighbour on a socket, on the house's thread."""

    def __init__(self, house: RealHouse, address: str, name: str, script: Mapping[str, Answer] | None, **fields: Any):
        super().__init__(house.reactor, dict(script or {}), name=name, **fields)
        self._house = house
        self.address = address
        self.up()

    def up(self) -> None:
        self._house.in_thread(self.start, self.address, self._house.smtp_port)

    def down(self) -> None:
        """Connections are reset, new ones refused."""
        self._house.in_thread(self._stop)

    def _stop(self) -> Deferred[None]:
        return ensureDeferred(self.stop())


class RealNode(Questions):
    """A daemon."""

    def __init__(self, house: RealHouse, daemon: Daemon, address: str, users: Mapping[str, str]) -> None:
        self._house = house
        self.daemon = daemon
        self.name, self.address = daemon.hostname, address
        self.users = dict(users)
        self.mail = daemon.mail
        self.receipts: list[Receipt] = []

    def submit(
        self, sender: str, recipients: Sequence[str], content: bytes = b"", *, mail: str = "", rcpt: str = ""
    ) -> str:
        """As SimulatedNode.submit."""
        return self._hand_in(
            self.daemon.submission, next(iter(self.users.items())), sender, recipients, content, mail, rcpt
        )

    def receive(
        self, sender: str, recipients: Sequence[str], content: bytes = b"", *, mail: str = "", rcpt: str = ""
    ) -> str:
        """As SimulatedNode.receive."""
        return self._hand_in(self.daemon.mx, None, sender, recipients, content, mail, rcpt)

    def _hand_in(
        self,
        port: int,
        login: tuple[str, str] | None,
        sender: str,
        recipients: Sequence[str],
        content: bytes,
        mail: str,
        rcpt: str,
    ) -> str:
        letter = Letter(sender, recipients, content or self._house.letter(sender, recipients), mail, rcpt, login)
        receipt = Receipt(letter)
        client = Client(port, login=login)
        try:
            client.expect(b"250", client.ask(f"MAIL FROM:<{sender}> {mail}".rstrip().encode() + b"\r\n"))
            for each in recipients:
                said = client.ask(f"RCPT TO:<{each}> {rcpt}".rstrip().encode() + b"\r\n").decode().strip()
                if not said.startswith("250"):
                    receipt.refused[each] = said
            client.expect(b"354", client.ask(b"DATA\r\n"))
            stuffed = (b"\r\n" + letter.content).replace(b"\r\n.", b"\r\n..")[2:]
            receipt.reply = client.ask(stuffed + b".\r\n").decode().strip()
        finally:
            client.close()
        receipt.over = True
        self.receipts.append(receipt)
        if not receipt.taken:
            raise AssertionError(f"{self.name} did not take it: {receipt.reply}")
        return receipt.id

    def ask(self, verb: str, **arguments: object) -> Any:
        """As Questions has it, by the control socket. Raises mta.cli.fault.Trouble."""
        with Door(self.daemon.directory / "mta.sock") as door:
            return door.call(verb, **arguments)

    def stories(self) -> list[Story]:
        """All mail that it ever took, from the files of the stopped daemon."""
        reactor = PumpedReactor()
        spool = open_spool(self.daemon.spool, 0, reactor=reactor, clock=time.time, create=False)
        try:
            return stories_of(spool, self._finished(), reactor.wait)
        finally:
            reactor.wait(spool.close())

    def _finished(self) -> dict[int, Told]:
        found: dict[int, Told] = {}
        for _, path in days(self.daemon.spool / "history"):
            day = Day(path)
            try:
                numbers = [int(row[0]) for row in day.connection.execute("SELECT id FROM message")]
                found |= {number: told for number in numbers if (told := day.message(number)) is not None}
            finally:
                day.close()
        return found


class RealHouse:
    """`folder` holds everything. Used as SimulatedHouse is; time can't be advanced, only waited for."""

    simulated = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.smtp_port = free_port("127.0.0.1")
        self.dns = Zones()
        self.nodes: dict[str, RealNode] = {}
        self.peers: dict[str, RealPeer] = {}
        self.reactor: Any = EPollReactor()
        self.clock = self.reactor
        self._thread = threading.Thread(target=self.reactor.run, kwargs={"installSignalHandlers": False}, daemon=True)
        self._thread.start()
        self._letters = self._addresses = 0
        self._dns_port = free_port()
        self.in_thread(NameServer(self.reactor, self.dns).start, self._dns_port, "127.0.0.1")

    def in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do it where the neighbours live, and wait for it."""
        return blockingCallFromThread(self.reactor, work, *args)

    def _address(self, name: str) -> str:
        self._addresses += 1
        address = f"127.77.{self._addresses >> 8}.{self._addresses & 255}"
        self.dns.address(name, address, ttl=1)
        return address

    # --- who is there ---------------------------------------------------------------------------------------------

    def txmta(
        self,
        name: str,
        *,
        domains: Sequence[str] = (),
        users: Mapping[str, str] | None = None,
        routes: Sequence[Mapping[str, object]] | None = None,
        **tables: Any,
    ) -> RealNode:
        """As SimulatedHouse.txmta."""
        domains = tuple(domains) or (name,)
        address = self._address(name)
        for domain in domains:
            self.dns.mx(domain, 10, name, ttl=1)
        users = users or {f"user@{domains[0]}": "password"}
        directory = self._folder / name
        via = f"maildir:{directory}/mail/{{domain}}/{{local}}"
        local = {"domains": list(domains), "recipients": "any", "via": via}
        world = {"name": "world", "endpoints": [f"tcp:{self.smtp_port}:interface={address}"], "kind": "mx"}
        tables["queue"] = QUICK | tables.get("queue", {})
        tables["dns"] = {"servers": [f"127.0.0.1:{self._dns_port}"]}
        tables["test_only"] = {"mx_port": self.smtp_port, "allow_loopback_mx": True}
        ways = [self._with_port(route) for route in routes] if routes is not None else [{"domains": ["*"], "via": "mx"}]
        daemon = Daemon(
            directory,
            users=users,
            hostname=name,
            routes="".join(_table("[[route]]", each) for each in [local, *ways]),
            extra=_table("[[listener]]", world) + "".join(_tables(tables)),
        )
        node = self.nodes[name] = RealNode(self, daemon, address, users)
        daemon.start()
        return node

    def _with_port(self, route: Mapping[str, object]) -> dict[str, object]:
        """A story's smtp:[host]:25 is at the house's port."""
        return {**route, "via": str(route["via"]).replace("]:25", f"]:{self.smtp_port}")}

    def peer(self, name: str, script: Mapping[str, Answer] | None = None, **fields: Any) -> RealPeer:
        """As SimulatedHouse.peer, without TLS: Twisted's needs the reactor of the process, and here it has another one."""
        if fields.get("tls"):
            raise ValueError("neighbours of a real house have no TLS; tests/interop has some that do")
        fields.pop("port", None)
        peer = self.peers[name] = RealPeer(self, self._address(name), name, script, **fields)
        return peer

    def letter(self, sender: str, recipients: Sequence[str], octets: int = 0) -> bytes:
        """A message that is like no other."""
        self._letters += 1
        head = (
            f"From: <{sender or 'nobody@example.org'}>\r\nTo: {', '.join(recipients[:10])}\r\n"
            f"Date: {formatdate(time.time())}\r\nMessage-ID: <{self._letters}@letters.test>\r\nSubject: letter {self._letters}\r\n\r\n"
        )
        line = "It goes on and on, as letters do.\r\n.And begins with a dot.\r\n"
        return (head + line * max(1, (octets - len(head)) // len(line))).encode()

    # --- time -----------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return time.time()

    def until(self, what: str, condition: Callable[[], object], **_: float) -> None:
        """Wait until `condition` holds; AssertionError when it takes a minute. How long it may take in simulated time, does not count."""
        try:
            wait_for(what, condition, PATIENCE_SECONDS, every=0.05)
        except TimeoutError as error:
            raise AssertionError(str(error)) from None

    # --- the end --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Stop the daemons, and look whether the laws hold in what they left behind."""
        for node in self.nodes.values():
            code = node.daemon.stop()
            if code:
                raise AssertionError(f"{node.name} ended with {code}: {node.daemon.output.read_text()[-2000:]}")
        breaches = laws.breaches(self)
        if breaches:
            raise AssertionError("laws are broken:\n" + "\n".join(breaches[:20]))

    def close(self) -> None:
        """Nothing of it runs any more; nothing is checked."""
        for node in self.nodes.values():
            node.daemon.kill()
        if self._thread.is_alive():
            self.reactor.callFromThread(self.reactor.stop)
            self._thread.join(10)

    def end(self) -> None:
        """Check the laws, and be gone."""
        try:
            self.check()
        finally:
            self.close()

    def __enter__(self) -> RealHouse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.end()
        else:
            self.close()


def _tables(tables: Mapping[str, Any]) -> list[str]:
    """Tables of the configuration as TOML."""
    found = []
    for name, value in tables.items():
        if isinstance(value, Mapping):
            found.append(_table(f"[{name}]", value))
        else:
            found += [_table(f"[[{name}]]", each) for each in value]
    return found


def _table(head: str, values: Mapping[str, object]) -> str:
    # JSON's strings, numbers, lists and truth are TOML's too
    return "\n" + head + "\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
