"""The relaying agent against a scripted peer on a real socket: what arrives, reuse, and the next host."""

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

from mta.dns.resolver import Temporary
from mta.mail.envelope import BodyFile
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.testing.letters import BODY, HEADER, job
from mta.testing.next_hops import NextHops, kinds, only, pause, until
from mta.testing.remote_host import ABORT, CLOSE, STALL, Turns


@pytest_twisted.ensureDeferred
async def test_a_message_arrives_as_it_was(hops: NextHops) -> None:
    remote = hops.remote()
    attempt = await hops.agent().deliver(hops.to(remote, "a@example.org", "b@example.org"))
    assert set(attempt.outcomes) == {1, 2}
    assert kinds(attempt) == {Relayed}
    (message,) = remote.messages
    assert message.content == HEADER + b"\r\n" + BODY
    assert message.recipients == ["RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>"]
    (tried,) = attempt.trail
    assert (tried.address, tried.reply, tried.phase) == ("127.0.0.1", "250 2.0.0 taken as 1", "end of data")
    assert attempt.rendition == "as accepted"


@pytest_twisted.ensureDeferred
async def test_small_content_is_one_write(hops: NextHops) -> None:
    remote = hops.remote()
    await hops.agent().deliver(hops.to(remote, body=b"x" * 70 + b"\r\n"))
    assert remote.sessions[0].segments[-1].endswith(b"\r\n.\r\n")
    assert len(remote.sessions[0].segments) == 3  # EHLO; MAIL, RCPT and DATA; the message


@pytest_twisted.ensureDeferred
async def test_a_connection_is_used_again_and_left_after_two_idle_seconds(hops: NextHops) -> None:
    remote = hops.remote()
    agent = hops.agent()
    for _ in range(5):
        assert isinstance(only(await agent.deliver(hops.to(remote))), Relayed)
    assert len(remote.sessions) == 1
    hops.clock.pump([1, 1, 1])
    await until(lambda: not remote.sessions[0].alive)
    assert remote.commands[-1] == "QUIT"
    assert isinstance(only(await agent.deliver(hops.to(remote))), Relayed)
    assert len(remote.sessions) == 2


@pytest_twisted.ensureDeferred
async def test_a_connection_carries_a_hundred_messages_at_most(hops: NextHops) -> None:
    remote = hops.remote()
    agent = hops.agent()
    for _ in range(101):
        await agent.deliver(hops.to(remote))
    assert [len([c for c in each.commands if c == "DATA"]) for each in remote.sessions] == [100, 1]


@pytest_twisted.ensureDeferred
async def test_no_more_connections_than_allowed_and_nobody_is_forgotten(hops: NextHops) -> None:
    hops.concurrency = 3
    remote = hops.remote()
    agent = hops.agent()
    attempts = await defer.gatherResults([agent.deliver(hops.to(remote)) for _ in range(40)])
    assert {type(only(attempt)) for attempt in attempts} == {Relayed}
    assert len(remote.sessions) == 3
    assert len(remote.messages) == 40


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("answer", [CLOSE, ABORT, "421 4.4.2 idle too long"])
async def test_a_connection_gone_stale_is_replaced_at_once(hops: NextHops, answer: Any) -> None:
    remote = hops.remote({"MAIL": Turns("250 ok", answer, "250 ok")})
    agent = hops.agent()
    await agent.deliver(hops.to(remote))
    attempt = await agent.deliver(hops.to(remote))
    assert isinstance(only(attempt), Relayed)
    assert len(remote.sessions) == 2


@pytest_twisted.ensureDeferred
async def test_each_recipient_has_its_own_outcome(hops: NextHops) -> None:
    remote = hops.remote({"RCPT TO:<tmp@": "450 4.2.0 later", "RCPT TO:<bad@": "550 5.1.1 nobody"})
    attempt = await hops.agent().deliver(hops.to(remote, "tmp@example.org", "bad@example.org", "good@example.org"))
    assert attempt.outcomes == {
        1: Deferred(450, "4.2.0", "later"),
        2: Failed(550, "5.1.1", "nobody"),
        3: Relayed(250, "2.0.0", "taken as 1", True),
    }


@pytest_twisted.ensureDeferred
async def test_a_large_body_is_streamed_from_its_file(hops: NextHops) -> None:
    body = b"".join(b".%07d" % number + b"x" * 68 + b"\r\n" for number in range(20_000))
    (hops.bodies / "large").write_bytes(body)
    remote = hops.remote()
    attempt = await hops.agent().deliver(hops.to(remote, body=BodyFile("large", len(body))))
    assert isinstance(only(attempt), Relayed)
    assert remote.messages[0].content == HEADER + b"\r\n" + body


@pytest_twisted.ensureDeferred
async def test_what_the_socket_does_not_take_at_once_follows_in_order(hops: NextHops) -> None:
    body = b"".join(b"%07d" % number + b"x" * 69 + b"\r\n" for number in range(100_000))
    remote = hops.remote()
    agent = hops.agent()
    attempts = await defer.gatherResults([agent.deliver(hops.to(remote, body=body)) for _ in range(2)])
    assert {type(only(attempt)) for attempt in attempts} == {Relayed}
    assert [message.content == HEADER + b"\r\n" + body for message in remote.messages] == [True, True]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("octets", [-1, 1, None])
async def test_a_body_that_is_not_what_it_was_is_never_sent_as_whole(hops: NextHops, octets: int | None) -> None:
    if octets is not None:
        (hops.bodies / "large").write_bytes(b"x\r\n" * 100_000)
    remote = hops.remote()
    attempt = await hops.agent().deliver(hops.to(remote, body=BodyFile("large", 300_000 + (octets or 0))))
    assert isinstance(only(attempt), Deferred)
    assert not only(attempt).uncertain
    assert not remote.messages


@pytest_twisted.ensureDeferred
async def test_a_lone_newline_in_content_never_leaves(hops: NextHops) -> None:
    remote = hops.remote()
    attempt = await hops.agent().deliver(hops.to(remote, body=b"a\n.\nMAIL FROM:<evil@example.org>\r\n"))
    assert isinstance(only(attempt), Deferred)
    assert b"evil" not in remote.sessions[0].received


# --- hosts ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_next_host_takes_over_when_one_is_dead(hops: NextHops) -> None:
    remote = hops.remote()
    hops.resolver.mx_table["example.org"] = [(10, "dead.example.org"), (20, "mx2.example.org")]
    hops.resolver.hosts_table |= {"dead.example.org": ["192.0.2.1"], "mx2.example.org": ["192.0.2.2"]}
    agent = hops.agent(ports={"192.0.2.1": 1, "192.0.2.2": remote.port})
    attempt = await agent.deliver(job("mx:example.org", "a@example.org"))
    assert isinstance(only(attempt), Relayed)
    assert [(tried.host, tried.phase) for tried in attempt.trail] == [
        ("dead.example.org", "connect"),
        ("mx2.example.org", "end of data"),
    ]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("script", [{"connect": "554 no"}, {"MAIL": CLOSE}, {"RCPT": "421 busy"}])
async def test_the_next_host_takes_over_when_one_refuses_or_breaks(hops: NextHops, script: Any) -> None:
    bad, good = hops.remote(script), hops.remote()
    hops.resolver.mx_table["example.org"] = [(10, "mx1.example.org"), (20, "mx2.example.org")]
    hops.resolver.hosts_table |= {"mx1.example.org": ["192.0.2.1"], "mx2.example.org": ["192.0.2.2"]}
    agent = hops.agent(ports={"192.0.2.1": bad.port, "192.0.2.2": good.port})
    assert isinstance(only(await agent.deliver(job("mx:example.org", "a@example.org"))), Relayed)
    assert len(good.messages) == 1


@pytest_twisted.ensureDeferred
async def test_after_a_lost_final_reply_no_other_host_is_tried(hops: NextHops) -> None:
    bad, good = hops.remote({".": CLOSE}), hops.remote()
    hops.resolver.mx_table["example.org"] = [(10, "mx1.example.org"), (20, "mx2.example.org")]
    hops.resolver.hosts_table |= {"mx1.example.org": ["192.0.2.1"], "mx2.example.org": ["192.0.2.2"]}
    agent = hops.agent(ports={"192.0.2.1": bad.port, "192.0.2.2": good.port})
    attempt = await agent.deliver(job("mx:example.org", "a@example.org"))
    assert only(attempt).uncertain
    assert not good.sessions


@pytest_twisted.ensureDeferred
async def test_what_one_host_lacks_another_may_have_and_else_it_fails(hops: NextHops) -> None:
    old, new = hops.remote(extensions=("PIPELINING",)), hops.remote()
    hops.resolver.mx_table["example.org"] = [(10, "old.example.org"), (20, "new.example.org")]
    hops.resolver.hosts_table |= {"old.example.org": ["192.0.2.1"], "new.example.org": ["192.0.2.2"]}
    agent = hops.agent(ports={"192.0.2.1": old.port, "192.0.2.2": new.port})
    letter = job("mx:example.org", "a@example.org", body="é\r\n".encode(), has_8bit=True)
    assert isinstance(only(await agent.deliver(letter)), Relayed)
    lonely = await hops.agent().deliver(hops.to(old, body="é\r\n".encode(), has_8bit=True))
    assert only(lonely).status == "5.6.3"
    assert isinstance(only(lonely), Failed)


@pytest_twisted.ensureDeferred
async def test_a_dead_destination_defers_all_who_wait_for_it(hops: NextHops) -> None:
    hops.concurrency = 1
    agent = hops.agent()
    results = [agent.deliver(job("smtp:[127.0.0.1]:1", "a@example.org")) for _ in range(5)]
    attempts = await defer.gatherResults(results)
    assert {only(attempt).status for attempt in attempts} == {"4.4.1"}


@pytest_twisted.ensureDeferred
async def test_what_dns_says_is_the_outcome(hops: NextHops) -> None:
    hops.resolver.mx_table["broken.example"] = Temporary("SERVFAIL")
    agent = hops.agent()
    gone = only(await agent.deliver(job("mx:gone.example", "a@gone.example")))
    broken = only(await agent.deliver(job("mx:broken.example", "a@broken.example")))
    assert (type(gone), gone.status) == (Failed, "5.1.2")
    assert (type(broken), broken.status) == (Deferred, "4.4.3")


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_no_destination_defers(hops: NextHops) -> None:
    agent = hops.agent()
    for key in ("smtp:", "smtp:nohost", "mx:", "smtp:[]:25", "smtp:[h]:port"):
        assert only(await agent.deliver(job(key, "a@example.org"))).status == "4.3.5"


@pytest_twisted.ensureDeferred
async def test_stopping_defers_what_is_under_way_and_closes_everything(hops: NextHops) -> None:
    hops.concurrency = 1
    remote = hops.remote({".": STALL})
    agent = hops.agent()
    carried, waiting = agent.deliver(hops.to(remote)), agent.deliver(hops.to(remote))
    await until(lambda: remote.sessions and b"\r\n.\r\n" in remote.sessions[0].received)
    await pause(0.02)
    stopped = agent.stop()
    assert only(await waiting) == Deferred(0, "4.3.2", "shutting down")
    assert only(await carried).uncertain
    await until(lambda: stopped.called)
    assert only(await agent.deliver(hops.to(remote))).status == "4.3.2"


@pytest_twisted.ensureDeferred
async def test_stopping_waits_for_no_name_server(hops: NextHops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hops.resolver, "mx", lambda _: defer.Deferred())
    agent = hops.agent()
    asking = agent.deliver(job("mx:example.org", "a@example.org"))
    stopped = agent.stop()
    assert only(await asking) == Deferred(0, "4.3.2", "shutting down")
    assert stopped.called
