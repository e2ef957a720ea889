"""Thousands of deadlines on one timer."""

from __future__ import annotations

from twisted.internet.task import Clock

from mta.inbound.deadlines import VISIT_SECONDS, Deadlines


class Watched:
    def __init__(self, deadline: float, step: float = 0.0) -> None:
        self.bucket: set[object] | None = None
        self.deadline = deadline
        self.looks: list[float] = []

    def look(self, now: float) -> float:
        self.looks.append(now)
        return self.deadline


def advance(clock: Clock, seconds: float, step: float = 0.5) -> None:
    end = clock.seconds() + seconds
    while clock.seconds() < end:
        clock.advance(step)


def test_a_session_is_looked_at_when_its_time_has_come_and_before() -> None:
    clock = Clock()
    clock.advance(1000.25)
    deadlines, session = Deadlines(clock), Watched(1012.0)
    deadlines.watch(session, session.deadline)
    advance(clock, 30)
    assert session.looks
    assert all(
        later - earlier <= VISIT_SECONDS + 1.5 for earlier, later in zip(session.looks, session.looks[1:], strict=False)
    )
    assert any(1012.0 <= look <= 1014.0 for look in session.looks)


def test_a_deadline_may_move_without_a_word() -> None:
    clock = Clock()
    deadlines, session = Deadlines(clock), Watched(300.0)
    deadlines.watch(session, session.deadline)
    advance(clock, 10)
    session.deadline = 20.0
    session.looks.clear()
    advance(clock, 20)
    assert any(20.0 <= look <= 20.0 + VISIT_SECONDS + 1 for look in session.looks)


def test_who_is_forgotten_is_not_looked_at() -> None:
    clock = Clock()
    deadlines, session = Deadlines(clock), Watched(3.0)
    deadlines.watch(session, 3.0)
    deadlines.forget(session)
    deadlines.forget(session)
    advance(clock, 20)
    assert session.looks == []
    assert session.bucket is None


def test_a_reactor_that_was_busy_for_long_misses_nobody() -> None:
    clock = Clock()
    deadlines, sessions = Deadlines(clock), [Watched(float(each)) for each in range(100)]
    for session in sessions:
        deadlines.watch(session, session.deadline)
    clock.advance(200)
    assert all(session.looks == [200.0] for session in sessions)


def test_it_ends() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    deadlines.stop()
    deadlines.stop()
    assert clock.getDelayedCalls() == []


def test_without_sessions_there_is_no_timer() -> None:
    clock = Clock()
    deadlines, session = Deadlines(clock), Watched(300.0)
    assert clock.getDelayedCalls() == []
    deadlines.watch(session, session.deadline)
    advance(clock, 7)
    assert len(clock.getDelayedCalls()) == 1
    deadlines.forget(session)
    advance(clock, 2)
    assert clock.getDelayedCalls() == []
    again = Watched(clock.seconds() + 3)
    deadlines.watch(again, again.deadline)
    advance(clock, 5)
    assert again.looks
