"""A neighbour on a fake network: a RemoteHost with its script, that can go down, come back, be full, and know strangers from friends.

peer = house.peer("mx.example.net", {"RCPT TO:<bad@": "550 5.1.1 nobody"})
peer.down(); house.advance(hours=3); peer.up()
peer.script["RCPT"] = greylist(house.clock, seconds=300)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mta.testing.fake_clock import FakeClock
from mta.testing.network import Machine
from mta.testing.remote_host import Answer, RemoteHost, RemoteMessage, RemoteSession

SMTP_PORT = 25


class ModelledPeer(RemoteHost):
    """`messages` are what it took. `address` is its machine's. It is up when it is made."""

    def __init__(
        self, machine: Machine, script: Mapping[str, Answer] | None = None, *, port: int = SMTP_PORT, **fields: Any
    ) -> None:
        super().__init__(None, dict(script or {}), name=machine.name, **fields)
        self.machine = machine
        self.port = port
        self.up()

    @property
    def address(self) -> str:
        return self.machine.address

    def up(self) -> None:
        """Its server runs."""
        self.machine.up = True
        if self.reactor is None:
            self.reactor = self.machine.boot()
            self.start(port=self.port)

    def down(self) -> None:
        """Its server is stopped: connections are reset, new ones refused."""
        if self.reactor is not None:
            self.machine.end(self.reactor, told=True)
            self.reactor = None

    def vanish(self) -> None:
        """The machine is off: nobody answers, not even with a refusal."""
        self.machine.up = False
        if self.reactor is not None:
            self.machine.end(self.reactor, told=False)
            self.reactor = None

    def taken_for(self, recipient: str) -> list[RemoteMessage]:
        """What it took for an address, oldest first."""
        return [each for each in self.messages if recipient in addressees(each)]


def addressees(message: RemoteMessage) -> list[str]:
    """The recipients' addresses, without their parameters."""
    return [path_of(each) for each in message.recipients]


def sender_of(message: RemoteMessage) -> str:
    return path_of(message.mail)


def path_of(command: str) -> str:
    """What stands between the angle brackets."""
    return command.partition("<")[2].partition(">")[0]


def greylist(clock: FakeClock, seconds: float = 300.0, reply: str = "451 4.7.1 greylisted, come back later") -> Answer:
    """For RCPT: who comes with a sender and recipient for the first time must come again after a while."""
    first: dict[tuple[str, str], float] = {}

    def answer(session: RemoteSession) -> Answer:
        recipient = path_of(session.commands[-1])
        mail = next((each for each in reversed(session.commands) if each.upper().startswith("MAIL")), "")
        since = first.setdefault((path_of(mail), recipient), clock.seconds())
        return "250 2.1.5 Ok" if clock.seconds() - since >= seconds else reply

    return answer


def at_most(number: int, reply: str = "421 4.7.0 too many connections", usual: str = "220 peer ESMTP") -> Answer:
    """For "connect": so many sessions at once, and no more."""

    def answer(session: RemoteSession) -> Answer:
        alive = sum(each.alive for each in session.host.sessions)
        return usual if alive <= number else [reply, session_ends]

    return answer


def session_ends(session: RemoteSession) -> None:
    session.wire.loseConnection()
