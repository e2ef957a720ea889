"""Drives a server engine in memory: plays a client's turns, answers by a table, writes down events and replies.

Used by the conversation runner and the property tests; people who extend the engine can use it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mta.mail import reply
from mta.mail.reply import Reply
from mta.smtp import events
from mta.smtp.events import NEED_DATA, WAITING
from mta.smtp.extensions import ServerProfile, ehlo_reply
from mta.smtp.server import ServerEngine

Answer = Callable[[events.Event], Reply | bytes | None]


def accept_all(event: events.Event) -> Reply | bytes | None:
    """A server that takes everything."""
    match event:
        case events.Mail():
            return reply.MAIL_OK
        case events.Rcpt():
            return reply.RCPT_OK
        case events.Data():
            return reply.START_MAIL_INPUT
        case events.ContentEnd():
            return event.refusal or Reply(250, "2.0.0", "Ok")
        case events.StartTls():
            return reply.READY_FOR_TLS
        case events.AuthStart():
            return b"" if event.initial is None else reply.AUTHENTICATED
        case events.AuthResponse():
            return reply.AUTHENTICATED
        case events.Inquiry():
            return reply.VRFY_UNKNOWN
        case events.Penalty():
            return event.reply
    return None


@dataclass
class EngineDriver:
    """`send` plays octets, cut as given; `seen` has the events (content joined), `wire` all that the engine said."""

    profile: ServerProfile = field(default_factory=lambda: ServerProfile("mail.example.org", starttls=True, auth=True))
    answer: Answer = accept_all
    mechanisms: tuple[str, ...] = ("PLAIN",)
    over_tls: bool = False
    seen: list[events.Event] = field(default_factory=list)
    content: list[bytes] = field(default_factory=list)  # of finished messages
    wire: bytes = b""
    closed: bool = False

    def __post_init__(self) -> None:
        self.engine = ServerEngine(self.profile, over_tls=self.over_tls)
        self.engine.mechanisms = self.mechanisms
        self._blocks: list[bytes] = []
        self.engine.greet(Reply(220, "", f"{self.profile.hostname} ESMTP"))
        self._collect()

    def send(self, *octets: bytes) -> bytes:
        """Play these pieces one by one; what the engine said meanwhile."""
        before = len(self.wire)
        for piece in octets:
            self.engine.receive(piece)
            self._pump()
        return self.wire[before:]

    def converse(self, turns: Iterable[bytes]) -> bytes:
        return b"".join(self.send(turn) for turn in turns)

    def _pump(self) -> None:
        while (event := self.engine.next_event()) is not NEED_DATA and event is not WAITING:
            assert not isinstance(event, events.Pause)
            self._deal(event)
        self._collect()

    def _deal(self, event: events.Event) -> None:
        if isinstance(event, events.ContentBlock):
            self._blocks.append(event.data)
            self.engine.grant(len(event.data))
            return
        self.seen.append(event)
        if isinstance(event, events.ContentEnd):
            self.content.append(b"".join(self._blocks))
            self._blocks = []
        if isinstance(event, events.Close):
            self.closed = True
        if isinstance(event, events.Hello):
            is_ehlo = event.verb != "HELO"
            answer: Reply | bytes | None = (
                ehlo_reply(self.profile, self.engine.over_tls, self.engine.mechanisms)
                if is_ehlo
                else Reply(250, "", self.profile.hostname)
            )
        else:
            answer = self.answer(event)
        ticket = getattr(event, "ticket", 0)
        if not ticket or answer is None:
            return
        if isinstance(answer, bytes):
            self.engine.challenge(ticket, answer)
        else:
            self.engine.answer(ticket, answer)
        if isinstance(event, events.StartTls) and isinstance(answer, Reply) and answer.positive:
            self._collect()
            self.engine.tls_started()

    def _collect(self) -> None:
        self.wire += self.engine.data_to_send()
