"""Dispatch by scheme, and the destinations that are rules."""

from typing import Any

from twisted.internet import defer

from mta.delivery.agent import Agents, Attempt, Job
from mta.delivery.rules import DiscardAgent, ErrorAgent
from mta.mail.outcome import Deferred, Delivered, Failed
from mta.testing.letters import job


class Recorder:
    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.stops = 0

    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        self.jobs.append(job)
        return defer.succeed(Attempt({}))

    def stop(self) -> defer.Deferred[None]:
        self.stops += 1
        return defer.succeed(None)


class Broken(Recorder):
    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        raise ZeroDivisionError


def outcomes(agents: Any, destination: str) -> list[Any]:
    found: list[Attempt] = []
    agents.deliver(job(destination, "a@example.org", "b@example.org")).addCallback(found.append)
    return list(found[0].outcomes.values())


def test_a_job_goes_to_the_agent_of_its_scheme() -> None:
    one, other = Recorder(), Recorder()
    agents = Agents({"smtp": one, "mx": one, "maildir": other})
    for destination in ("mx:example.org", "smtp:[h]:25", "maildir:/x"):
        agents.deliver(job(destination, "a@example.org"))
    assert [len(one.jobs), len(other.jobs)] == [2, 1]
    agents.stop()
    assert [one.stops, other.stops] == [1, 1]


def test_an_unknown_scheme_and_a_bug_defer_everybody() -> None:
    agents = Agents({"smtp": Broken()})
    assert outcomes(agents, "fax:1") == [Deferred(0, "4.3.5", "no agent for 'fax:1'")] * 2
    assert outcomes(agents, "smtp:[h]:25") == [Deferred(0, "4.3.0", "internal error")] * 2


def test_rules() -> None:
    assert outcomes(DiscardAgent(), "discard:route-3") == [Delivered(250, "2.0.0", "discarded by route-3")] * 2
    assert outcomes(ErrorAgent(), "error:5.1.1 no such user")[0] == Failed(550, "5.1.1", "no such user")
    assert outcomes(ErrorAgent(), "error:4.2.1 moving")[0] == Deferred(450, "4.2.1", "moving")
    assert isinstance(outcomes(ErrorAgent(), "error:nonsense")[0], Deferred)
