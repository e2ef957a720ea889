"""Destinations that are a rule and no place: `discard:NAME` and `error:5.1.1 text`. Nothing is sent anywhere."""

from __future__ import annotations

import re

from twisted.internet import defer

from mta.delivery.agent import Attempt, Job, same_for_all
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome

_ERROR = re.compile(r"([45]\.\d{1,3}\.\d{1,3})(?:\s+(.*))?", re.DOTALL)


class DiscardAgent:
    """Takes everything and keeps nothing; the journal names the rule. The recipient's state is DISCARDED (settlement)."""

    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        name = job.destination.partition(":")[2]
        return defer.succeed(
            same_for_all(job, Delivered(250, "2.0.0", f"discarded by {name or 'a rule'}"), "discarded")
        )

    def stop(self) -> defer.Deferred[None]:
        return defer.succeed(None)


class ErrorAgent:
    """For mail that was queued before a rule came to refuse it. A text that is no refusal defers (law 4)."""

    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        return defer.succeed(same_for_all(job, _verdict(job.destination.partition(":")[2])))

    def stop(self) -> defer.Deferred[None]:
        return defer.succeed(None)


def _verdict(text: str) -> Outcome:
    hit = _ERROR.fullmatch(text)
    if hit is None:
        return Deferred(0, "4.3.5", f"no refusal: {text!r}")
    status, words = hit[1], hit[2] or "refused by a rule"
    return Failed(550, status, words) if status.startswith("5") else Deferred(450, status, words)
