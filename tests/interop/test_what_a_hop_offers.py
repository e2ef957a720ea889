"""What the message is against what the hop offers; DSN parameters passed on or dropped; recipients too many for one transaction."""

from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted

from mta.delivery import next_hop
from mta.mail.envelope import Notify
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.testing.letters import job
from mta.testing.next_hops import NextHops, kinds, only
from mta.testing.remote_host import CLOSE, RemoteSession

LARGE = b"x" * 70 + b"\r\n"
LACKING = {
    "8BITMIME": ({"has_8bit": True, "body": "é\r\n".encode()}, ("PIPELINING", "SIZE"), "5.6.3"),
    "SMTPUTF8": ({"needs_utf8": True}, ("PIPELINING", "8BITMIME"), "5.6.7"),
    "SIZE": ({"body": LARGE * 20}, ("PIPELINING", "SIZE 1000"), "5.3.4"),
    "REQUIRETLS": ({"requiretls": True}, ("PIPELINING", "REQUIRETLS"), "5.7.30"),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("what", LACKING)
async def test_what_no_hop_offers_fails_with_its_own_status_and_nothing_was_said(hops: NextHops, what: str) -> None:
    fields, offered, status = LACKING[what]
    first, second = hops.remote(extensions=offered), hops.remote(extensions=offered)
    hops.exchangers("example.org", first, second)
    attempt = await hops.agent().deliver(job("mx:example.org", "a@example.org", "b@example.org", **fields))
    assert kinds(attempt) == {Failed}
    assert {outcome.status for outcome in attempt.outcomes.values()} == {status}
    assert [tried.host for tried in attempt.trail] == ["mx1.example.org", "mx2.example.org"]
    for remote in (first, second):
        assert not any(command.startswith("MAIL") for command in remote.commands)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("what", ["8BITMIME", "SMTPUTF8", "SIZE"])
async def test_another_host_is_tried_first(hops: NextHops, what: str) -> None:
    fields, offered, _ = LACKING[what]
    poor, rich = hops.remote(extensions=offered), hops.remote()
    hops.exchangers("example.org", poor, rich)
    attempt = await hops.agent().deliver(job("mx:example.org", "a@example.org", **fields))
    assert isinstance(only(attempt), Relayed)
    assert (len(poor.messages), len(rich.messages)) == (0, 1)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("what", ["8BITMIME", "SMTPUTF8", "SIZE"])
@pytest.mark.parametrize("script", [{"connect": "554 not now"}, {"connect": CLOSE}, {"EHLO": "421 busy"}])
async def test_a_host_that_can_not_be_asked_keeps_hope(hops: NextHops, what: str, script: Any) -> None:
    fields, offered, _ = LACKING[what]
    poor, silent = hops.remote(extensions=offered), hops.remote(script)
    hops.exchangers("example.org", poor, silent)
    attempt = await hops.agent().deliver(job("mx:example.org", "a@example.org", **fields))
    assert kinds(attempt) == {Deferred}


@pytest_twisted.ensureDeferred
async def test_a_connection_that_a_message_could_not_use_serves_the_next(hops: NextHops) -> None:
    remote = hops.remote(extensions=("PIPELINING",))
    agent = hops.agent()
    assert isinstance(only(await agent.deliver(hops.to(remote, has_8bit=True))), Failed)
    assert isinstance(only(await agent.deliver(hops.to(remote))), Relayed)
    assert len(remote.sessions) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("told", ["SIZE", "SIZE 0", "SIZE 10000000", "SIZE unlimited", "SIZE 99999999999999999999999"])
async def test_a_limit_that_is_none_or_wide_enough_is_none(hops: NextHops, told: str) -> None:
    remote = hops.remote(extensions=(told,))
    attempt = await hops.agent().deliver(hops.to(remote, body=LARGE * 20))
    assert isinstance(only(attempt), Relayed)
    size = len(remote.messages[0].content)
    assert remote.messages[0].mail == f"MAIL FROM:<sender@example.org> SIZE={size}"


@pytest_twisted.ensureDeferred
async def test_dsn_parameters_are_passed_on_where_they_are_understood_and_dropped_elsewhere(hops: NextHops) -> None:
    able, unable = hops.remote(), hops.remote(extensions=("PIPELINING",))
    agent = hops.agent()
    for remote, capable in ((able, True), (unable, False)):
        letter = hops.to(remote, "a@example.org", "b@example.org", "c@example.org", envid="q+1", ret="HDRS")
        asking = [
            {"notify": Notify.SUCCESS | Notify.FAILURE | Notify.DELAY, "orcpt": "rfc822;a=@x.example"},
            {"notify": Notify.NEVER, "orcpt": ""},
            {"notify": Notify.UNSET, "orcpt": ""},
        ]
        recipients = tuple(replace(each, **fields) for each, fields in zip(letter.recipients, asking, strict=True))
        attempt = await agent.deliver(type(letter)(letter.message, recipients, letter.content, letter.destination))
        assert [outcome.dsn_capable for outcome in attempt.outcomes.values()] == [capable] * 3  # type: ignore[union-attr]
    (message,) = able.messages
    assert message.mail.endswith(" RET=HDRS ENVID=q+2B1")
    assert message.recipients == [
        "RCPT TO:<a@example.org> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+3D@x.example",
        "RCPT TO:<b@example.org> NOTIFY=NEVER",
        "RCPT TO:<c@example.org>",
    ]
    (message,) = unable.messages
    assert message.mail == "MAIL FROM:<sender@example.org>"
    assert message.recipients == [f"RCPT TO:<{name}@example.org>" for name in "abc"]


# --- many recipients --------------------------------------------------------------------------------------------------


def takes(most: int, refusal: str) -> Any:
    """A script for RCPT: so many in a transaction, and this for the rest."""

    def answer(session: RemoteSession) -> str:
        since = session.commands[::-1]
        count = next(number for number, command in enumerate(since) if command.startswith("MAIL"))
        return "250 2.1.5 ok" if count <= most else refusal

    return answer


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("refusal", ["452 4.5.3 too many", "452 too many", "552 too many", "552 5.5.3 too many"])
async def test_recipients_too_many_get_further_transactions_on_the_same_connection(
    hops: NextHops, refusal: str, pipelining: bool
) -> None:
    offered = ("PIPELINING",) if pipelining else ()
    remote = hops.remote({"RCPT": takes(40, refusal)}, extensions=offered)
    names = [f"u{number}@example.org" for number in range(100)]
    attempt = await hops.agent().deliver(hops.to(remote, *names))
    assert kinds(attempt) == {Relayed}
    assert len(attempt.outcomes) == 100
    assert [len(message.recipients) for message in remote.messages] == [40, 40, 20]
    everybody = [each for message in remote.messages for each in message.recipients]
    assert everybody == [f"RCPT TO:<{name}>" for name in names]  # each once
    assert len(remote.sessions) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "refusal", ["452 4.2.2 mailbox full", "452 4.3.1 disk full", "450 4.2.1 later", "552 5.2.2 full"]
)
async def test_what_speaks_of_the_mailbox_is_no_matter_of_number(hops: NextHops, refusal: str) -> None:
    remote = hops.remote({"RCPT": takes(1, refusal)})
    attempt = await hops.agent().deliver(hops.to(remote, "a@example.org", "b@example.org"))
    assert isinstance(attempt.outcomes[1], Relayed)
    assert type(attempt.outcomes[2]) is (Failed if refusal.startswith("5") else Deferred)
    assert len(remote.messages) == 1


@pytest_twisted.ensureDeferred
async def test_where_nobody_is_taken_too_many_is_a_deferral_and_no_circle(hops: NextHops) -> None:
    remote = hops.remote({"RCPT": "452 4.5.3 too many"})
    attempt = await hops.agent().deliver(hops.to(remote, "a@example.org", "b@example.org"))
    assert kinds(attempt) == {Deferred}
    assert len([command for command in remote.commands if command.startswith("MAIL")]) == 1


@pytest_twisted.ensureDeferred
async def test_where_the_message_was_refused_after_all_the_rest_waits(hops: NextHops) -> None:
    remote = hops.remote({"RCPT": takes(1, "452 4.5.3 too many"), ".": "451 4.3.0 not today"})
    attempt = await hops.agent().deliver(hops.to(remote, "a@example.org", "b@example.org"))
    assert [(outcome.code, outcome.status) for outcome in attempt.outcomes.values()] == [(451, "4.3.0"), (452, "4.5.3")]
    assert len([command for command in remote.commands if command.startswith("MAIL")]) == 1


@pytest_twisted.ensureDeferred
async def test_a_connection_lost_between_two_transactions_doubles_nobody(hops: NextHops) -> None:
    remote = hops.remote({"RCPT": takes(1, "452 4.5.3 too many"), ".": ["250 2.0.0 taken", CLOSE]})
    attempt = await hops.agent().deliver(hops.to(remote, "a@example.org", "b@example.org"))
    assert isinstance(attempt.outcomes[1], Relayed)
    assert set(attempt.outcomes) == {1, 2}
    assert [message.recipients for message in remote.messages if "RCPT TO:<a@example.org>" in message.recipients] == [
        ["RCPT TO:<a@example.org>"]
    ]


@pytest_twisted.ensureDeferred
async def test_recipients_too_many_for_the_last_message_of_a_connection_go_over_another(
    hops: NextHops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_hop, "MESSAGES_PER_CONNECTION", 1)
    remote = hops.remote({"RCPT": takes(1, "452 4.5.3 too many")})
    attempt = await hops.agent().deliver(hops.to(remote, "a@example.org", "b@example.org", "c@example.org"))
    assert kinds(attempt) == {Relayed}
    assert [len(message.recipients) for message in remote.messages] == [1, 1, 1]
    assert len(remote.sessions) == 3
