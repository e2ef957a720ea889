"""The scheduler as a state machine: operators, crashes and hostile hosts at any moment; nothing is lost, delivered twice, or forgotten.

The scheduler is the real one, on each backend of the spool; the delivery agent ends jobs when the machine says so.

MTA_LONG=1 makes it run long.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mta.delivery.agent import OWN_SITE, Job, SiteAnswer
from mta.mail.envelope import Kind, State
from mta.mail.outcome import Deferred
from mta.scheduler.pools import Pool
from mta.spool.contract import Change
from mta.testing.scheduling import DEAD, LATER, NEVER, TAKEN, ScheduledHouse, SqliteScheduledHouse

LONG = bool(os.environ.get("MTA_LONG"))
DOMAINS = ("one.example", "two.example", "three.example", "own.example")
BUSY = Deferred(421, "4.7.0", "too many connections")
DESTINATION_MOST, SITE_MOST = 3, 4
QUEUE = {"destination_concurrency": DESTINATION_MOST, "site_concurrency": SITE_MOST}


class SchedulerMachine(RuleBasedStateMachine):
    on_disk = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="scheduler-machine-"))
        self.number = 0
        self.of: dict[int, list[str]] = {}  # message -> addresses
        self.taken: Counter[str] = Counter()
        self.perhaps: set[str] = set()  # taken, and the process died before it was durable
        self.ended: set[str] = set()  # failed or removed
        self.held: set[str] = set()
        self.faults: list[str] = []
        self.draining = False

    @initialize()
    def begin(self) -> None:
        self.house = SqliteScheduledHouse(self.folder, **QUEUE) if self.on_disk else ScheduledHouse(**QUEUE)
        self.house.agent.behave = self.behave
        shared = SiteAnswer("mx.big.example", 3600.0)
        self.house.agent.site = lambda key: OWN_SITE if "own" in key else shared  # type: ignore[method-assign]

    def behave(self, job: Job) -> Any:
        if job.message.kind is Kind.REPORT:
            return TAKEN
        for each in job.recipients:
            address = str(each.address)
            for known, why in ((self.held, "held"), (self.ended, "ended"), (self.taken, "taken")):
                if address in known and address not in self.perhaps:
                    self.faults.append(f"{address} is attempted although it is {why}")
        if self.draining:
            self.taken.update(str(each.address) for each in job.recipients)
            return TAKEN
        return None

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(
        domains=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=4), priority=st.sampled_from((0, 0, 0, 4, -4)),
        held=st.sampled_from((False, False, False, True)), offer=st.sampled_from((True, True, False)),
    )  # fmt: skip
    def accept(self, domains: list[str], priority: int, held: bool, offer: bool) -> None:
        self.number += 1
        addresses = [f"u{self.number}-{index}@{domain}" for index, domain in enumerate(domains)]
        self.held.update(addresses if held else ())
        self.of[self.house.accept(*addresses, priority=priority, held=held, offer=offer)] = addresses

    @rule(number=st.integers(1, 30))
    def accept_many(self, number: int) -> None:
        """More than the memory takes for one destination."""
        for _ in range(number):
            self.accept(["one.example"], 0, False, True)

    def end(self, index: int, outcome: Any) -> None:
        job, result = self.house.agent.waiting.pop(index % len(self.house.agent.waiting))
        addresses = [str(each.address) for each in job.recipients]
        if outcome is TAKEN:
            self.taken.update(addresses)
        elif outcome is NEVER:
            self.ended.update(addresses)
        self.house.agent._answer(job, result, outcome)

    @precondition(lambda self: self.house.agent.waiting)
    @rule(index=st.integers(0, 50), outcome=st.sampled_from((TAKEN, TAKEN, LATER, NEVER, DEAD, DEAD, BUSY)))
    def a_job_ends(self, index: int, outcome: Any) -> None:
        self.end(index, outcome)
        self.house.pass_time(0.02)

    @precondition(lambda self: self.house.agent.waiting)
    @rule(outcome=st.sampled_from((TAKEN, LATER, DEAD, DEAD)))
    def all_jobs_end(self, outcome: Any) -> None:
        while self.house.agent.waiting:
            self.end(0, outcome)
        self.house.pass_time(0.02)

    @rule(seconds=st.sampled_from((0.0, 1.1, 61.0, 400.0, 4500.0)))
    def time_passes(self, seconds: float) -> None:
        self.house.pass_time(min(seconds, 400.0) if self.on_disk else seconds)

    @precondition(lambda self: self.of)
    @rule(data=st.data(), change=st.sampled_from((Change.HOLD, Change.RELEASE, Change.RETRY, Change.REMOVE)))
    def an_operator_changes(self, data: st.DataObject, change: Change) -> None:
        message = data.draw(st.sampled_from(list(self.of)))
        before = {str(row.address): row for row in self.house.rows(message)}
        queued = {address for address, row in before.items() if row.state is State.QUEUED}

        def known() -> None:
            """What begins from now on must respect it."""
            if change is Change.HOLD:
                self.held.update(queued)
            elif change is Change.REMOVE:
                self.ended.update(queued)

        if change is Change.RELEASE:
            self.held.difference_update(queued)
        self.house.alter(change, message, then=known)
        self.house.pass_time(0.02)

    @rule(key=st.sampled_from(("", *[f"mx:{domain}" for domain in DOMAINS])))
    def an_operator_flushes(self, key: str) -> None:
        self.house.scheduler.flush([key] if key else None)
        self.house.alter(Change.RETRY, destination=key, held=False, due_after=self.house.now())
        self.house.pass_time(0.02)

    @rule(outcome=st.sampled_from((None, None, TAKEN)))
    def the_process_dies(self, outcome: Any) -> None:
        if outcome is not None and self.house.agent.waiting:
            self.perhaps.update(str(each.address) for each in self.house.agent.waiting[0][0].recipients)
            self.end(0, outcome)
        self.house.crash()

    @rule()
    def it_is_stopped_and_started(self) -> None:
        self.perhaps.update(str(each.address) for job, _ in self.house.agent.waiting for each in job.recipients)
        stopped = self.house.scheduler.stop()
        self.house.pass_time(11)  # what is under way hangs
        self.house.done(stopped)
        self.house.agent.waiting.clear()
        self.house.agent.at_once.clear()
        self.house.owner += 1
        self.house.boot()

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def nobody_is_attempted_who_must_not_be(self) -> None:
        assert not self.faults

    @invariant()
    def limits_hold(self) -> None:
        jobs = Counter(job.destination for job, _ in self.house.agent.waiting)
        assert all(number <= DESTINATION_MOST for number in jobs.values())
        assert sum(number for key, number in jobs.items() if key.startswith("mx:") and "own" not in key) <= SITE_MOST

    @invariant()
    def the_books_are_right(self) -> None:
        heads = self.house.scheduler._heads
        pools: set[Pool] = {heads.doubtful}
        for each in heads.destinations.values():
            pools.update(each.pools)
            assert each.rows == sum(len(work.recipients) for work in each.waiting) + each.reserved
            assert [work.priority for work in each.waiting] == sorted([w.priority for w in each.waiting], reverse=True)
            stands = each.ring is not None or each.suspended_until or not each.placed or not each.waiting
            assert stands or each.in_flight, f"{each.key} is forgotten"
        everybody = heads.destinations.values()
        assert heads.rows == sum(each.rows for each in everybody)
        assert heads.in_flight == sum(each.in_flight for each in everybody)
        for pool in pools:
            assert pool.rows == sum(each.rows for each in everybody if pool in each.pools)
            assert 0 <= pool.in_flight <= heads.in_flight

    def teardown(self) -> None:
        try:
            if hasattr(self, "house"):
                self.all_comes_to_its_end()
        finally:
            if self.on_disk and hasattr(self, "house"):
                self.house.close()  # type: ignore[attr-defined]
            shutil.rmtree(self.folder, ignore_errors=True)

    def all_comes_to_its_end(self) -> None:
        """Hosts live, operators release: each recipient is delivered, failed or removed, and nothing of it is left in memory."""
        house = self.house
        self.draining = True
        while house.agent.waiting:
            self.end(0, TAKEN)
        house.pass_time(0.1)
        self.held.clear()
        house.alter(Change.RELEASE)
        house.scheduler.flush()
        house.alter(Change.RETRY)
        house.pass_time(200)
        house.alter(Change.RETRY)  # what a crash gave a time of its own
        house.pass_time(200)
        assert not self.faults
        for message, addresses in self.of.items():
            for row in house.rows(message):
                address = str(row.address)
                assert address in addresses
                if row.state is State.RELAYED:
                    assert self.taken[address] == 1 or address in self.perhaps
                else:
                    assert row.state in {State.FAILED, State.REMOVED}
                    assert address in self.ended
        assert house.done(house.spool.status()).claimed == 0
        scheduler = house.scheduler
        assert (scheduler._heads.rows, scheduler._heads.in_flight, scheduler._heads.hot_octets) == (0, 0, 0)
        assert not scheduler._heads.held
        assert scheduler.status()["unsettled"] == 0


@pytest.mark.parametrize(("on_disk", "examples"), [(False, 120), (True, 25)], ids=["memory", "SQLite"])
def test_nothing_is_lost_delivered_twice_or_forgotten(on_disk: bool, examples: int) -> None:
    machine = type("Machine", (SchedulerMachine,), {"on_disk": on_disk})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples * (15 if LONG else 1),
            stateful_step_count=60 if LONG else 30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
