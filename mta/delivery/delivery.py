"""One job on its way to a next hop, over as many connections and transactions as it takes."""

from __future__ import annotations

from collections import deque

from twisted.internet import defer

from mta.delivery.agent import Attempt, Job, Try
from mta.delivery.mx import Host
from mta.delivery.rendition import AS_ACCEPTED
from mta.mail.envelope import Recipient
from mta.mail.outcome import Deferred, Failed, Outcome, Relayed
from mta.smtp.client_events import Finished
from mta.smtp.verdict import TOO_MANY_RECIPIENTS


class Delivery:
    """`result` fires once, with an outcome for each recipient. Invariant: each is in `left` or in `outcomes`, never in both."""

    __slots__ = (
        "at",
        "failing",
        "hosts",
        "job",
        "lacking",
        "left",
        "outcomes",
        "result",
        "sessions",
        "started",
        "trail",
        "used",
    )

    def __init__(self, job: Job) -> None:
        self.job = job
        self.result: defer.Deferred[Attempt] = defer.Deferred()
        self.left: tuple[Recipient, ...] = job.recipients  # without an outcome
        self.outcomes: dict[int, Outcome] = {}
        self.trail: list[Try] = []
        self.used: set[str] = set()  # addresses
        self.hosts: deque[Host] | None = None  # not tried yet; None: not asked for yet
        self.sessions = 0  # that came to nothing
        self.at = self.started = 0.0  # of the current try: wall clock, monotonic
        self.failing: Outcome | None = None  # what went wrong last
        self.lacking: Failed | None = None  # a host lacks what the message needs

    def begins(self, at: float, started: float) -> None:
        """A try begins: wall clock, monotonic seconds."""
        self.at, self.started = at, started

    def settle(self, end: Finished, *, again: bool = False) -> None:
        """Take the outcomes of a transaction; with `again`, those that are deferred stay to be tried elsewhere."""
        left = []
        for recipient, outcome in zip(self.left, end.outcomes, strict=True):
            if again and isinstance(outcome, Deferred):
                left.append(recipient)
                self.failing = outcome
            else:
                self.outcomes[recipient.id] = outcome
        self.left = tuple(left)

    def settle_those_that_fitted(self, end: Finished) -> bool:
        """Were there recipients too many for one transaction, and was the message taken for others?

        Then these have their outcomes, and the others are left for a transaction of their own (RFC 5321 section 4.5.3.1.10).
        """
        outcomes = end.outcomes
        if len(outcomes) < 2 or not any(one.status == TOO_MANY_RECIPIENTS for one in outcomes):
            return False
        if not any(isinstance(one, Relayed) for one in outcomes):
            return False
        left = []
        for recipient, outcome in zip(self.left, outcomes, strict=True):
            if isinstance(outcome, Deferred) and outcome.status == TOO_MANY_RECIPIENTS:
                left.append(recipient)
            else:
                self.outcomes[recipient.id] = outcome
        self.left = tuple(left)
        return True

    def conclude(self, outcome: Outcome | None = None) -> None:
        """All is said; whoever is left gets `outcome`."""
        if outcome is not None:
            for recipient in self.left:
                self.outcomes[recipient.id] = outcome
        self.left = ()
        self.result.callback(Attempt(self.outcomes, tuple(self.trail), AS_ACCEPTED))
