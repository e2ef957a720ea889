"""The relaying agent against a scripted peer on a real socket: reuse, fall-back, TLS, and every kind of hostility."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from OpenSSL import SSL
from twisted.internet import defer, reactor, task
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.ssl import PrivateCertificate

from mta.delivery.agent import Attempt, Job
from mta.delivery.mx import Ourselves
from mta.delivery.options import SmtpOptions
from mta.delivery.smtp import SmtpAgent
from mta.dns.resolver import Temporary
from mta.mail.envelope import BodyFile
from mta.mail.outcome import Deferred, Failed, Relayed
from mta.testing.fake_resolver import FakeResolver
from mta.testing.letters import BODY, HEADER, job
from mta.testing.remote_host import ABORT, CLOSE, STALL, RemoteHost, Turns
from mta.tls.client import ClientContexts

REACTOR: Any = reactor


class Bench:
    """An agent with its own clock, and the peers it meets."""

    def __init__(self) -> None:
        self.clock = task.Clock()
        self.clock.advance(1000)
        self.resolver = FakeResolver()
        self.remotes: list[RemoteHost] = []
        self.agents: list[SmtpAgent] = []
        self.bodies = Path()
        self.concurrency = 20

    def remote(self, script: Any = None, **fields: Any) -> RemoteHost:
        remote = RemoteHost(REACTOR, script or {}, **fields)
        remote.start()
        self.remotes.append(remote)
        return remote

    def agent(self, tls: Any = None, port: int = 25, ports: dict[str, int] | None = None) -> SmtpAgent:
        """`ports`: loopback ports behind addresses of the FakeResolver's world."""

        def connect(address: str, wanted: int) -> TCP4ClientEndpoint:
            return TCP4ClientEndpoint(REACTOR, "127.0.0.1", (ports or {}).get(address, wanted), timeout=5)

        options = SmtpOptions("me.example.org", self.concurrency, port, Ourselves("me.example.org"))
        agent = SmtpAgent(
            self.clock,
            resolver=self.resolver,
            random=random.Random(1),
            now=lambda: 1_700_000_000.0 + self.clock.seconds(),
            options=lambda: options,
            body_path=lambda _message, body: self.bodies / body.path,
            tls=tls,
            in_thread=defer.maybeDeferred,
            connect=connect,
        )
        self.agents.append(agent)
        return agent

    async def end(self) -> None:
        for agent in self.agents:
            stopped = agent.stop()
            while not stopped.called:
                self.clock.advance(1)
                await pause()
        for remote in self.remotes:
            await remote.stop()


def pause(seconds: float = 0.005) -> defer.Deferred[None]:
    """Let the reactor turn: real sockets need a moment that is not a fixed one; callers loop on a condition."""
    return task.deferLater(REACTOR, seconds, lambda: None)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await pause()
    raise TimeoutError("it did not come")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench()
    bench.bodies = tmp_path
    yield bench
    pytest_twisted.blockon(defer.ensureDeferred(bench.end()))


@pytest.fixture(scope="module")
def server_tls() -> Any:
    issued = trustme.CA().issue_cert("remote.test")
    pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
    return PrivateCertificate.loadPEM(pem).options()


client_tls = ClientContexts().context_factory


def only(attempt: Attempt) -> Any:
    (outcome,) = attempt.outcomes.values()
    return outcome


def to(remote: RemoteHost, *addresses: str, **fields: Any) -> Job:
    return job(f"smtp:[127.0.0.1]:{remote.port}", *(addresses or ("a@example.org",)), **fields)


@pytest_twisted.ensureDeferred
async def test_a_message_arrives_as_it_was(bench: Bench) -> None:
    remote = bench.remote()
    attempt = await bench.agent().deliver(to(remote, "a@example.org", "b@example.org"))
    assert set(attempt.outcomes) == {1, 2}
    assert only_kinds(attempt) == {Relayed}
    (message,) = remote.messages
    assert message.content == HEADER + b"\r\n" + BODY
    assert message.recipients == ["RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>"]
    (tried,) = attempt.trail
    assert (tried.address, tried.reply, tried.phase) == ("127.0.0.1", "250 2.0.0 taken as 1", "end of data")
    assert attempt.rendition == "as accepted"


def only_kinds(attempt: Attempt) -> set[type]:
    return {type(outcome) for outcome in attempt.outcomes.values()}


@pytest_twisted.ensureDeferred
async def test_small_content_is_one_write(bench: Bench) -> None:
    remote = bench.remote()
    await bench.agent().deliver(to(remote, body=b"x" * 70 + b"\r\n"))
    assert remote.sessions[0].segments[-1].endswith(b"\r\n.\r\n")
    assert len(remote.sessions[0].segments) == 3  # EHLO; MAIL, RCPT and DATA; the message


@pytest_twisted.ensureDeferred
async def test_a_connection_is_used_again_and_left_after_two_idle_seconds(bench: Bench) -> None:
    remote = bench.remote()
    agent = bench.agent()
    for _ in range(5):
        assert isinstance(only(await agent.deliver(to(remote))), Relayed)
    assert len(remote.sessions) == 1
    bench.clock.pump([1, 1, 1])
    await until(lambda: not remote.sessions[0].alive)
    assert remote.commands[-1] == "QUIT"
    assert isinstance(only(await agent.deliver(to(remote))), Relayed)
    assert len(remote.sessions) == 2


@pytest_twisted.ensureDeferred
async def test_a_connection_carries_a_hundred_messages_at_most(bench: Bench) -> None:
    remote = bench.remote()
    agent = bench.agent()
    for _ in range(101):
        await agent.deliver(to(remote))
    assert [len([c for c in each.commands if c == "DATA"]) for each in remote.sessions] == [100, 1]


@pytest_twisted.ensureDeferred
async def test_no_more_connections_than_allowed_and_nobody_is_forgotten(bench: Bench) -> None:
    bench.concurrency = 3
    remote = bench.remote()
    agent = bench.agent()
    attempts = await defer.gatherResults([agent.deliver(to(remote)) for _ in range(40)])
    assert {type(only(attempt)) for attempt in attempts} == {Relayed}
    assert len(remote.sessions) == 3
    assert len(remote.messages) == 40


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("answer", [CLOSE, ABORT, "421 4.4.2 idle too long"])
async def test_a_connection_gone_stale_is_replaced_at_once(bench: Bench, answer: Any) -> None:
    remote = bench.remote({"MAIL": Turns("250 ok", answer, "250 ok")})
    agent = bench.agent()
    await agent.deliver(to(remote))
    attempt = await agent.deliver(to(remote))
    assert isinstance(only(attempt), Relayed)
    assert len(remote.sessions) == 2


@pytest_twisted.ensureDeferred
async def test_each_recipient_has_its_own_outcome(bench: Bench) -> None:
    remote = bench.remote({"RCPT TO:<tmp@": "450 4.2.0 later", "RCPT TO:<bad@": "550 5.1.1 nobody"})
    attempt = await bench.agent().deliver(to(remote, "tmp@example.org", "bad@example.org", "good@example.org"))
    assert attempt.outcomes == {
        1: Deferred(450, "4.2.0", "later"),
        2: Failed(550, "5.1.1", "nobody"),
        3: Relayed(250, "2.0.0", "taken as 1", True),
    }


@pytest_twisted.ensureDeferred
async def test_a_large_body_is_streamed_from_its_file(bench: Bench) -> None:
    body = b"".join(b".%07d" % number + b"x" * 68 + b"\r\n" for number in range(20_000))
    (bench.bodies / "large").write_bytes(body)
    remote = bench.remote()
    attempt = await bench.agent().deliver(to(remote, body=BodyFile("large", len(body))))
    assert isinstance(only(attempt), Relayed)
    assert remote.messages[0].content == HEADER + b"\r\n" + body


@pytest_twisted.ensureDeferred
async def test_what_the_socket_does_not_take_at_once_follows_in_order(bench: Bench) -> None:
    body = b"".join(b"%07d" % number + b"x" * 69 + b"\r\n" for number in range(100_000))
    remote = bench.remote()
    agent = bench.agent()
    attempts = await defer.gatherResults([agent.deliver(to(remote, body=body)) for _ in range(2)])
    assert {type(only(attempt)) for attempt in attempts} == {Relayed}
    assert [message.content == HEADER + b"\r\n" + body for message in remote.messages] == [True, True]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("octets", [-1, 1, None])
async def test_a_body_that_is_not_what_it_was_is_never_sent_as_whole(bench: Bench, octets: int | None) -> None:
    if octets is not None:
        (bench.bodies / "large").write_bytes(b"x\r\n" * 100_000)
    remote = bench.remote()
    attempt = await bench.agent().deliver(to(remote, body=BodyFile("large", 300_000 + (octets or 0))))
    assert isinstance(only(attempt), Deferred)
    assert not only(attempt).uncertain
    assert not remote.messages


@pytest_twisted.ensureDeferred
async def test_a_lone_newline_in_content_never_leaves(bench: Bench) -> None:
    remote = bench.remote()
    attempt = await bench.agent().deliver(to(remote, body=b"a\n.\nMAIL FROM:<evil@example.org>\r\n"))
    assert isinstance(only(attempt), Deferred)
    assert b"evil" not in remote.sessions[0].received


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_tls_is_used_when_it_is_offered(bench: Bench, server_tls: Any) -> None:
    remote = bench.remote(tls=server_tls)
    attempt = await bench.agent(tls=client_tls).deliver(to(remote))
    assert isinstance(only(attempt), Relayed)
    assert remote.messages[0].tls
    assert attempt.trail[0].tls.startswith("TLSv1.3 ")
    assert [command.split()[0] for command in remote.commands][:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


@pytest_twisted.ensureDeferred
async def test_a_large_body_goes_through_tls(bench: Bench, server_tls: Any) -> None:
    body = b"y" * 70 + b"\r\n"
    (bench.bodies / "large").write_bytes(body * 10_000)
    remote = bench.remote(tls=server_tls)
    attempt = await bench.agent(tls=client_tls).deliver(to(remote, body=BodyFile("large", 720_000)))
    assert isinstance(only(attempt), Relayed)
    assert len(remote.messages[0].content) == 720_000 + len(HEADER) + 2


@pytest_twisted.ensureDeferred
async def test_a_failed_handshake_is_followed_by_clear_text_on_a_new_connection(bench: Bench) -> None:
    class Broken:
        def getContext(self) -> SSL.Context:
            return SSL.Context(SSL.TLS_SERVER_METHOD)

    remote = bench.remote(tls=Broken())
    agent = bench.agent(tls=client_tls)
    attempt = await agent.deliver(to(remote))
    assert isinstance(only(attempt), Relayed)
    assert not remote.messages[0].tls
    assert [tried.phase for tried in attempt.trail] == ["TLS handshake", "end of data"]
    assert len(remote.sessions) == 2
    assert "STARTTLS" not in remote.sessions[1].commands


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_stalls_ends_in_clear_text(bench: Bench) -> None:
    remote = bench.remote({"STARTTLS": "220 go"}, extensions=("STARTTLS", "PIPELINING"))
    attempt = bench.agent(tls=client_tls).deliver(to(remote))
    await until(lambda: "STARTTLS" in remote.commands and len(remote.sessions[0].segments) == 3)
    bench.clock.pump([1] * 62)
    assert isinstance(only(await attempt), Relayed)


@pytest_twisted.ensureDeferred
async def test_clear_text_behind_starttls_ends_the_session_and_nothing_was_said_into_it(bench: Bench) -> None:
    injected = b"220 go\r\n250-remote\r\n250 AUTH PLAIN LOGIN\r\n"
    remote = bench.remote({"STARTTLS": injected}, extensions=("STARTTLS", "PIPELINING"))
    attempt = await bench.agent(tls=client_tls).deliver(to(remote))
    assert isinstance(only(attempt), Deferred)
    assert remote.sessions[0].received == b"EHLO me.example.org\r\nSTARTTLS\r\n"
    assert len(remote.sessions) == 1


# --- hostile peers ----------------------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[dict[str, Any], bool]] = {
    "closes at once": ({"connect": CLOSE}, False),
    "resets at once": ({"connect": ABORT}, False),
    "speaks HTTP": ({"connect": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, False),
    "greets with 554": ({"connect": "554 no"}, False),
    "greets with 421 and closes": ({"connect": ["421 busy", CLOSE]}, False),
    "never ends its greeting": ({"connect": b"220-hello\r\n" * 100_000}, False),
    "never ends its line": ({"connect": b"220 " + b"x" * 1_000_000}, False),
    "refuses every hello": ({"EHLO": "550 no", "HELO": "550 no"}, False),
    "hides a second reply behind EHLO's": ({"EHLO": b"250 remote\r\n250 ok\r\n"}, False),
    "closes at MAIL": ({"MAIL": CLOSE}, False),
    "answers MAIL with 354": ({"MAIL": "354 go"}, False),
    "answers RCPT with binary": ({"RCPT": b"\x00\xff\r\n"}, False),
    "says 421 at RCPT": ({"RCPT": ["421 enough", CLOSE]}, False),
    "answers DATA with 250": ({"DATA": "250 ok"}, False),
    "takes the message before it came": ({"DATA": b"354 go\r\n250 taken\r\n"}, False),
    "resets after DATA": ({"DATA": ABORT}, False),
    "closes without a word after the dot": ({".": CLOSE}, True),
    "resets after the dot": ({".": ABORT}, True),
    "answers the dot with rubbish": ({".": b"thanks\r\n"}, True),
    "answers the dot with 354": ({".": "354 more"}, True),
    "answers half a reply to the dot": ({".": [b"250-tak", CLOSE]}, True),
    "says 421 to the dot": ({".": "421 4.3.2 no"}, False),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", HOSTILE)
async def test_whatever_a_peer_does_the_message_is_deferred(bench: Bench, kind: str) -> None:
    script, uncertain = HOSTILE[kind]
    remote = bench.remote(script)
    attempt = await bench.agent().deliver(to(remote, "a@example.org", "b@example.org"))
    assert only_kinds(attempt) == {Deferred}
    assert {outcome.uncertain for outcome in attempt.outcomes.values()} == {uncertain}
    assert all(outcome.status.startswith("4.") for outcome in attempt.outcomes.values())
    assert attempt.trail[-1].reply.isprintable()


STALLS = {"connect": 300, "EHLO": 300, "MAIL": 300, "RCPT": 300, "DATA": 120, ".": 600}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", STALLS)
async def test_a_peer_that_falls_silent_is_left_at_its_time_and_not_before(bench: Bench, where: str) -> None:
    remote = bench.remote({where: STALL}, extensions=())
    result = bench.agent().deliver(to(remote))
    awaited = {"connect": lambda: remote.sessions, ".": lambda: b"\r\n.\r\n" in remote.sessions[0].received}
    usual = lambda: remote.sessions and remote.commands and remote.commands[-1].startswith(where)  # noqa: E731
    await until(awaited.get(where, usual) if where != "." else lambda: remote.sessions and awaited["."]())
    await pause(0.02)
    bench.clock.pump([1] * (STALLS[where] - 1))
    assert not result.called
    bench.clock.pump([1] * 3)
    attempt = await result
    assert isinstance(only(attempt), Deferred)
    assert only(attempt).uncertain == (where == ".")


@pytest_twisted.ensureDeferred
async def test_a_trickle_of_octets_buys_no_time(bench: Bench) -> None:
    remote = bench.remote({"MAIL": b"250"})
    result = bench.agent().deliver(to(remote))
    await until(lambda: remote.sessions and any(c.startswith("MAIL") for c in remote.commands))
    for _ in range(6):
        bench.clock.pump([1] * 50)
        remote.sessions[0].wire.write(b"-")
        await pause()
    bench.clock.pump([1] * 5)
    assert isinstance(only(await result), Deferred)


# --- hosts ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_next_host_takes_over_when_one_is_dead(bench: Bench) -> None:
    remote = bench.remote()
    bench.resolver.mx_table["example.org"] = [(10, "dead.example.org"), (20, "mx2.example.org")]
    bench.resolver.hosts_table |= {"dead.example.org": ["192.0.2.1"], "mx2.example.org": ["192.0.2.2"]}
    agent = bench.agent(ports={"192.0.2.1": 1, "192.0.2.2": remote.port})
    attempt = await agent.deliver(job("mx:example.org", "a@example.org"))
    assert isinstance(only(attempt), Relayed)
    assert [(tried.host, tried.phase) for tried in attempt.trail] == [
        ("dead.example.org", "connect"),
        ("mx2.example.org", "end of data"),
    ]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("script", [{"connect": "554 no"}, {"MAIL": CLOSE}, {"RCPT": "421 busy"}])
async def test_the_next_host_takes_over_when_one_refuses_or_breaks(bench: Bench, script: Any) -> None:
    bad, good = bench.remote(script), bench.remote()
    bench.resolver.mx_table["example.org"] = [(10, "mx1.example.org"), (20, "mx2.example.org")]
    bench.resolver.hosts_table |= {"mx1.example.org": ["192.0.2.1"], "mx2.example.org": ["192.0.2.2"]}
    agent = bench.agent(ports={"192.0.2.1": bad.port, "192.0.2.2": good.port})
    assert isinstance(only(await agent.deliver(job("mx:example.org", "a@example.org"))), Relayed)
    assert len(good.messages) == 1


@pytest_twisted.ensureDeferred
async def test_after_a_lost_final_reply_no_other_host_is_tried(bench: Bench) -> None:
    bad, good = bench.remote({".": CLOSE}), bench.remote()
    bench.resolver.mx_table["example.org"] = [(10, "mx1.example.org"), (20, "mx2.example.org")]
    bench.resolver.hosts_table |= {"mx1.example.org": ["192.0.2.1"], "mx2.example.org": ["192.0.2.2"]}
    agent = bench.agent(ports={"192.0.2.1": bad.port, "192.0.2.2": good.port})
    attempt = await agent.deliver(job("mx:example.org", "a@example.org"))
    assert only(attempt).uncertain
    assert not good.sessions


@pytest_twisted.ensureDeferred
async def test_what_one_host_lacks_another_may_have_and_else_it_fails(bench: Bench) -> None:
    old, new = bench.remote(extensions=("PIPELINING",)), bench.remote()
    bench.resolver.mx_table["example.org"] = [(10, "old.example.org"), (20, "new.example.org")]
    bench.resolver.hosts_table |= {"old.example.org": ["192.0.2.1"], "new.example.org": ["192.0.2.2"]}
    agent = bench.agent(ports={"192.0.2.1": old.port, "192.0.2.2": new.port})
    letter = job("mx:example.org", "a@example.org", body="é\r\n".encode(), has_8bit=True)
    assert isinstance(only(await agent.deliver(letter)), Relayed)
    lonely = await bench.agent().deliver(to(old, body="é\r\n".encode(), has_8bit=True))
    assert only(lonely).status == "5.6.3"
    assert isinstance(only(lonely), Failed)


@pytest_twisted.ensureDeferred
async def test_a_dead_destination_defers_all_who_wait_for_it(bench: Bench) -> None:
    bench.concurrency = 1
    agent = bench.agent()
    results = [agent.deliver(job("smtp:[127.0.0.1]:1", "a@example.org")) for _ in range(5)]
    attempts = await defer.gatherResults(results)
    assert {only(attempt).status for attempt in attempts} == {"4.4.1"}


@pytest_twisted.ensureDeferred
async def test_what_dns_says_is_the_outcome(bench: Bench) -> None:
    bench.resolver.mx_table["broken.example"] = Temporary("SERVFAIL")
    agent = bench.agent()
    gone = only(await agent.deliver(job("mx:gone.example", "a@gone.example")))
    broken = only(await agent.deliver(job("mx:broken.example", "a@broken.example")))
    assert (type(gone), gone.status) == (Failed, "5.1.2")
    assert (type(broken), broken.status) == (Deferred, "4.4.3")


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_no_destination_defers(bench: Bench) -> None:
    agent = bench.agent()
    for key in ("smtp:", "smtp:nohost", "mx:", "smtp:[]:25", "smtp:[h]:port"):
        assert only(await agent.deliver(job(key, "a@example.org"))).status == "4.3.5"


@pytest_twisted.ensureDeferred
async def test_stopping_defers_what_is_under_way_and_closes_everything(bench: Bench) -> None:
    bench.concurrency = 1
    remote = bench.remote({".": STALL})
    agent = bench.agent()
    carried, waiting = agent.deliver(to(remote)), agent.deliver(to(remote))
    await until(lambda: remote.sessions and b"\r\n.\r\n" in remote.sessions[0].received)
    await pause(0.02)
    stopped = agent.stop()
    assert only(await waiting) == Deferred(0, "4.3.2", "shutting down")
    assert only(await carried).uncertain
    await until(lambda: stopped.called)
    assert only(await agent.deliver(to(remote))).status == "4.3.2"
