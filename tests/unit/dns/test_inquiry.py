"""A question and its name servers: which is asked, when, over what, and which answers are believed."""

from collections.abc import Callable
from typing import Any

import pytest

from mta.dns.exchange import STRAYS_LIMIT
from mta.dns.resolver import Answer, MailExchanger, NoSuchName, RecordType, Temporary, Trouble
from mta.dns.servers import DnsOptions
from mta.testing.scripted_name_servers import Asked, a, mx, respond

FIRST, SECOND = "192.0.2.53", "192.0.2.54"
RECORD = mx("d.example", 10, "mx.d.example")
FOUND = Answer((MailExchanger(10, "mx.d.example"),))
FORGED = mx("d.example", 10, "mx.evil.example")
Always = Callable[..., Any]


def asked_of(world: Any) -> list[str]:
    return [each.server for each in world.network.asked]


def test_a_question_has_edns0_an_ad_bit_and_wants_recursion(world: Any, always: Always) -> None:
    world.say(always(RECORD))
    world.ask(world.resolver.mx("d.example"))
    [asked] = world.network.asked
    assert (asked.edns_octets, asked.wants_ad, asked.recursion_desired, asked.dnssec) == (1232, True, True, False)


def test_each_question_has_an_id_of_its_own(world: Any, always: Always) -> None:
    world.say(always(rcode=3))
    for number in range(50):
        world.ask(world.resolver.mx(f"d{number}.example"))
    ids = [each.id for each in world.network.asked]
    assert len(set(ids)) >= 49
    assert max(ids) > 40_000
    assert ids != sorted(ids)


# --- DNSSEC -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "trusted", "believed"),
    [
        ("127.0.0.1", [], True),
        ("::1", [], True),
        ("192.0.2.53", [], False),
        ("192.0.2.53", ["192.0.2.0/24"], True),
        ("2001:db8::53", ["192.0.2.0/24"], False),
    ],
)
def test_the_ad_bit_is_believed_of_loopback_and_of_listed_servers_alone(
    world: Any, always: Always, server: str, trusted: list[str], believed: bool
) -> None:
    import ipaddress

    networks = tuple(ipaddress.ip_network(each) for each in trusted)
    resolver = world.make(DnsOptions(((server, 53),), networks))
    world.network.servers[server] = always(RECORD, authentic=True)
    assert world.ask(resolver.mx("d.example")) == Answer(FOUND.records, authentic=believed)
    world.network.servers[server] = always(rcode=3, authentic=True)
    assert world.ask(resolver.mx("e.example")) == NoSuchName(authentic=believed)
    assert {each.dnssec for each in world.network.asked} == {believed}  # signatures only where they are of use


def test_without_the_ad_bit_nothing_is_authentic(world: Any, always: Always) -> None:
    resolver = world.make(DnsOptions((("127.0.0.1", 53),)))
    world.network.servers["127.0.0.1"] = always(RECORD)
    assert world.ask(resolver.mx("d.example")) == FOUND


# --- EDNS0 that is not known ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rcode", [1, 4])
def test_a_server_without_edns0_is_asked_without_it_and_remembered(world: Any, rcode: int) -> None:
    def old(asked: Asked) -> bytes:
        return respond(asked, rcode=rcode) if asked.edns_octets else respond(asked, rcode=3)

    world.say(old)
    assert world.ask(world.resolver.mx("d.example")) == NoSuchName()
    assert [each.edns_octets for each in world.network.asked] == [1232, 0]
    assert world.ask(world.resolver.mx("e.example")) == NoSuchName()
    assert [each.edns_octets for each in world.network.asked] == [1232, 0, 0]
    assert asked_of(world) == [FIRST] * 3
    world.pass_time(3601)
    world.ask(world.resolver.mx("f.example"))
    assert world.network.asked[3].edns_octets == 1232


def test_formerr_may_come_without_the_question(world: Any) -> None:
    def old(asked: Asked) -> bytes:
        if asked.edns_octets:
            return asked.id.to_bytes(2, "big") + b"\x81\x81" + bytes(8)
        return respond(asked, rcode=3)

    world.say(old)
    assert world.ask(world.resolver.mx("d.example")) == NoSuchName()


def test_a_server_that_refuses_either_way_is_no_server(world: Any, always: Always) -> None:
    world.network.servers[FIRST] = always(rcode=1)
    world.network.servers[SECOND] = always(RECORD)
    assert world.ask(world.resolver.mx("d.example")) == FOUND
    assert asked_of(world) == [FIRST, FIRST, SECOND]


# --- several servers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"rcode": 2}, {"rcode": 5}, {"rcode": 9}, {"recursive": False}])
def test_a_server_that_can_not_is_followed_by_the_next(world: Any, always: Always, how: dict[str, Any]) -> None:
    world.network.servers[FIRST] = always(**how)
    world.network.servers[SECOND] = always(RECORD)
    assert world.ask(world.resolver.mx("d.example")) == FOUND
    assert asked_of(world) == [FIRST, SECOND]


def test_a_server_that_said_it_can_not_is_not_asked_again(world: Any, always: Always) -> None:
    world.say(always(rcode=2))
    world.ask(world.resolver.mx("d.example"))
    assert asked_of(world) == [FIRST, SECOND]


def test_a_silent_server_is_followed_by_the_next_and_asked_last_for_a_while(world: Any, always: Always) -> None:
    world.network.servers[SECOND] = always(RECORD)
    soon = world.resolver.mx("d.example")
    world.pass_time(4.5)
    assert asked_of(world) == [FIRST]
    assert world.ask(soon, 1) == FOUND
    for number in range(3):
        world.ask(world.resolver.mx(f"e{number}.example"))
    assert asked_of(world) == [FIRST] + [SECOND] * 4
    world.pass_time(30)
    world.ask(world.resolver.mx("f.example"), 6)
    assert asked_of(world)[5:] == [FIRST, SECOND]


def test_rounds_grow_more_patient_and_end(world: Any) -> None:
    """As resolv.conf(5) and the C library: 5 s each, then 10 s shared by two."""
    soon = world.resolver.mx("d.example")
    times = []
    for _ in range(80):
        world.clock.advance(0.5)
        times += [world.clock.seconds()] * (len(world.network.asked) - len(times) - 1)
    assert times == [5.0, 10.0, 15.0]
    answer = world.ask(soon)
    assert (answer.trouble, answer.rcode) == (Trouble.TIMEOUT, -1)
    assert asked_of(world) == [FIRST, SECOND, FIRST, SECOND]


def test_no_question_takes_longer_than_half_a_minute(world: Any) -> None:
    servers = tuple((f"192.0.2.{number}", 53) for number in range(1, 9))
    soon = world.make(DnsOptions(servers, timeout_seconds=30.0, attempts=5)).mx("d.example")
    assert world.ask(soon, 30).trouble is Trouble.TIMEOUT


def test_not_even_one_whose_answers_are_cut_off_takes_longer(world: Any) -> None:
    world.say(lambda asked: respond(asked, truncated=True) if asked.over == "udp" else None)
    soon = world.make(DnsOptions(((FIRST, 53), (SECOND, 53)), timeout_seconds=20.0, attempts=1)).mx("d.example")
    assert world.ask(soon, 30).trouble is Trouble.TIMEOUT


def test_servfail_of_one_says_more_than_silence_of_the_other(world: Any, always: Always) -> None:
    world.network.servers[SECOND] = always(rcode=2)
    answer = world.ask(world.resolver.mx("d.example"), 30)
    assert answer == Temporary(f"SERVFAIL from {SECOND}", Trouble.SERVFAIL)


def test_nxdomain_is_believed_of_the_first_who_says_it(world: Any, always: Always) -> None:
    world.network.servers[FIRST] = always(rcode=3)
    world.network.servers[SECOND] = always(RECORD)
    assert world.ask(world.resolver.mx("d.example")) == NoSuchName()


# --- TCP --------------------------------------------------------------------------------------------------------------


def test_a_truncated_answer_is_asked_for_again_by_tcp(world: Any) -> None:
    def rule(asked: Asked) -> bytes:
        return respond(asked, FORGED, truncated=True) if asked.over == "udp" else respond(asked, RECORD)

    world.say(rule)
    assert world.ask(world.resolver.mx("d.example")) == FOUND
    assert [each.over for each in world.network.asked] == ["udp", "tcp"]


def test_a_truncated_answer_without_tcp_is_none(world: Any) -> None:
    world.say(lambda asked: respond(asked, RECORD, truncated=True) if asked.over == "udp" else None)
    answer = world.ask(world.resolver.mx("d.example"), 60)
    assert answer.trouble is Trouble.TIMEOUT


def test_an_answer_cut_off_even_over_tcp_is_malformed(world: Any, always: Always) -> None:
    world.say(always(RECORD, truncated=True))
    assert world.ask(world.resolver.mx("d.example")).trouble is Trouble.MALFORMED


# --- answers that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forge",
    [
        lambda asked: respond(asked, FORGED, id=asked.id ^ 1),
        lambda asked: respond(asked, FORGED, question=(b"e.example", asked.kind)),
        lambda asked: respond(asked, FORGED, question=(asked.name, RecordType.A)),
        lambda asked: asked.message.toStr(),
        lambda _: b"",
        lambda _: b"\x00" * 5,
    ],
    ids=["wrong id", "wrong name", "wrong kind", "a question", "nothing", "garbage"],
)
def test_what_does_not_fit_the_question_is_passed_over(world: Any, forge: Any) -> None:
    world.say(lambda asked: [forge(asked), respond(asked, RECORD)])
    assert world.ask(world.resolver.mx("d.example")) == FOUND
    world.say(lambda asked: [forge(asked)])
    assert isinstance(world.ask(world.resolver.mx("f.example"), 60), Temporary)


def test_the_case_of_a_name_does_not_matter(world: Any) -> None:
    world.say(lambda asked: respond(asked, mx("D.eXample", 10, "mx.d.example"), question=(b"D.EXAMPLE", asked.kind)))
    assert world.ask(world.resolver.mx("d.example")) == FOUND


def test_one_who_guesses_is_left_behind_with_udp(world: Any) -> None:
    def rule(asked: Asked) -> Any:
        wrong = [respond(asked, FORGED, id=(asked.id + 1 + each) % 65536) for each in range(STRAYS_LIMIT)]
        return [*wrong, respond(asked, FORGED)] if asked.over == "udp" else respond(asked, RECORD)

    world.say(rule)
    assert world.ask(world.resolver.mx("d.example")) == FOUND
    assert [each.over for each in world.network.asked] == ["udp", "tcp"]


def test_an_answer_that_ends_early_is_none_and_the_next_server_is_asked(world: Any, always: Always) -> None:
    world.network.servers[FIRST] = lambda asked: respond(asked, RECORD, mx("d.example", 20, "mx2.d.example"))[:-9]
    world.network.servers[SECOND] = always(RECORD)
    assert world.ask(world.resolver.mx("d.example")) == FOUND
    world.network.servers[SECOND] = world.network.servers[FIRST]
    assert world.ask(world.resolver.mx("e.example")).trouble is Trouble.MALFORMED


def test_records_of_other_names_say_nothing(world: Any, always: Always) -> None:
    world.say(always(mx("e.example", 10, "mx.evil.example"), a("d.example", "192.0.2.1")))
    assert not isinstance(world.ask(world.resolver.mx("d.example")), Answer)
