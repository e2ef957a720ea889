"""What the neighbours of simulated and real houses have in common, and moods for their scripts."""

from __future__ import annotations

from typing import Protocol

from mta.testing.remote_host import Answer, RemoteHost, RemoteMessage, RemoteSession


class Peer(RemoteHost):
    """`messages` are what it took."""

    def taken_for(self, recipient: str) -> list[RemoteMessage]:
        """What it took for an address, oldest first."""
        return [each for each in list(self.messages) if recipient in addressees(each)]


def addressees(message: RemoteMessage) -> list[str]:
    """The recipients' addresses, without their parameters."""
    return [path_of(each) for each in message.recipients]


def sender_of(message: RemoteMessage) -> str:
    return path_of(message.mail)


def path_of(command: str) -> str:
    """What stands between the angle brackets."""
    return command.partition("<")[2].partition(">")[0]


class Seconds(Protocol):
    def seconds(self) -> float: ...


def greylist(clock: Seconds, seconds: float = 300.0, reply: str = "451 4.7.1 greylisted, come back later") -> Answer:
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
