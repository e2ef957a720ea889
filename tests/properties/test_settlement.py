"""Whatever became of an attempt, its settlement conserves recipients (law 2), loses no report, and a report causes none (law 5)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mta.config.model import Configuration
from mta.delivery.agent import Attempt, Job, Try
from mta.mail.address import NULL_PATH, parse_address
from mta.mail.envelope import BodyFile, Content, Kind, Message, Notify, Recipient, State
from mta.mail.outcome import Deferred, Delivered, Failed, Relayed
from mta.routing.router import build_router
from mta.scheduler.reports import report_kinds
from mta.scheduler.settlement import SettlementPolicy, settle_attempt, settle_waiting
from mta.spool.contract import Event

NOW = 1_767_225_600.0
CONFIGURATION = Configuration.model_validate(
    {
        "hostname": "mail.example.org",
        "postmaster": "admin@example.org",
        "listener": [{"name": "mx", "endpoints": ["tcp:25"], "kind": "mx"}],
        "route": [
            {"domains": ["example.org"], "recipients": "users", "via": "maildir:/var/mail/{local}"},
            {"domains": ["*"], "via": "mx"},
        ],
    }
)
ROUTER = build_router(CONFIGURATION, generation=1, users=lambda address: address.local == "sender")

text = st.text(max_size=30)
code = st.sampled_from([0, 250, 451, 550])
status = st.sampled_from(["2.0.0", "4.4.1", "5.1.1", "", "nonsense\r\n"])
outcomes = st.one_of(
    st.builds(Delivered, code, status, text),
    st.builds(Relayed, code, status, text, st.booleans()),
    st.builds(Deferred, code, status, text, st.booleans()),
    st.builds(Failed, code, status, text),
    st.none(),
)
return_paths = st.sampled_from(
    [NULL_PATH, *map(parse_address, ("sender@example.org", "nobody@example.org", "x@elsewhere.example"))]
)
notifies = st.sampled_from([Notify.UNSET, Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.FAILURE | Notify.DELAY])
bodies = st.one_of(st.binary(max_size=50), st.just(BodyFile("body/x", 200_000)))
sinces = st.sampled_from([10.0, 4 * 3600.0, 1e6])  # since acceptance
addresses = st.sampled_from([parse_address("a@example.net"), parse_address("grün@example.net", utf8=True)])


def make_policy() -> SettlementPolicy:
    made = iter(range(5000, 6000))
    return SettlementPolicy(
        retry_min=300.0,
        retry_max=4000.0,
        report_lifetime=1000.0,
        hold_reports=False,
        concurrency=20,
        hostname="mail.example.org",
        postmaster=parse_address("admin@example.org"),
        generation=1,
        router=ROUTER,
        new_id=lambda: next(made),
        random=lambda: 0.25,
        owner=1,
        lease_seconds=10.0,
    )


def row(identifier: int, drawn: tuple[Notify, bool, int, object]) -> Recipient:
    notify, uncertain, attempts, address = drawn
    return Recipient(
        id=identifier,
        message=100,
        parent=0,
        address=address,  # type: ignore[arg-type]
        original="a@example.net",
        orcpt="",
        notify=notify,
        reverse_path=None,
        state=State.QUEUED,
        held=False,
        uncertain=uncertain,
        priority=0,
        destination="mx:example.net",
        route_generation=1,
        next_attempt=0.0,
        attempts=attempts,
        delay_reported_at=0.0,
        last_code=0,
        last_status="",
        last_text="",
        owner=1,
        lease_until=0.0,
        token=1000 + identifier,
    )


@given(
    rows=st.lists(st.tuples(notifies, st.booleans(), st.integers(0, 5), addresses), min_size=1, max_size=12),
    drawn=st.lists(outcomes, min_size=12, max_size=12),
    sender=return_paths,
    kind=st.sampled_from(list(Kind)),
    age=st.sampled_from([-100.0, 0.0, 100.0]),
    since=sinces,
    header=st.binary(max_size=40),
    body=bodies,
    may_expire=st.booleans(),
    destination=st.sampled_from(["mx:example.net", "discard:route-1", "maildir:/x"]),
    reply=text,
)
def test_a_settlement_conserves_recipients(
    rows, drawn, sender, kind, age, since, header, body, may_expire, destination, reply
) -> None:  # type: ignore[no-untyped-def]
    recipients = tuple(row(number, each) for number, each in enumerate(rows, 1))
    message = Message(100, kind, sender, NOW - since, NOW - age, 50)
    attempt = Attempt(
        {number: each for number, each in enumerate(drawn, 1) if each is not None},
        (Try(reply, reply, "", reply, NOW, 1.0, "RCPT"),) if reply else (),
    )
    policy = make_policy()
    job = Job(message, recipients, Content(header, body), destination)
    settlement = settle_attempt(job, attempt, NOW, policy, may_expire=may_expire)

    # every recipient of the attempt is in exactly one change, under its own token, with one attempt more
    assert [(each.recipient, each.token) for each in settlement.changes] == [
        (each.id, each.token) for each in recipients
    ]
    assert [each.attempts for each in settlement.changes] == [each.attempts + 1 for each in recipients]
    for recipient, change in zip(recipients, settlement.changes, strict=True):
        outcome = attempt.outcomes.get(recipient.id)
        expected = {Delivered: State.DELIVERED, Relayed: State.RELAYED, Failed: State.FAILED}.get(type(outcome))
        if expected is State.DELIVERED and destination.startswith("discard:"):
            expected = State.DISCARDED
        if expected is None:
            expired = may_expire and age >= 0 and recipient.attempts >= 2
            expected = State.FAILED if expired else State.QUEUED
        assert change.state is expected
        assert (change.next_attempt > NOW) == (change.state is State.QUEUED)
        assert change.uncertain >= recipient.uncertain

    # the journal has one line for each change, one more for each failure (its report, or why none is owed) and for each other report
    lines = {each.id: [entry.kind for entry in settlement.journal if entry.recipient == each.id] for each in recipients}
    reported = []
    for recipient, change in zip(recipients, settlement.changes, strict=True):
        if change.state is not State.FAILED:
            assert lines[recipient.id][1:] in ([], [Event.REPORTED])
            told = lines[recipient.id][1:] == [Event.REPORTED]
            if change.state is State.QUEUED:
                assert told == (change.delay_reported_at == NOW)
            elif told:
                assert recipient.notify & Notify.SUCCESS
            if told:
                reported.append(recipient)
            continue
        assert lines[recipient.id][0] is Event.FAILED
        assert lines[recipient.id][1:] in ([Event.REPORTED], [Event.REPORT_NOT_OWED])
        if lines[recipient.id][1] is Event.REPORTED:
            reported.append(recipient)
    assert len(report_kinds(settlement)) == len(settlement.reports) == len(set(report_kinds(settlement)))
    assert bool(settlement.reports) == bool(reported)
    for report in settlement.reports:
        assert report.message.kind is Kind.REPORT
        assert not report.message.reverse_path
        assert report.recipients[0].address == sender
        assert kind is not Kind.REPORT
        assert report.message.cause_recipient in {each.id for each in reported}
        assert all(not each.notify & Notify.NEVER for each in reported)


@given(
    rows=st.lists(
        st.tuples(notifies, st.booleans(), st.integers(0, 5), addresses, st.sampled_from([0.0, 5.0])),
        min_size=1,
        max_size=8,
    ),
    sender=return_paths,
    kind=st.sampled_from(list(Kind)),
    since=sinces,
    age=st.sampled_from([-100.0, 0.0]),
    destination_attempts=st.integers(0, 4),
    may_expire=st.booleans(),
    reply=text,
)
def test_who_waits_keeps_its_place_or_ends_and_is_told_of_at_most_once(
    rows, sender, kind, since, age, destination_attempts, may_expire, reply
) -> None:  # type: ignore[no-untyped-def]
    message = Message(100, kind, sender, NOW - since, NOW - age, 50)
    recipients = [
        replace(row(number, each[:4]), delay_reported_at=each[4], next_attempt=NOW + 7)
        for number, each in enumerate(rows, 1)
    ]
    policy = make_policy()
    told: list[int] = []
    for _ in range(3):  # what is settled is settled: a second look finds nothing more to say
        job = Job(message, tuple(recipients), Content(b"Subject: x\r\n", b""), "mx:example.net")
        settlement = settle_waiting(
            job,
            Deferred(0, "4.4.1", reply),
            NOW,
            policy,
            may_expire=may_expire,
            destination_attempts=destination_attempts,
        )
        if settlement is None:
            break
        assert may_expire
        by_id = {each.id: each for each in recipients}
        told += [each.recipient for each in settlement.journal if each.kind is Event.REPORTED]
        for change in settlement.changes:
            before = by_id[change.recipient]
            assert (change.token, change.attempts) == (before.token, before.attempts)
            over = age >= 0 and max(before.attempts, destination_attempts) >= 3
            assert change.state is (State.FAILED if over else State.QUEUED)
            if change.state is State.FAILED:
                del by_id[change.recipient]
            else:
                assert (change.next_attempt, change.delay_reported_at) == (NOW + 7, NOW)
                by_id[change.recipient] = replace(before, delay_reported_at=NOW)
        recipients = list(by_id.values())
        if not recipients:
            break
    else:
        raise AssertionError("it never comes to rest")
    assert len(told) == len(set(told))
    if may_expire and since > 3600 and kind in {Kind.SUBMISSION, Kind.LOCAL} and str(sender) == "sender@example.org":
        owed = [each for each in recipients if not each.notify or each.notify & Notify.DELAY]
        assert all(each.delay_reported_at for each in owed)
