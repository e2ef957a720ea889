"""The verdict sees what it is there to see: lost, duplicate, ghost, corrupt."""

import pytest

from mta.testing.ledger import Copy, Ledger, Sent, compose, copies, judge, judge_copies, repeated, returned_by

BOTH = ("bob@dev.test", "ann@far.example")


def sent(mark: str, *recipients: str, outcome: str = "acknowledged") -> tuple[bytes, dict[str, Sent]]:
    message, digest = compose(mark, 1000)
    return message, {mark: Sent(digest, recipients, outcome, queue_id=f"Q{mark}")}  # type: ignore[arg-type]


@pytest.fixture
def message() -> bytes:
    return sent("a-1-x")[0]


def ledger(*recipients: str, outcome: str = "acknowledged") -> Ledger:
    return Ledger(sent("a-1-x", *recipients, outcome=outcome)[1])


def test_what_arrived_once_for_each_is_well(message: bytes) -> None:
    verdict = judge_copies(ledger(*BOTH), [*copies([message], BOTH[0]), *copies([message], BOTH[1])])
    assert (verdict.acknowledged, verdict.lost, verdict.duplicates, verdict.ghosts, verdict.corrupt) == (
        1,
        (),
        0,
        (),
        (),
    )


def test_a_copy_that_is_missing_for_one_recipient_is_lost(message: bytes) -> None:
    assert judge_copies(ledger(*BOTH), copies([message], BOTH[0])).lost == ("a-1-x for ann@far.example",)
    assert judge(ledger(BOTH[0]), []).lost == ("a-1-x",)


def test_what_is_queued_or_came_back_is_not_lost(message: bytes) -> None:
    assert judge_copies(ledger(*BOTH), [], queued={"Qa-1-x"}).lost == ()
    report = b"Subject: failed\r\n\r\nFinal-Recipient: rfc822; ann@far.example\r\nAction: failed\r\n\r\n" + message
    returned = returned_by([report])
    assert returned == {("a-1-x", "ann@far.example")}
    assert judge_copies(ledger(*BOTH), copies([message], BOTH[0]), returned=returned).lost == ()


def test_what_was_never_acknowledged_is_owed_to_nobody() -> None:
    verdict = judge(ledger(BOTH[0], outcome="open"), [])
    assert (verdict.lost, verdict.open) == ((), 1)


def test_a_second_copy_is_a_duplicate(message: bytes) -> None:
    assert judge(ledger(BOTH[0]), [message, message, message]).duplicates == 2


def test_what_was_refused_or_went_to_another_is_a_ghost(message: bytes) -> None:
    assert judge(ledger(BOTH[0], outcome="refused"), [message]).ghosts == ("a-1-x",)
    assert judge_copies(ledger(BOTH[0]), copies([message], BOTH[1])).ghosts == ("a-1-x",)


def test_what_was_changed_on_its_way_is_corrupt(message: bytes) -> None:
    assert judge(ledger(BOTH[0]), [message.replace(b"ends", b"END")]).corrupt == ("a-1-x",)
    assert judge(ledger(BOTH[0]), [b"Subject: spam\r\n\r\n"]).corrupt == ("unmarked",)
    assert judge(ledger(BOTH[0]), [b"Received: by us\r\n" + message]).corrupt == ()


def test_newlines_of_either_kind_are_the_same_message(message: bytes) -> None:
    (copy,) = copies([message.replace(b"\r\n", b"\n")], BOTH[0])
    assert copy == Copy("a-1-x", ledger(BOTH[0]).sent["a-1-x"].digest, BOTH[0])


def test_a_second_copy_is_explained_by_a_restart_between_alone() -> None:
    came = [
        Copy("m", "", "a@x", 1.0),
        Copy("m", "", "b@x", 1.0),
        Copy("m", "", "a@x", 11.0),
        Copy("m", "", "b@x", 11.1),
    ]
    assert repeated(came, [0.0, 10.0, 20.0], lambda _copy: "smtp") == ([], {(2, "smtp"): 1})
    again = [*came, Copy("m", "", "a@x", 12.0)]
    assert repeated(again, [0.0, 10.0, 20.0], lambda _copy: "smtp")[0] == [again[-1]]
    assert len(repeated(came, [0.0], lambda _copy: "smtp")[0]) == 2


def test_copies_that_came_again_are_counted_by_restart_and_way_out() -> None:
    came = [Copy(mark, "", "a@x", at) for mark in ("m", "n") for at in (1.0, 11.0, 21.0)]
    assert repeated(came, [0.0, 10.0, 20.0], lambda copy: copy.mark)[1] == {
        (2, "m"): 1, (2, "n"): 1, (3, "m"): 1, (3, "n"): 1
    }  # fmt: skip
