"""resolv.conf, the configuration's servers, and whose turn it is."""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from mta.config.name_server import parse_name_server
from mta.dns.servers import DnsOptions, Plan, ResolvConf, Server, Servers, parse_resolv_conf


def servers_of(path: Path, clock: Clock, **options: Any) -> Servers:
    return Servers(DnsOptions(resolv_conf=str(path), **options), clock.seconds)


def names(servers: Servers) -> list[str]:
    return [str(each) for each in servers.plan().servers]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ResolvConf()),
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1 # home\n", ResolvConf(("192.0.2.1", "2001:db8::1"))),
        ("nameserver fe80::1%eth0\n", ResolvConf(("fe80::1%eth0",))),
        ("; x\n# nameserver 192.0.2.9\nnameserver\nnameserver not-one\nsearch a.example\n", ResolvConf()),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n", ResolvConf(("192.0.2.1",))),
        ("options timeout:2 attempts:3 rotate edns0 trust-ad\n", ResolvConf((), 2.0, 3, True)),
        ("options timeout:1000 attempts:1000\n", ResolvConf((), 30.0, 5, False)),
        ("options timeout:0 attempts:x timeout:-1 attempts:\n", ResolvConf()),
    ],
)
def test_resolv_conf(text: str, found: ResolvConf) -> None:
    assert parse_resolv_conf(text) == found


def test_resolv_conf_is_read_again_when_it_changed_and_an_empty_one_is_not_believed(tmp_path: Path) -> None:
    path, clock = tmp_path / "resolv.conf", Clock()
    path.write_text("nameserver 192.0.2.1\noptions timeout:3 attempts:4\n")
    servers = servers_of(path, clock)
    plan = servers.plan()
    assert ([str(each) for each in plan.servers], plan.timeout_seconds, plan.attempts) == (["192.0.2.1"], 3.0, 4)
    path.write_text("")
    clock.advance(1)
    assert names(servers) == ["192.0.2.1"]
    path.write_text("nameserver 192.0.2.2\n")
    assert names(servers) == ["192.0.2.1"]  # looked at once a second
    clock.advance(1)
    assert names(servers) == ["192.0.2.2"]


def test_without_resolv_conf_the_server_is_on_this_machine(tmp_path: Path) -> None:
    assert names(servers_of(tmp_path / "none", Clock())) == ["127.0.0.1"]


def test_the_configuration_comes_before_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\noptions timeout:3 attempts:4 rotate\n")
    servers = servers_of(path, Clock(), servers=(("192.0.2.8", 53), ("::1", 5353)), timeout_seconds=1.5)
    plans = [servers.plan() for _ in range(2)]
    assert [str(each) for each in plans[1].servers] == ["192.0.2.8", "[::1]:5353"]
    assert (plans[0].timeout_seconds, plans[0].attempts) == (1.5, 4)


def test_rotation_begins_with_another_server_each_time(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("".join(f"nameserver 192.0.2.{number}\n" for number in (1, 2, 3)) + "options rotate\n")
    servers = servers_of(path, Clock())
    assert sorted(names(servers)[0] for _ in range(3)) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_what_a_server_did_is_remembered_while_it_is_one(tmp_path: Path) -> None:
    path, clock = tmp_path / "resolv.conf", Clock()
    path.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    servers = servers_of(path, clock)
    servers.silent(servers.plan().servers[0])
    assert names(servers) == ["192.0.2.2", "192.0.2.1"]
    path.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.3\n")
    clock.advance(1)
    assert names(servers) == ["192.0.2.3", "192.0.2.1"]
    servers.answered(servers.plan().servers[1])
    assert names(servers) == ["192.0.2.1", "192.0.2.3"]


def test_the_first_round_is_the_same_for_each_server_and_later_ones_share_twice_the_time() -> None:
    three = tuple(Server(f"192.0.2.{number}", 53, trusted=False) for number in range(3))
    assert [Plan(three, 6.0, 3).patience(attempt) for attempt in range(3)] == [6.0, 4.0, 8.0]
    assert [Plan(three[:1], 5.0, 2).patience(attempt) for attempt in range(2)] == [5.0, 10.0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:DB8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("fe80::1%eth0", ("fe80::1%eth0", 53)),
    ],
)
def test_a_name_server_as_people_write_it(text: str, found: tuple[str, int]) -> None:
    assert parse_name_server(text) == found


@pytest.mark.parametrize("text", ["", "ns.example", "192.0.2.53:0", "192.0.2.53:99999", "192.0.2.1%eth0", "fe80::1%", "[::1", "1.2.3"])  # fmt: skip
def test_what_is_no_name_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no name server"):
        parse_name_server(text)
