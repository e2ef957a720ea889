"""The spool as a state machine: one set of rules, every backend, power cuts before and after a commit.

A model in plain dictionaries says what must be there. At every moment each acknowledged recipient is in exactly one state, in
the spool or in the history; no report is lost; body files are those that rows name; the journal tells each change.

MTA_LONG=1 makes it run long.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mta.mail.envelope import BodyFile, Kind, NewRecipient, State
from mta.spool.contract import (
    INLINE_BODY_LIMIT_OCTETS,
    Acceptance,
    Accepted,
    Change,
    DestinationRecord,
    Event,
    Patience,
    Selection,
    Settlement,
)
from mta.testing.spools import HEADER, HOUSES, MemoryHouse, SqliteHouse, digest, letter, outcome, recipient

LONG = bool(os.environ.get("MTA_LONG"))
DESTINATIONS = ("mx:one.example", "mx:two.example")
LARGE = b"0123456789abcdef" * (INLINE_BODY_LIMIT_OCTETS // 16) + b"large\r\n"
LEASE_SECONDS = 100.0
JITTER_SECONDS = 7.0
ALL_STATES = Selection(states=tuple(State))
TERMINAL = (State.DELIVERED, State.RELAYED, State.DISCARDED)


@dataclass
class Known:
    """What the model says of one recipient."""

    message: int
    destination: str
    priority: int
    next_attempt: float
    held: bool = False
    state: State = State.QUEUED
    owner: int = 0
    lease: float = 0.0
    token: int = 1
    attempts: int = 0
    kinds: list[Event] = field(default_factory=lambda: [Event.QUEUED])


class SpoolMachine(RuleBasedStateMachine):
    house_type: type[MemoryHouse] | type[SqliteHouse] = MemoryHouse

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-machine-"))
        self.house = self.house_type(self.folder)
        self.owner = 1
        self.known: dict[int, Known] = {}
        self.bodies: dict[int, str] = {}  # message -> file
        self.moved: set[int] = set()
        self.received: dict[int, float] = {}  # by message
        self.suspended: dict[str, float] = {}  # until

    def teardown(self) -> None:
        try:
            self.journal_tells_each_change()
            self.bodies_are_those_that_rows_name()
            self.house.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- acceptance -----------------------------------------------------------------------------------------------

    news = st.lists(
        st.builds(
            lambda destination, priority, held: recipient(
                f"user@{destination[3:]}", destination, priority=priority, held=held
            ),
            st.sampled_from(DESTINATIONS),
            st.sampled_from((0, 0, 0, 3, -4)),
            st.sampled_from((False, False, False, True)),
        ),
        min_size=1,
        max_size=3,
    )

    def body(self, identifier: int) -> tuple[BodyFile, bytes]:
        writer = self.house.spool.body_writer(identifier, lambda: None)
        for start in range(0, len(LARGE), 65536):
            writer.write(LARGE[start : start + 65536])
        finished = writer.finish()
        return self.house.reactor.wait(finished), digest(HEADER, LARGE)

    def new_letter(self, news: list[NewRecipient], large: bool, claim: bool) -> Acceptance:
        identifier = self.house.spool.new_id()
        body: bytes | BodyFile = b"small\r\n"
        checksum = b""
        if large:
            body, checksum = self.body(identifier)
            self.bodies[identifier] = body.path
        return letter(
            identifier, *news, now=self.house.now, body=body, sha256=checksum,
            claim_for=self.owner if claim else 0, lease_until=self.house.now + LEASE_SECONDS,
        )  # fmt: skip

    def learn(self, accepted: Accepted) -> None:
        self.received[accepted.message.id] = accepted.message.received_at
        for one in accepted.recipients:
            assert one.id not in self.known
            self.known[one.id] = Known(
                one.message, one.destination, one.priority, one.next_attempt, one.held, one.state, one.owner,
                one.lease_until, one.token,
            )  # fmt: skip

    @rule(news=news, large=st.sampled_from((False, False, False, True)), claim=st.booleans())
    def accept(self, news: list[NewRecipient], large: bool, claim: bool) -> None:
        acceptance = self.new_letter(news, large, claim)
        (accepted,) = self.house.wait(self.house.spool.accept((acceptance,)))
        assert [one.owner for one in accepted.recipients] == [
            0 if new.held or not claim else self.owner for new in news
        ]
        self.learn(accepted)

    @rule(large=st.booleans())
    def abandon_a_body(self, large: bool) -> None:
        """The peer goes away in the middle, or just before the commit."""
        identifier = self.house.spool.new_id()
        writer = self.house.spool.body_writer(identifier, lambda: None)
        writer.write(LARGE[:1000])
        if large:
            self.house.reactor.wait(writer.finish())
        writer.abort()

    # --- work -----------------------------------------------------------------------------------------------------

    def end_leases(self) -> None:
        for one in self.known.values():
            if one.owner and one.lease <= self.house.now:
                one.owner, one.lease, one.token = 0, 0.0, one.token + 1
                one.kinds.append(Event.CLAIMED_AGAIN)

    def waiting(self, destination: str) -> dict[int, Known]:
        return {
            number: one
            for number, one in self.known.items()
            if one.destination == destination and one.state is State.QUEUED and not one.held and not one.owner
        }

    @rule(destination=st.sampled_from(DESTINATIONS), limit=st.integers(1, 4))
    def claim(self, destination: str, limit: int) -> None:
        now = self.house.now
        claimed = self.house.wait(self.house.spool.claim(destination, limit, self.owner, now, now + LEASE_SECONDS))
        self.end_leases()
        due = {number: one for number, one in self.waiting(destination).items() if one.next_attempt <= now}
        assert min(limit, len(due)) <= len(claimed) <= len(due)
        begun = {row.message.id for row in claimed[:limit]}
        assert all(
            row.message.id in begun for row in claimed
        )  # beyond the limit only what goes together with those before
        if claimed:
            first = self.known[claimed[0].recipient.id]
            assert first.priority == max(one.priority for one in due.values())
        for row in claimed:
            one = due[row.recipient.id]
            one.owner, one.lease, one.token = self.owner, now + LEASE_SECONDS, one.token + 1
            assert (row.recipient.token, row.recipient.owner, row.message.id) == (one.token, self.owner, one.message)

    @rule()
    def look_for_destinations(self) -> None:
        due = self.house.wait(self.house.spool.destinations_due(self.house.now, 10))
        self.end_leases()
        first = {}
        for destination in DESTINATIONS:
            waiting = self.waiting(destination)
            if waiting and self.suspended.get(destination, 0.0) <= self.house.now:
                first[destination] = min(one.next_attempt for one in waiting.values())
        assert {one.destination: one.next_attempt for one in due} == first
        assert [one.next_attempt for one in due] == sorted(first.values())

    @rule(destination=st.sampled_from(DESTINATIONS), seconds=st.sampled_from((0.0, 60.0, 7 * 86400.0)))
    def suspend(self, destination: str, seconds: float) -> None:
        until = self.house.now + seconds if seconds else 0.0
        self.house.wait(self.house.spool.remember((DestinationRecord(destination, until, 1),)))
        self.suspended[destination] = until
        kept = self.house.wait(self.house.spool.destinations())
        assert {one.key: one.suspended_until for one in kept} == {key: at for key, at in self.suspended.items() if at}

    @rule()
    def claim_overdue(self) -> None:
        now = self.house.now
        found = self.house.wait(self.house.spool.claim_overdue(Patience(now, 0.0), self.owner, now + LEASE_SECONDS))
        expected = {
            number: one
            for key, until in self.suspended.items()
            for number, one in self.waiting(key).items()
            if until > now and self.received[one.message] + 5 * 86400 <= now
        }
        assert {row.recipient.id for row in found.rows} == expected.keys()
        assert found.cursor == 0
        for one in expected.values():
            one.owner, one.lease, one.token = self.owner, now + LEASE_SECONDS, one.token + 1

    def claimed(self) -> list[int]:
        return [number for number, one in self.known.items() if one.owner]

    def row(self, number: int):  # type: ignore[no-untyped-def]
        told = self.house.wait(self.house.spool.message(self.known[number].message))
        assert told is not None
        return next(one for one in told[1] if one.id == number)

    def prepared(self, number: int, state: State) -> tuple[Settlement, int]:
        """A settlement of a claimed recipient, and the report it causes (0: none)."""
        row = self.row(number)
        now = self.house.now
        if state is State.QUEUED:
            return outcome(row, state, now, code=451, next_attempt=now + 60, uncertain=True), 0
        if state is State.FAILED:
            report = self.house.spool.new_id()
            dsn = letter(report, "sender@one.example", now=now, sender="", kind=Kind.REPORT, cause_message=row.message)
            return outcome(row, state, now, code=550, reports=(dsn,)), report
        if state is State.EXPANDED:
            children = tuple([recipient(f"child{n}@two.example", parent=number) for n in range(2)])
            return outcome(row, state, now, children=children), 0
        return outcome(row, state, now, code=250), 0

    def settled(self, number: int, state: State) -> None:
        one = self.known[number]
        one.state, one.owner, one.lease, one.token, one.attempts = state, 0, 0.0, one.token + 1, one.attempts + 1
        one.held = one.held and state is State.QUEUED
        one.kinds.append(Event.DEFERRED if state is State.QUEUED else Event[state.name])
        if state is State.QUEUED:
            one.next_attempt = self.house.now + 60

    @precondition(lambda self: self.claimed())
    @rule(data=st.data(), state=st.sampled_from((State.QUEUED, State.FAILED, State.EXPANDED, *TERMINAL)))
    def settle(self, data: st.DataObject, state: State) -> None:
        number = data.draw(st.sampled_from(self.claimed()))
        settlement, report = self.prepared(number, state)
        (done,) = self.house.wait(self.house.spool.settle((settlement,)))
        assert done.stale == ()
        self.settled(number, state)
        assert len(done.children) == (2 if state is State.EXPANDED else 0)
        for child in done.children:
            assert (child.parent, child.owner) == (number, 0)
            self.known[child.id] = Known(child.message, child.destination, 0, child.next_attempt)
        assert [one.message.id for one in done.reports] == ([report] if report else [])
        for accepted in done.reports:
            self.learn(accepted)

    @precondition(lambda self: any(one.token > 1 or one.owner for one in self.known.values()))
    @rule(data=st.data(), state=st.sampled_from((State.QUEUED, State.FAILED, State.EXPANDED, *TERMINAL)))
    def settle_with_an_old_token(self, data: st.DataObject, state: State) -> None:
        number = data.draw(
            st.sampled_from([n for n, one in self.known.items() if one.message not in self.moved]) if self.here()
            else st.just(0)
        )  # fmt: skip
        if not number:
            return
        row = self.row(number)
        settlement, _ = self.prepared(number, state)
        (change,) = settlement.changes
        # and a good one beside it: all or nothing
        others = [n for n in self.claimed() if self.known[n].message == row.message and n != number]
        changes = [type(change)(change.recipient, change.token - 1, change.state)]
        changes += [type(change)(n, self.known[n].token, State.DELIVERED) for n in others]
        old = Settlement(row.message, tuple(changes), settlement.children, settlement.reports, settlement.journal)
        (done,) = self.house.wait(self.house.spool.settle((old,)))
        assert (done.stale, done.children, done.reports) == ((number,), (), ())

    @precondition(lambda self: self.claimed())
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.claimed()))
        one = self.known[number]
        self.house.wait(self.house.spool.unclaim(((number, one.token), (number, one.token - 1))))
        one.owner, one.lease, one.token = 0, 0.0, one.token + 1

    @rule(seconds=st.sampled_from((0.5, 30.0, 61.0, LEASE_SECONDS + 1, 5 * 86400.0, -3600.0)))
    def time_passes(self, seconds: float) -> None:
        """Or steps back: what was due stays due or waits; nothing is lost by it."""
        self.house.now += seconds

    # --- operators ------------------------------------------------------------------------------------------------

    def here(self) -> list[int]:
        return sorted({one.message for one in self.known.values()} - self.moved)

    @precondition(lambda self: self.here())
    @rule(data=st.data(), change=st.sampled_from(tuple(Change)))
    def alter(self, data: st.DataObject, change: Change) -> None:
        message = data.draw(st.sampled_from(self.here()))
        done = self.house.wait(self.house.spool.alter(Selection(messages=(message,)), change, self.house.now, "root"))
        changed = set()
        for number, one in self.known.items():
            if one.message != message or one.state is not State.QUEUED:
                continue
            if change is Change.REMOVE:
                one.state, one.held, one.owner, one.lease, one.token = State.REMOVED, False, 0, 0.0, one.token + 1
                one.kinds.append(Event.REMOVED)
            elif change is Change.HOLD and not one.held:
                one.held = True
                one.kinds.append(Event.HELD)
            elif change is Change.RELEASE and one.held:
                one.held = False
                one.kinds.append(Event.RELEASED)
            elif change is Change.RETRY and not one.owner:
                one.next_attempt = self.house.now
                one.kinds.append(Event.RETRIED)
            else:
                continue
            changed.add(number)
        assert (done.changed, set(done.recipients), done.cursor) == (len(changed), changed, 0)

    # --- the end --------------------------------------------------------------------------------------------------

    @rule()
    def move_finished(self) -> None:
        over = {
            message for message in self.here()
            if all(one.state is not State.QUEUED for one in self.known.values() if one.message == message)
        }  # fmt: skip
        assert self.house.wait(self.house.spool.move_finished(self.house.now)) == len(over)
        self.moved |= over

    def start_again(self) -> None:
        """Another boot: what was in flight comes back."""
        self.owner += 1
        claimed = self.claimed()
        found = self.house.wait(
            self.house.spool.recover(self.owner, self.house.now, lambda attempts: attempts * JITTER_SECONDS)
        )
        assert found == len(claimed)
        for number in claimed:
            one = self.known[number]
            one.owner, one.lease, one.token, one.attempts = 0, 0.0, one.token + 1, one.attempts + 1
            one.next_attempt = self.house.now + one.attempts * JITTER_SECONDS
            one.kinds.append(Event.CLAIMED_AGAIN)

    @rule(news=news, large=st.booleans(), committed=st.booleans())
    def crash_in_an_acceptance(self, news: list[NewRecipient], large: bool, committed: bool) -> None:
        acceptance = self.new_letter(news, large, claim=True)
        self.hold(committed)
        self.house.send(self.house.spool.accept((acceptance,)))
        self.house.crash(committed=committed)
        identifier = acceptance.message.id
        told = self.house.wait(self.house.spool.message(identifier))
        assert (told is not None) is committed
        if told is None:
            self.bodies.pop(identifier, None)
        else:
            self.learn(Accepted(*told))
        self.start_again()

    @precondition(lambda self: self.claimed())
    @rule(
        data=st.data(), committed=st.booleans(), state=st.sampled_from((State.QUEUED, State.FAILED, State.EXPANDED, *TERMINAL))
    )  # fmt: skip
    def crash_in_a_settlement(self, data: st.DataObject, committed: bool, state: State) -> None:
        number = data.draw(st.sampled_from(self.claimed()))
        settlement, report = self.prepared(number, state)
        self.hold(committed)
        self.house.send(self.house.spool.settle((settlement,)))
        self.house.crash(committed=committed)
        if committed:
            self.settled(number, state)
        if report:
            told = self.house.wait(self.house.spool.message(report))
            assert (told is not None) is committed  # the report and the failure: both or neither
            if told is not None:
                self.learn(Accepted(*told))
        told = self.house.wait(self.house.spool.message(settlement.message))
        assert told is not None
        children = [one for one in told[1] if one.id not in self.known]
        assert len(children) == (2 if committed and state is State.EXPANDED else 0)
        for child in children:
            self.known[child.id] = Known(child.message, child.destination, 0, child.next_attempt)
        self.start_again()

    def hold(self, committed: bool) -> None:
        if not committed and isinstance(self.house, SqliteHouse):
            self.house.hold_commits()

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def each_recipient_is_in_exactly_one_state(self) -> None:
        found: dict[int, tuple[object, ...]] = {}
        cursor = 0
        while True:
            page = self.house.wait(self.house.spool.select(ALL_STATES, 3, cursor))
            for row in page.rows:
                one = row.recipient
                assert one.id not in found
                found[one.id] = (one.message, one.state, one.held, one.owner, one.token, one.attempts, one.next_attempt
                                 if one.state is State.QUEUED else 0)  # fmt: skip
            cursor = page.cursor
            if not cursor:
                break
        expected = {
            number: (one.message, one.state, one.held, one.owner, one.token, one.attempts, one.next_attempt
                     if one.state is State.QUEUED else 0)
            for number, one in self.known.items() if one.message not in self.moved
        }  # fmt: skip
        assert found == expected
        status = self.house.wait(self.house.spool.status())
        queued = [one for one in self.known.values() if one.state is State.QUEUED]
        assert (status.messages, status.queued) == (len(self.here()), len(queued))
        assert status.held == sum(one.held for one in queued)
        assert status.claimed == len(self.claimed())

    def journal_tells_each_change(self) -> None:
        told_all = self.house.told()
        moved = {told.message.id: told for told in told_all}
        assert len(moved) == len(told_all)  # what was copied twice is one
        assert moved.keys() == self.moved
        for message in {one.message for one in self.known.values()}:
            if message in moved:
                told = moved[message]
                assert {one.id: one.state for one in told.recipients} == {
                    number: one.state for number, one in self.known.items() if one.message == message
                }
                entries = told.journal
            else:
                entries = self.house.wait(self.house.spool.events(message))
            assert entries[0].kind is Event.ACCEPTED
            for number, one in self.known.items():
                if one.message == message:
                    assert [entry.kind for entry in entries if entry.recipient == number] == one.kinds

    def bodies_are_those_that_rows_name(self) -> None:
        here = {one.message for one in self.known.values() if one.state is State.QUEUED}
        self.house.wait(self.house.spool.move_finished(self.house.now))
        self.house.wait(self.house.spool.move_finished(self.house.now))  # behind what the first has yet to unlink
        for message in here & self.bodies.keys():
            content = self.house.wait(self.house.spool.content(message))
            assert isinstance(content.body, BodyFile)
            assert self.house.spool.body_path(content.body).read_bytes() == LARGE
        assert self.house.bodies() == {self.bodies[message] for message in here & self.bodies.keys()}


@pytest.mark.parametrize("house", HOUSES, ids=lambda one: one.__name__)
def test_no_acknowledged_recipient_is_ever_lost(house: type[MemoryHouse] | type[SqliteHouse]) -> None:
    machine = type(f"{house.__name__}Machine", (SpoolMachine,), {"house_type": house})
    examples = {MemoryHouse: 150, SqliteHouse: 60}[house]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples * (15 if LONG else 1),
            stateful_step_count=60 if LONG else 30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
