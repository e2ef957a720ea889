"""How many may come, from where, to which listener; and the end of a house."""

from __future__ import annotations

from typing import Any

import pytest

from mta.mail import reply
from mta.testing.reception import MemoryReception


def test_a_client_over_its_share_is_told_so_and_closed(make: Any) -> None:
    house: MemoryReception = make({"limits": {"connections_per_client": 2}})
    first, second, third = (house.connect() for _ in range(3))
    assert first.read().startswith(b"220 ")
    assert second.read().startswith(b"220 ")
    assert third.read() == reply.TOO_MANY_CONNECTIONS.wire
    assert third.closed
    assert house.connect(client="192.0.2.2").read().startswith(b"220 ")
    first.hang_up()
    assert house.connect().read().startswith(b"220 ")


def test_an_ipv6_network_is_one_client(make: Any) -> None:
    house: MemoryReception = make({"limits": {"connections_per_client": 2}})
    for host in ("2001:db8::1", "2001:db8::2"):
        assert house.connect(client=host).read().startswith(b"220 ")
    assert house.connect(client="2001:db8::3").read().startswith(b"421 ")
    assert house.connect(client="2001:db8:0:1::1").read().startswith(b"220 ")


def test_the_last_slots_are_kept_for_submission(make: Any) -> None:
    house: MemoryReception = make({"limits": {"connections": 10, "reserved_for_submission": 0.2}})
    greetings = [house.connect(client=f"192.0.2.{number}").read()[:3] for number in range(10)]
    assert greetings == [b"220"] * 8 + [b"421"] * 2
    assert house.connect("submission", "198.51.100.1").read().startswith(b"220 ")


def test_a_refused_client_of_implicit_tls_hears_it_inside(make: Any) -> None:
    house: MemoryReception = make({"limits": {"connections_per_client": 1}})
    house.connect("submissions")
    refused = house.connect("submissions")
    assert refused.read() == reply.TOO_MANY_CONNECTIONS.wire
    assert refused.closed
    assert house.reception.counts.total == 1


def test_a_house_that_closes_takes_nobody_in(reception: MemoryReception) -> None:
    before = reception.connect()
    before.read()
    reception.shut_down()
    assert before.read() == reply.SHUTTING_DOWN.wire
    assert before.closed
    assert reception.connect().read() == reply.SHUTTING_DOWN.wire
    assert reception.reception.counts.total == 0


def test_the_end_is_told_when_all_have_gone(reception: MemoryReception) -> None:
    factory = reception.factories["mx"]
    ended: list[None] = []
    factory.close_sessions().addCallback(ended.append)
    assert ended == [None]
    connection = reception.connect()
    reception.reception.closing = True
    factory.close_sessions().addCallback(ended.append)
    assert len(ended) == 1
    reception.settle()
    assert connection.closed
    assert len(ended) == 2


def test_sessions_that_do_not_go_are_cut_off(reception: MemoryReception) -> None:
    connection = reception.connect()
    reception.factories["mx"].abort_sessions()
    assert connection.transport.aborted


@pytest.mark.parametrize("client", ["::ffff:192.0.2.1", "192.0.2.1"])
def test_a_client_has_one_name(reception: MemoryReception, client: str) -> None:
    assert reception.connect(client=client).protocol.session.facts.client_ip == "192.0.2.1"


def test_a_listener_may_be_replaced_under_open_sessions(reception: MemoryReception) -> None:
    factory = reception.factories["mx"]
    old = reception.connect()
    factory.listener = reception.factories["submission"].listener
    new = reception.connect()
    for connection in (old, new):
        connection.send(b"EHLO c.example\r\n")
    assert b"AUTH" not in old.read()
    assert b"AUTH" in new.read()
