"""This host's own addresses: of its interfaces, of its listeners, looked at again now and then."""

import json
import subprocess

import pytest
from twisted.internet.task import Clock

from mta.config.model import Configuration
from mta.service import own_addresses
from mta.service.own_addresses import OwnAddresses, addresses_of_interfaces
from mta.testing.processes import absent


def configuration(*endpoints: str) -> Configuration:
    listener = {"name": "mx", "endpoints": list(endpoints), "kind": "mx", "tls": "none"}
    route = {"domains": ["*"], "via": "mx"}
    return Configuration(hostname="mail.us.example", postmaster="a@us.example", listener=[listener], route=[route])  # type: ignore[arg-type]


@pytest.mark.skipif(bool(absent("ip")), reason="needs iproute2")
def test_the_kernel_says_what_ip_says() -> None:
    told = json.loads(subprocess.run(["ip", "-json", "address"], check=True, capture_output=True).stdout)
    assert addresses_of_interfaces() == {info["local"] for link in told for info in link["addr_info"]}
    assert "127.0.0.1" in addresses_of_interfaces()


def test_what_listeners_name_is_ours_too() -> None:
    taken = configuration("tcp:25", "tcp:26:interface=192.0.2.7", r"tcp6:25:interface=2001\:DB8\:\:7")
    own = OwnAddresses(lambda: taken, Clock().seconds, interfaces=lambda: frozenset({"192.0.2.1"}))
    assert own() == {"192.0.2.1", "192.0.2.7", "2001:db8::7"}


def test_interfaces_are_looked_at_once_a_minute_and_at_a_reload() -> None:
    clock, answers = Clock(), [frozenset({f"192.0.2.{number}"}) for number in (3, 2, 1)]
    now = configuration("tcp:25")
    own = OwnAddresses(lambda: now, clock.seconds, interfaces=answers.pop)
    assert own() == own() == {"192.0.2.1"}
    clock.advance(60)
    assert own() == {"192.0.2.2"}
    now = configuration("tcp:25:interface=192.0.2.9")
    assert own() == {"192.0.2.3", "192.0.2.9"}


def test_what_was_known_holds_when_the_kernel_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, warned = Clock(), []
    monkeypatch.setattr(own_addresses._log, "warn", lambda *_, **__: warned.append(1))
    answers = [frozenset({"192.0.2.1"})]

    def interfaces() -> frozenset[str]:
        if not answers:
            raise OSError("no")
        return answers.pop()

    taken = configuration("tcp:25")
    own = OwnAddresses(lambda: taken, clock.seconds, interfaces)
    for _ in range(3):
        assert own() == {"192.0.2.1"}
        clock.advance(60)
    assert warned == [1]


def test_a_point_to_point_link_is_ours_by_its_local_address() -> None:
    four = (
        own_addresses._ATTRIBUTE.pack(8, 1)
        + b"\xc0\x00\x02\x63"
        + own_addresses._ATTRIBUTE.pack(8, 2)
        + b"\xc0\x00\x02\x01"
    )
    assert own_addresses._own(bytes(8) + four) == {"192.0.2.1"}
    assert own_addresses._own(bytes(8) + four[:8]) == {"192.0.2.99"}
    assert own_addresses._own(bytes(8) + b"\x00\x00\x00") == own_addresses._own(bytes(8) + bytes(8)) == set()
