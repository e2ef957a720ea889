"""Settlements that share a statement: as if each were alone."""

from __future__ import annotations

from mta.mail.envelope import Recipient, State
from mta.spool.contract import Change, Selection, Settled
from mta.testing.spools import OWNER, START, SqliteHouse, letter, outcome


def many(sqlite: SqliteHouse, number: int) -> list[Recipient]:
    letters = [letter(sqlite.spool.new_id(), f"user{n}@example.net", claim_for=OWNER) for n in range(number)]
    return [one for accepted in sqlite.wait(sqlite.spool.accept(letters)) for one in accepted.recipients]


def test_a_batch_of_any_size_is_settled_whole(sqlite: SqliteHouse) -> None:
    for number in (1, 2, 16, 17, 40):
        rows = many(sqlite, number)
        settled = sqlite.wait(sqlite.spool.settle([outcome(one, State.RELAYED, code=250, text="ok") for one in rows]))
        assert settled == [Settled()] * number
        for one in rows:
            found = sqlite.wait(sqlite.spool.message(one.message))
            assert found is not None
            (row,) = found[1]
            assert (row.state, row.last_code, row.last_text, row.owner) == (State.RELAYED, 250, "ok", 0)
            assert row.token == one.token + 1


def test_one_that_is_stale_leaves_the_others_alone(sqlite: SqliteHouse) -> None:
    rows = many(sqlite, 5)
    sqlite.wait(sqlite.spool.alter(Selection(recipients=(rows[2].id,)), Change.REMOVE, START, "test"))
    settled = sqlite.wait(sqlite.spool.settle([outcome(one, State.DELIVERED) for one in rows]))
    assert [one.stale for one in settled] == [(), (), (rows[2].id,), (), ()]
    kinds = [[e.kind.value for e in sqlite.wait(sqlite.spool.events(one.message))][2:] for one in rows]
    assert kinds == [["delivered"], ["delivered"], ["removed"], ["delivered"], ["delivered"]]


def test_the_same_recipient_twice_is_settled_once(sqlite: SqliteHouse) -> None:
    first, second = many(sqlite, 2)
    twice = [outcome(first, State.DELIVERED), outcome(second, State.DELIVERED), outcome(first, State.RELAYED)]
    settled = sqlite.wait(sqlite.spool.settle(twice))
    assert [one.stale for one in settled] == [(), (), (first.id,)]
    found = sqlite.wait(sqlite.spool.message(first.message))
    assert found is not None
    assert found[1][0].state is State.DELIVERED


def test_a_verb_in_the_same_batch_sees_what_was_settled_before_it(sqlite: SqliteHouse) -> None:
    rows = many(sqlite, 3)
    settled = sqlite.spool.settle([outcome(one, State.DELIVERED) for one in rows])
    given_back = sqlite.spool.unclaim([(one.id, one.token) for one in rows])  # with tokens that are old by then
    sqlite.wait(given_back)
    assert sqlite.wait(settled) == [Settled()] * 3
    for one in rows:
        found = sqlite.wait(sqlite.spool.message(one.message))
        assert found is not None
        assert (found[1][0].state, found[1][0].token) == (State.DELIVERED, one.token + 1)
