"""One txmta in a simulated house: the parts of a daemon as mta.service puts them together, on a process of a fake network.

Real: listeners, protocol, engine, session, policy, routing, SASL; scheduler, settlement, reports; client engine, next hops, resolver;
mailboxes are maildirs on disk. Modelled: sockets, TLS, the password file, and the disk of the spool (MemorySpool, or any other
that is given).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.python.failure import Failure

from mta.admin.house import Caller, House, Sought, Story
from mta.admin.operations import VERBS
from mta.config.model import Configuration
from mta.config.settings import Settings
from mta.delivery.maildir import Results
from mta.dns.servers import DnsOptions
from mta.dns.stub import StubResolver
from mta.mail.address import Address
from mta.mail.envelope import Content
from mta.mail.identifiers import parse_id
from mta.sasl.authenticator import Authenticator
from mta.sasl.realm import SenderRealm
from mta.sasl.throttle import Throttle
from mta.service.mail_way import MailWay
from mta.testing.commit_watch import CommitWatch
from mta.testing.fake_reactor import FakeReactor
from mta.testing.name_server import FakeChannels
from mta.testing.network import Machine
from mta.testing.questions import Questions, stories_of
from mta.testing.reception import EventList, MemoryUsers, RefusalList
from mta.testing.said_tls import SaidContexts
from mta.testing.sender import Letter, Receipt, Sender

if TYPE_CHECKING:
    from mta.testing.simulated_house import SimulatedHouse

HOUSEKEEPING_SECONDS = 3600.0
HAND_IN_SECONDS = 600.0  # a client waits no longer for its last reply


class MemoryAuthenticator(Authenticator):
    """Users of a table, with their passwords."""

    def __init__(self, process: FakeReactor, mechanisms: Sequence[str], domain: str, users: Mapping[str, str]) -> None:
        super().__init__(
            Portal(SenderRealm(domain), [MemoryUsers(users)]),
            mechanisms,
            domain=domain,
            throttle=Throttle(process.seconds),
            call_later=process.callLater,
            random=process.random.randbytes,
        )
        self._users = users

    def user(self, address: Address) -> str:
        return str(address) if str(address) in self._users else ""


class ThreadsOfNobody:
    """File work done at once; its result comes with the next turn, as from a thread."""

    def __init__(self, process: FakeReactor) -> None:
        self._process = process

    def run(self, work: Any, done: Any) -> None:
        results: Results | None = work()
        self._process.callLater(0, done, results)

    def stop(self) -> None:
        """There is nothing to stop."""


class MemoryArchive:
    """mta.admin.house.Archive over what a MemorySpool moved to its history."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    def stories(self, sought: Sought) -> Deferred[list[Story]]:
        told = [Story(each[0], each[1], tuple(each[2])) for each in self._node.finished().values()]
        return succeed([each for each in told if _is_sought(each, sought)][-sought.limit :])

    def refusals(self, sought: Sought) -> Deferred[list[Mapping[str, object]]]:
        text = sought.address or sought.word
        fitting: list[Mapping[str, object]] = [
            each for each in self._node.refusals.entries if text and text in json.dumps(each, default=str)
        ]
        return succeed(fitting[-sought.limit :])


def _is_sought(story: Story, sought: Sought) -> bool:
    message = story.message
    if sought.message:
        return message.id == sought.message
    if sought.message_id:
        return message.message_id == sought.message_id
    addresses = {str(message.reverse_path), *(str(each.address) for each in story.recipients)}
    if sought.address.startswith("@"):
        return any(each.endswith(sought.address) for each in addresses)
    return sought.address in addresses


class SimulatedNode(Questions):
    """`spool` stays when the process dies, as a disk does. A new node runs at once."""

    def __init__(
        self, house: SimulatedHouse, machine: Machine, tables: Mapping[str, Any], users: Mapping[str, str], spool: Any
    ) -> None:
        self.house, self.machine = house, machine
        self.name = machine.name
        self.users = dict(users)
        self.spool: Any = spool
        self.log = EventList()
        self.refusals = RefusalList()
        self.mail = Path(tables["mail"])
        self.receipts: list[Receipt] = []
        self.boots = 0
        self.process: FakeReactor | None = None
        self.way: MailWay
        self.commits = CommitWatch(self)
        self._settings = self._load({key: value for key, value in tables.items() if key != "mail"})
        self.start()

    def _load(self, tables: Mapping[str, Any], generation: int = 1) -> Settings:
        return Settings(Configuration.model_validate(tables), generation, Path("/simulated/mta.toml"))

    @property
    def address(self) -> str:
        return self.machine.address

    @property
    def owner(self) -> int:
        """Names this boot in the rows that it claims."""
        return 1000 + self.boots

    @property
    def running(self) -> bool:
        return self.process is not None

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Boot: what an earlier process left behind is taken up."""
        if self.process is not None:
            raise RuntimeError(f"{self.name} runs already")
        self.boots += 1
        self.machine.up = True
        house = self.house
        self.process = process = self.machine.boot()
        configuration = self._settings.configuration
        authenticator = MemoryAuthenticator(process, configuration.auth.mechanisms, "users.test", self.users)
        self.resolver = StubResolver(
            process,
            DnsOptions.of(configuration),
            hosts_file="/simulated/hosts",
            random=house.network.random,
            network=FakeChannels(process),
        )
        self.way = MailWay(
            process,
            lambda: self._settings,
            spools=[cast(Any, self.commits.of(self.spool))],
            refusals=self.refusals,
            authenticator=authenticator,
            server_contexts=cast(Any, SaidContexts(self.name)),
            client_contexts=cast(Any, SaidContexts()),
            resolver=self.resolver,
            log=cast(Any, self.log),
            now=house.clock.now,
            owner=self.owner,
            random=house.network.random,
            threads=ThreadsOfNobody(process),
            addresses=lambda: frozenset({self.address}),
        )
        self.way.open(self._settings)
        self.way.start().addErrback(house.fault)
        process.callLater(HOUSEKEEPING_SECONDS, self._keep_house)

    def _keep_house(self) -> None:
        process = self.process
        if process is not None:
            self.spool.move_finished(self.house.clock.now()).addErrback(self.house.fault)
            process.callLater(HOUSEKEEPING_SECONDS, self._keep_house)

    def crash(self, *, told: bool = True) -> None:
        """The process ends without a farewell, and what was not committed is gone. `told`: its peers see their connections
        reset, as when it was killed; else the machine lost its power, and they see nothing."""
        process, self.process = self.process, None
        if process is None:
            raise RuntimeError(f"{self.name} does not run")
        self.machine.up = told
        self.machine.end(process, told=told)
        self.commits.dead()
        self.spool = self.spool.crash()

    def stop(self) -> None:
        """An orderly end: listeners, sessions, schedulers, agents."""
        process, way = self.process, self.way
        if process is None:
            raise RuntimeError(f"{self.name} does not run")
        ended: list[object] = []
        ensureDeferred(self._stop(way)).addBoth(ended.append)
        self.house.soon("an orderly end", lambda: ended, 300.0)
        if isinstance(ended[0], Failure):
            ended[0].raiseException()
        self.process = None
        self.machine.end(process, told=True)

    async def _stop(self, way: MailWay) -> None:
        await way.doors.stop_listening()
        await way.doors.close_sessions()
        for scheduler in way.schedulers.values():
            await scheduler.stop()
        await way.agents.stop()
        self.resolver.close()
        way.doors.close()

    def restart(self) -> None:
        if self.process is not None:
            self.stop()
        self.start()

    # --- mail -----------------------------------------------------------------------------------------------------

    def submit(
        self, sender: str, recipients: Sequence[str], content: bytes = b"", *, mail: str = "", rcpt: str = ""
    ) -> str:
        """Hand in a message as the node's first user, logged in; the queue ID. `mail` and `rcpt`: options of these commands.

        Raises AssertionError when it was not taken.
        """
        login = next(iter(self.users.items()))
        return self._taken(self.hand_in(sender, recipients, content, login=login, mail=mail, rcpt=rcpt))

    def receive(
        self, sender: str, recipients: Sequence[str], content: bytes = b"", *, mail: str = "", rcpt: str = ""
    ) -> str:
        """The same from a stranger, at the MX's door."""
        return self._taken(self.hand_in(sender, recipients, content, mail=mail, rcpt=rcpt))

    def _taken(self, receipt: Receipt) -> str:
        self.house.soon("the last reply", lambda: receipt.over, HAND_IN_SECONDS + 1)
        if not receipt.taken:
            raise AssertionError(
                f"{self.name} did not take it: {receipt.refused or ''} {receipt.reply or receipt.heard}"
            )
        return receipt.id

    def hand_in(
        self,
        sender: str,
        recipients: Sequence[str],
        content: bytes = b"",
        *,
        login: tuple[str, str] | None = None,
        mail: str = "",
        rcpt: str = "",
    ) -> Receipt:
        """Begin to: the receipt fills while time passes."""
        letter = Letter(sender, recipients, content or self.house.letter(sender, recipients), mail, rcpt, login)
        talk = Sender(letter)
        self.receipts.append(talk.receipt)
        self.house.connect(self.address, 587 if login else 25, talk)
        self.house.at(talk.give_up, seconds=HAND_IN_SECONDS)
        return talk.receipt

    # --- questions ------------------------------------------------------------------------------------------------

    def ask(self, verb: str, **arguments: object) -> Any:
        """As Questions has it. Raises VerbError."""
        face = House(
            settings=lambda: self._settings,
            spools=[self.spool],
            archive=cast(Any, MemoryArchive(self)),
            schedulers=tuple(self.way.schedulers.values()),
            reception=self.way.reception,
            log=cast(Any, self.log),
            now=self.house.clock.now,
        )
        results: list[Any] = []
        ensureDeferred(VERBS[verb].operation(face, Caller(0, "root"), arguments)).addBoth(results.append)
        self.house.soon(f"an answer to {verb}", lambda: results)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    # --- for those who check --------------------------------------------------------------------------------------

    def finished(self) -> dict[int, Any]:
        history: dict[int, Any] = self.spool.history
        return history

    def stories(self) -> list[Story]:
        return stories_of(self.spool, self.finished(), self._now)

    def content(self, identifier: str) -> Content:
        content: Content = self._now(self.spool.content(parse_id(identifier)))
        return content

    def _now(self, deferred: Deferred[Any]) -> Any:
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.house.soon("the spool's answer", lambda: results)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]
