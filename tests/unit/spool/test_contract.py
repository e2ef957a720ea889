"""What the contract promises, on every backend."""

from __future__ import annotations

import pytest

from mta.mail.envelope import Kind, State
from mta.spool.contract import (
    Acceptance,
    Accepted,
    Change,
    Claimed,
    Event,
    JournalEntry,
    RecipientChange,
    Selection,
    Settlement,
    SpoolError,
    SpoolFailed,
)
from mta.testing.spools import OWNER, START, House, MemoryHouse, letter, outcome, recipient

MX = "mx:example.net"


def put(house: House, *acceptances: Acceptance) -> list[Accepted]:
    return house.wait(house.spool.accept(acceptances))


def claim(house: House, limit: int = 10, destination: str = MX, now: float = START) -> list[Claimed]:
    return house.wait(house.spool.claim(destination, limit, OWNER, now, now + 100))


def addresses(rows: list[Claimed] | tuple[Claimed, ...]) -> list[str]:
    return [str(row.recipient.address) for row in rows]


def new(house: House) -> int:
    return house.spool.new_id()


def test_what_was_accepted_is_read_back_as_it_was(house: House) -> None:
    acceptance = letter(
        new(house), "a@example.net", recipient("ü@example.net", orcpt="rfc822;x@y", priority=3), kind=Kind.SUBMISSION,
        envid="E1", ret="HDRS", needs_utf8=True, max_line=78, client_ip="2001:db8::1", helo="h", tls="TLSv1.3 X",
        message_id="<1@x>", config_generation=4,
    )  # fmt: skip
    (accepted,) = put(house, acceptance)
    told = house.wait(house.spool.message(acceptance.message.id))
    assert told == (acceptance.message, accepted.recipients)
    assert house.wait(house.spool.content(acceptance.message.id)) == acceptance.content


def test_an_unknown_message_is_none_and_its_content_a_key_error(house: House) -> None:
    assert house.wait(house.spool.message(12345)) is None
    assert house.wait(house.spool.events(12345)) == []
    with pytest.raises(KeyError):
        house.wait(house.spool.content(12345))


def test_an_acceptance_of_many_is_all_or_nothing(house: House) -> None:
    first = letter(new(house))
    put(house, first)
    other = letter(new(house))
    if isinstance(house, MemoryHouse):
        return  # a table of its own would be needed for rolling back what nobody does
    with pytest.raises(SpoolError):
        put(house, other, first)
    assert house.wait(house.spool.message(other.message.id)) is None


def test_due_recipients_are_born_claimed_and_others_are_not(house: House) -> None:
    (accepted,) = put(
        house,
        letter(
            new(house), "a@example.net", recipient("b@example.net", held=True),
            recipient("c@example.net", next_attempt=START + 60), claim_for=OWNER,
        ),
    )  # fmt: skip
    assert [one.owner for one in accepted.recipients] == [OWNER, 0, 0]
    (delayed,) = put(house, letter(new(house), claim_for=OWNER, not_before=START + 30))
    assert (delayed.recipients[0].owner, delayed.recipients[0].next_attempt) == (0, START + 30)
    assert claim(house, now=START + 29) == []
    assert len(claim(house, now=START + 30)) == 1


def test_claims_take_priority_first_then_the_longest_due_and_a_message_together(house: House) -> None:
    put(house, letter(new(house), "1@example.net", recipient("2@example.net", next_attempt=START + 5)))
    put(house, letter(new(house), "3@example.net", now=START + 1))
    put(house, letter(new(house), recipient("low@example.net", priority=-1)))
    put(house, letter(new(house), recipient("high@example.net", priority=2), now=START + 2))
    now = START + 10
    assert addresses(claim(house, 3, now=now)) == ["high@example.net", "1@example.net", "2@example.net"]
    assert addresses(claim(house, 3, now=now)) == ["3@example.net", "low@example.net"]
    assert claim(house, 3, now=now) == []


def test_one_destination_does_not_show_anothers_mail(house: House) -> None:
    put(house, letter(new(house), "a@example.net", "b@example.com"))
    assert addresses(claim(house, destination="mx:example.com")) == ["b@example.com"]
    due = house.wait(house.spool.destinations_due(START, 10))
    assert [(one.destination, one.next_attempt) for one in due] == [(MX, START)]


def test_destinations_come_by_the_time_of_their_first(house: House) -> None:
    for number, late in enumerate((30, 10, 20)):
        put(house, letter(new(house), recipient(f"u@d{number}.example", next_attempt=START + late)))
    put(house, letter(new(house), recipient("u@d0.example", priority=5, next_attempt=START + 5)))
    due = house.wait(house.spool.destinations_due(START, 2))
    assert [(one.destination, one.next_attempt - START) for one in due] == [("mx:d0.example", 5), ("mx:d1.example", 10)]


def test_a_lease_that_ended_lets_another_claim_and_makes_the_old_token_stale(house: House) -> None:
    put(house, letter(new(house)))
    (old,) = claim(house)
    assert claim(house, now=START + 99) == []
    (again,) = claim(house, now=START + 100)
    assert again.recipient.token > old.recipient.token
    (done,) = house.wait(house.spool.settle((outcome(old.recipient, State.DELIVERED),)))
    assert done.stale == (old.recipient.id,)
    (done,) = house.wait(house.spool.settle((outcome(again.recipient, State.DELIVERED),)))
    assert done.stale == ()


def test_a_deferral_keeps_it_queued_until_its_time(house: House) -> None:
    put(house, letter(new(house)))
    (row,) = claim(house)
    settlement = outcome(
        row.recipient, State.QUEUED, code=451, status="4.3.0", text="later", next_attempt=START + 300, uncertain=True
    )
    house.wait(house.spool.settle((settlement,)))
    assert claim(house, now=START + 299) == []
    (row,) = claim(house, now=START + 300)
    one = row.recipient
    assert (one.attempts, one.last_code, one.last_status, one.last_text) == (1, 451, "4.3.0", "later")
    assert one.uncertain


def test_a_delay_report_is_remembered_through_later_deferrals(house: House) -> None:
    put(house, letter(new(house)))
    (row,) = claim(house)
    change = RecipientChange(row.recipient.id, row.recipient.token, State.QUEUED, delay_reported_at=START)
    house.wait(house.spool.settle((Settlement(row.message.id, (change,)),)))
    (row,) = claim(house, now=START + 1)
    house.wait(house.spool.settle((outcome(row.recipient, State.QUEUED),)))
    (row,) = claim(house, now=START + 2)
    assert row.recipient.delay_reported_at == START


def test_one_stale_token_undoes_the_whole_settlement(house: House) -> None:
    put(house, letter(new(house), "a@example.net", "b@example.net"))
    a, b = (row.recipient for row in claim(house))
    house.wait(house.spool.alter(Selection(recipients=(b.id,)), Change.REMOVE, START, "root"))
    both = Settlement(
        a.message,
        (RecipientChange(a.id, a.token, State.RELAYED), RecipientChange(b.id, b.token, State.RELAYED)),
        journal=(JournalEntry(a.message, START, Event.RELAYED, a.id),),
        reports=(letter(new(house), sender=""),),
    )
    (done,) = house.wait(house.spool.settle((both,)))
    assert (done.stale, done.reports) == ((b.id,), ())
    told = house.wait(house.spool.message(a.message))
    assert told is not None
    assert [one.state for one in told[1]] == [State.QUEUED, State.REMOVED]
    kinds = [entry.kind for entry in house.wait(house.spool.events(a.message))]
    assert kinds == [Event.ACCEPTED, Event.QUEUED, Event.QUEUED, Event.REMOVED]


def test_a_report_and_the_failure_are_one(house: House) -> None:
    put(house, letter(new(house)))
    (row,) = claim(house)
    report = letter(new(house), "sender@example.org", sender="", kind=Kind.REPORT, claim_for=OWNER)
    (done,) = house.wait(house.spool.settle((outcome(row.recipient, State.FAILED, reports=(report,)),)))
    (accepted,) = done.reports
    assert accepted.recipients[0].owner == OWNER
    told = house.wait(house.spool.message(report.message.id))
    assert told == (report.message, accepted.recipients)


def test_children_are_queued_with_their_parent_named(house: House) -> None:
    put(house, letter(new(house)))
    (row,) = claim(house)
    child = recipient("child@example.com", parent=row.recipient.id)
    (done,) = house.wait(house.spool.settle((outcome(row.recipient, State.EXPANDED, children=(child,)),)))
    assert [one.parent for one in done.children] == [row.recipient.id]
    assert addresses(claim(house, destination="mx:example.com")) == ["child@example.com"]
    entries = house.wait(house.spool.events(row.message.id))
    assert [entry.kind for entry in entries] == [Event.ACCEPTED, Event.QUEUED, Event.EXPANDED, Event.QUEUED]
    assert entries[-1].data == {
        "address": "child@example.com", "destination": "mx:example.com", "parent": row.recipient.id,
    }  # fmt: skip


def test_what_is_given_back_counts_no_attempt(house: House) -> None:
    put(house, letter(new(house)))
    (row,) = claim(house)
    house.wait(house.spool.unclaim(((row.recipient.id, row.recipient.token),)))
    (again,) = claim(house)
    assert again.recipient.attempts == 0


def test_a_hold_counts_from_the_next_try_and_a_release_ends_it(house: House) -> None:
    put(house, letter(new(house)))
    (row,) = claim(house)
    done = house.wait(house.spool.alter(Selection(), Change.HOLD, START, "root"))
    assert (done.changed, done.recipients) == (1, (row.recipient.id,))
    (settled,) = house.wait(house.spool.settle((outcome(row.recipient, State.QUEUED),)))
    assert settled.stale == ()
    assert claim(house, now=START + 10) == []
    assert house.wait(house.spool.destinations_due(START + 10, 10)) == []
    house.wait(house.spool.alter(Selection(held=True), Change.RELEASE, START, "root"))
    assert len(claim(house, now=START + 10)) == 1


def test_a_retry_makes_it_due_at_once(house: House) -> None:
    put(house, letter(new(house), recipient("a@example.net", next_attempt=START + 1000)))
    house.wait(house.spool.alter(Selection(destination=MX), Change.RETRY, START + 5, "root"))
    (row,) = claim(house, now=START + 5)
    assert row.recipient.next_attempt == START + 5


def test_what_an_operator_did_is_in_the_journal_with_his_name(house: House) -> None:
    (accepted,) = put(house, letter(new(house)))
    for change in (Change.HOLD, Change.RELEASE, Change.RETRY, Change.REMOVE, Change.REMOVE, Change.HOLD):
        house.wait(house.spool.alter(Selection(), change, START + 1, "postmaster"))
    entries = house.wait(house.spool.events(accepted.message.id))[2:]
    assert [entry.kind for entry in entries] == [Event.HELD, Event.RELEASED, Event.RETRIED, Event.REMOVED]
    assert {entry.data["by"] for entry in entries} == {"postmaster"}
    assert {entry.recipient for entry in entries} == {accepted.recipients[0].id}


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), "ab"),
        (Selection(sender="Sender@Example.org"), "a"),
        (Selection(sender="@example.org"), "a"),
        (Selection(sender="<>"), "b"),
        (Selection(recipient="b@example.com"), "b"),
        (Selection(recipient="@example.net"), "a"),
        (Selection(recipient="@net"), ""),
        (Selection(destination=MX), "a"),
        (Selection(held=True), "b"),
        (Selection(held=False), "a"),
        (Selection(older_than=START + 5), "a"),
        (Selection(younger_than=START + 5), "b"),
        (Selection(states=(State.FAILED,)), ""),
        (Selection(sender="' OR 1=1 --@example.org"), ""),
    ],
)
def test_a_selection_finds_what_it_says(house: House, selection: Selection, found: str) -> None:
    put(house, letter(new(house), "a@example.net"))
    put(house, letter(new(house), recipient("b@example.com", held=True), sender="", now=START + 10))
    page = house.wait(house.spool.select(selection, 10))
    assert "".join(row.recipient.address.local for row in page.rows) == found


def test_pages_end_between_messages(house: House) -> None:
    for _ in range(3):
        put(house, letter(new(house), "a@example.net", "b@example.net"))
    page = house.wait(house.spool.select(Selection(), 3))
    assert addresses(page.rows) == ["a@example.net", "b@example.net"] * 2
    page = house.wait(house.spool.select(Selection(), 3, page.cursor))
    assert (len(page.rows), page.cursor) == (2, 0)


def test_altering_goes_on_at_its_cursor(house: House) -> None:
    for _ in range(5):
        put(house, letter(new(house)))
    changed = cursor = 0
    calls = 0
    while True:
        done = house.wait(house.spool.alter(Selection(), Change.HOLD, START, "root", 2, cursor))
        changed, cursor, calls = changed + done.changed, done.cursor, calls + 1
        if not cursor:
            break
    assert (changed, calls) == (5, 3)


def test_rows_of_a_dead_boot_come_back_later_with_an_attempt_more(house: House) -> None:
    (accepted,) = put(house, letter(new(house), "a@example.net", "b@example.net", claim_for=OWNER))
    a = accepted.recipients[0]
    assert house.wait(house.spool.recover(OWNER + 1, START + 50, lambda attempts: attempts * 7.0)) == 2
    told = house.wait(house.spool.message(a.message))
    assert told is not None
    assert [(one.owner, one.attempts, one.next_attempt) for one in told[1]] == [(0, 1, START + 57)] * 2
    kinds = [entry.kind for entry in house.wait(house.spool.events(a.message))]
    assert kinds.count(Event.CLAIMED_AGAIN) == 2
    assert house.wait(house.spool.recover(OWNER + 1, START + 50, lambda attempts: 0.0)) == 0


def test_only_what_is_over_moves_to_the_history(house: House) -> None:
    put(house, letter(new(house), "a@example.net", "b@example.net"))
    a, b = (row.recipient for row in claim(house))
    house.wait(house.spool.settle((outcome(a, State.RELAYED),)))
    assert house.wait(house.spool.move_finished(START)) == 0
    house.wait(house.spool.settle((outcome(b, State.RELAYED),)))
    assert house.wait(house.spool.move_finished(START)) == 1
    assert house.wait(house.spool.message(a.message)) is None
    (told,) = house.told()
    assert [one.state for one in told.recipients] == [State.RELAYED] * 2
    assert [entry.kind for entry in told.journal][-2:] == [Event.RELAYED] * 2
    assert house.wait(house.spool.status()).messages == 0


def test_further_journal_entries_follow_the_acceptance(house: House) -> None:
    number = new(house)
    entry = JournalEntry(number, START, Event.REROUTED, 0, {"why": "a policy", "octets": "\udcff\x00"})
    put(house, letter(number, journal=(entry,)))
    assert house.wait(house.spool.events(number))[-1] == entry


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE message SET body = CAST(x'00' || substr(body, 2) AS BLOB)",
        "UPDATE message SET header = CAST(substr(header, 2) AS BLOB)",
        "UPDATE message SET body = 'text'",
    ],
)
def test_damaged_content_is_held_and_told(house: House, damage: str) -> None:
    (accepted,) = put(house, letter(new(house)))
    number = accepted.message.id
    if isinstance(house, MemoryHouse):
        house.spool.damage(number)  # type: ignore[attr-defined]
    else:
        house.sqlite._writer._connection.execute(damage)
    with pytest.raises(SpoolFailed):
        house.wait(house.spool.content(number))
    told = house.wait(house.spool.message(number))
    assert told is not None
    assert told[1][0].held
    assert house.wait(house.spool.events(number))[-1].kind is Event.QUARANTINED


def test_a_closed_spool_refuses(house: House) -> None:
    house.wait(house.spool.close())
    with pytest.raises(SpoolError):
        put(house, letter(new(house)))
    house.wait(house.spool.close())
