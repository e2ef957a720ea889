"""What the scheduler gives to a delivery agent, and what it gets back: the contract of the way out.

An agent decides nothing about retries, reports or the queue; it says what became of each recipient in this attempt, always of
all of them, and never fails: what goes wrong inside it is a deferral (law 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from twisted.internet import defer
from twisted.logger import Logger

from mta.dns.resolver import Soon
from mta.mail.envelope import Content, Message, Recipient, value
from mta.mail.outcome import Deferred, Outcome

_log = Logger()


@value
class Job:
    """One message for recipients of the same destination and reverse-path, at most 100 of them."""

    message: Message
    recipients: tuple[Recipient, ...]
    content: Content
    destination: str


@value
class Try:
    """One host that was tried, for the journal. Text from the host is printable and bounded already."""

    host: str
    address: str
    tls: str  # "TLSv1.3 TLS_AES_256_GCM_SHA384", or ""
    reply: str  # the last that was heard, or what went wrong
    at: float  # wall clock, when the try began
    seconds: float
    phase: str  # where it ended: "connect", "MAIL", "end of data" ...
    verified: bool = False  # the certificate proved the name of the host
    login: str = ""  # the mechanism by which we logged in
    note: str = ""  # what went wrong on the way and did not end it: STARTTLS refused

    def record(self) -> dict[str, object]:
        """For the journal, which is written for each message: what says nothing is left out."""
        made: dict[str, object] = {"host": self.host, "address": self.address}
        if self.tls:
            made["tls"] = self.tls
        if self.verified:
            made["verified"] = True
        if self.login:
            made["login"] = self.login
        if self.note:
            made["note"] = self.note
        made |= {"reply": self.reply, "at": round(self.at, 3), "seconds": round(self.seconds, 3), "phase": self.phase}
        return made


@value
class Attempt:
    """What became of a job: an outcome for each of its recipients, by recipient ID."""

    outcomes: Mapping[int, Outcome]
    trail: tuple[Try, ...] = ()
    rendition: str = ""  # how the content went out (mta.delivery.rendition)


@value
class SiteAnswer:
    """Which hosts a destination's mail goes to, as one name that all destinations with the same hosts share; "" when it has hosts of
    its own, or nobody knows. Good for `ttl_seconds`."""

    key: str
    ttl_seconds: float


OWN_SITE = SiteAnswer("", 300.0)


class DeliveryAgent(Protocol):
    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        """One attempt. Called in the reactor thread; the Deferred fires there and never fails."""

    def stop(self) -> defer.Deferred[None]:
        """Let go of connections and threads. What is under way ends as a deferral, or as what it became."""


@runtime_checkable
class LocatingAgent(Protocol):
    """An agent whose destinations may share their hosts with others."""

    def site(self, destination: str) -> Soon[SiteAnswer]:
        """Which site it belongs to: at once, or by a Deferred that never fails. Asked before the first job, and when the answer is old."""


def same_for_all(job: Job, outcome: Outcome, rendition: str = "") -> Attempt:
    return Attempt({recipient.id: outcome for recipient in job.recipients}, (), rendition)


class Agents:
    """Dispatch by the destination's scheme (`maildir:...`, `smtp:...`, `mx:...`, `discard:...`). Itself a DeliveryAgent."""

    def __init__(self, agents: Mapping[str, DeliveryAgent]) -> None:
        self._agents = dict(agents)

    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        agent = self._agents.get(job.destination.partition(":")[0])
        if agent is None:
            # A destination of an older configuration: it waits until a reload routes it anew.
            return defer.succeed(same_for_all(job, Deferred(0, "4.3.5", f"no agent for {job.destination!r}")))
        try:
            attempt = agent.deliver(job)
        except Exception:  # noqa: BLE001 - law 4: a bug of ours bounces nobody
            _log.failure("delivery agent failed for {destination}", destination=job.destination)
            return defer.succeed(same_for_all(job, Deferred(0, "4.3.0", "internal error")))
        return attempt

    def site(self, destination: str) -> Soon[SiteAnswer]:
        agent = self._agents.get(destination.partition(":")[0])
        return agent.site(destination) if isinstance(agent, LocatingAgent) else OWN_SITE

    def stop(self) -> defer.Deferred[None]:
        # One agent may serve two schemes: smtp and mx.
        unique = {id(agent): agent for agent in self._agents.values()}.values()
        return defer.DeferredList([agent.stop() for agent in unique], consumeErrors=True).addCallback(lambda _: None)
