"""The stub resolver: what name servers say, as types; what is remembered; what the hosts file knows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, task
from twisted.names import dns, error

from mta.dns.resolver import Answer, MailExchanger, NoData, NoSuchName, Temporary
from mta.dns.stub import StubResolver


class NameServer:
    """Stands for twisted.names' client: `say` for each kind of question and name; `asked` counts."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str]] = []

    def _look_up(self, kind: str, name: str) -> defer.Deferred[Any]:
        self.asked.append((kind, name))
        answer = self.answers.get((kind, name), error.DNSNameError("no"))
        if isinstance(answer, Exception):
            return defer.fail(answer)
        return defer.succeed((answer, [], []))

    def lookupMailExchange(self, name: str) -> defer.Deferred[Any]:
        return self._look_up("MX", name)

    def lookupAddress(self, name: str) -> defer.Deferred[Any]:
        return self._look_up("A", name)

    def lookupIPV6Address(self, name: str) -> defer.Deferred[Any]:
        return self._look_up("AAAA", name)


def record(payload: Any, ttl: int = 300) -> Any:
    return dns.RRHeader(b"name.example", payload.TYPE, dns.IN, ttl, payload)


def mx(preference: int, host: str, ttl: int = 300) -> Any:
    return record(dns.Record_MX(preference, host), ttl)


class World:
    def __init__(self, hosts_file: Path) -> None:
        self.clock = task.Clock()
        self.server = NameServer()
        self.hosts_file = hosts_file
        self.resolver = StubResolver(self.clock, servers=[("192.0.2.53", 53)], hosts_file=str(hosts_file))
        self.resolver._dns = self.server

    def ask(self, asked: defer.Deferred[Any]) -> Any:
        found: list[Any] = []
        asked.addBoth(found.append)
        return found[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "hosts").write_text(
        "127.0.0.1 localhost\n::1 localhost ip6 # comment\n192.0.2.7 One.example one\nbad line\n"
    )
    world = World(tmp_path / "hosts")
    yield world
    world.resolver.close()


def test_mail_exchangers(world: World) -> None:
    world.server.answers["MX", "d.example"] = [mx(10, "A.Example"), mx(20, "b.example")]
    expected = Answer((MailExchanger(10, "a.example"), MailExchanger(20, "b.example")))
    assert world.ask(world.resolver.mx("d.example")) == expected


def test_the_null_mx_is_an_empty_host(world: World) -> None:
    world.server.answers["MX", "d.example"] = [mx(0, "")]
    assert world.ask(world.resolver.mx("d.example")) == Answer((MailExchanger(0, ""),))


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (error.DNSNameError("x"), NoSuchName()),
        ([], NoData()),
        (error.DNSServerError("x"), Temporary("SERVFAIL")),
        (error.DNSQueryTimeoutError(1), Temporary("no answer from the name servers")),
        (defer.TimeoutError("x"), Temporary("no answer from the name servers")),
        (OSError("x"), Temporary("no answer from the name servers")),
        (error.DNSQueryRefusedError("x"), Temporary("DNS: DNSQueryRefusedError")),
    ],
)
def test_only_nxdomain_says_that_there_is_no_such_name(world: World, said: Any, answer: Any) -> None:
    world.server.answers["MX", "d.example"] = said
    found = world.ask(world.resolver.mx("d.example"))
    assert found == answer


def test_a_name_that_is_no_name_is_left_to_the_judgement_of_who_asked(world: World) -> None:
    bad = mx(10, "x")
    bad.payload.name.name = b"\xff/..\x00.example"
    world.server.answers["MX", "d.example"] = [bad]
    assert world.ask(world.resolver.mx("d.example")) == Answer((MailExchanger(10, "\\xff/..\x00.example"),))


def test_addresses_of_both_kinds_ipv4_first(world: World) -> None:
    world.server.answers["A", "h.example"] = [record(dns.Record_A("192.0.2.1"))]
    world.server.answers["AAAA", "h.example"] = [record(dns.Record_AAAA("2001:db8::1"))]
    assert world.ask(world.resolver.addresses("h.example")) == Answer(("192.0.2.1", "2001:db8::1"))


@pytest.mark.parametrize(
    ("four", "six", "answer"),
    [
        (error.DNSNameError("x"), error.DNSNameError("x"), NoSuchName()),
        ([], [], NoData()),
        ([], error.DNSServerError("x"), Temporary("SERVFAIL")),
        (error.DNSNameError("x"), error.DNSServerError("x"), Temporary("SERVFAIL")),
        ([record(dns.Record_A("192.0.2.1"))], error.DNSServerError("x"), Answer(("192.0.2.1",))),
    ],
)
def test_two_questions_make_one_answer(world: World, four: Any, six: Any, answer: Any) -> None:
    world.server.answers["A", "h.example"], world.server.answers["AAAA", "h.example"] = four, six
    assert world.ask(world.resolver.addresses("h.example")) == answer


def test_answers_are_remembered_while_they_live_and_trouble_is_not(world: World) -> None:
    world.server.answers["MX", "d.example"] = [mx(10, "a.example", ttl=100)]
    for seconds in (0, 60, 60):
        world.clock.advance(seconds)
        world.ask(world.resolver.mx("d.example"))
    assert world.server.asked == [("MX", "d.example")] * 2
    world.server.answers["MX", "e.example"] = error.DNSServerError("x")
    world.ask(world.resolver.mx("e.example"))
    world.ask(world.resolver.mx("e.example"))
    assert world.server.asked.count(("MX", "e.example")) == 2


def test_a_life_of_nothing_still_spares_the_name_server(world: World) -> None:
    world.server.answers["MX", "d.example"] = [mx(10, "a.example", ttl=0)]
    world.ask(world.resolver.mx("d.example"))
    world.clock.advance(4)
    world.ask(world.resolver.mx("d.example"))
    assert len(world.server.asked) == 1


def test_the_hosts_file_comes_first_and_is_read_again_when_it_changed(world: World) -> None:
    assert world.ask(world.resolver.addresses("localhost")) == Answer(("127.0.0.1", "::1"))
    assert world.ask(world.resolver.addresses("ONE.example")) == Answer(("192.0.2.7",))
    world.hosts_file.write_text("192.0.2.8 two.example\n")
    assert world.ask(world.resolver.addresses("two.example")) == Answer(("192.0.2.8",))
    assert world.server.asked == []
    world.hosts_file.unlink()
    assert world.ask(world.resolver.addresses("two.example")) == NoSuchName()


def test_a_name_that_can_not_be_asked_for_is_temporary(world: World) -> None:
    def broken(_name: str) -> Any:
        raise ValueError("label too long")

    world.server.lookupMailExchange = broken  # type: ignore[method-assign]
    assert world.ask(world.resolver.mx("x" * 64)) == Temporary("DNS: ValueError")
