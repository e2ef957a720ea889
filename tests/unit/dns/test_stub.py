"""The resolver as the house sees it: answers as types, memory, one question for many, bounds, the end."""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from mta.dns import stub
from mta.dns.resolver import Answer, MailExchanger, NoData, NoSuchName, RecordType, Temporary, Tlsa, Trouble
from mta.dns.servers import DnsOptions
from mta.testing.scripted_name_servers import Asked, Refused, a, mx, ptr, respond, soa, tlsa, txt

MX = RecordType.MX
AS_FOUND = Answer((MailExchanger(10, "mx.d.example"),))
Always = Callable[..., Any]


def test_mail_exchangers(world: Any, always: Always) -> None:
    world.say(always(mx("d.example", 10, "A.Example"), mx("d.example", 20, "b.example")))
    expected = Answer((MailExchanger(10, "a.example"), MailExchanger(20, "b.example")))
    assert world.ask(world.resolver.mx("d.example")) == expected


def test_the_null_mx_is_an_empty_host(world: Any, always: Always) -> None:
    world.say(always(mx("d.example", 0, "")))
    assert world.ask(world.resolver.mx("d.example")) == Answer((MailExchanger(0, ""),))


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ({"rcode": 3}, NoSuchName()),
        ({}, NoData()),
        ({"rcode": 2}, Temporary("SERVFAIL from 192.0.2.53", Trouble.SERVFAIL)),
        ({"rcode": 5}, Temporary("REFUSED from 192.0.2.53", Trouble.SERVFAIL)),
        ({"recursive": False}, Temporary("lame from 192.0.2.53", Trouble.SERVFAIL)),
        (None, Temporary("no answer from 192.0.2.53, no answer from 192.0.2.54", Trouble.TIMEOUT)),
    ],
)
def test_nxdomain_nodata_servfail_and_silence_are_four_outcomes(
    world: Any, always: Always, how: dict[str, Any] | None, answer: Any
) -> None:
    if how is not None:
        world.say(always(**how))
    assert world.ask(world.resolver.mx("d.example"), 0 if how is not None else 30) == answer


def test_the_rcode_is_kept(world: Any, always: Always) -> None:
    world.say(always(rcode=5))
    assert world.ask(world.resolver.mx("d.example")).rcode == 5
    world.say(always(rcode=23))
    assert world.ask(world.resolver.mx("e.example")).rcode == 23


def test_why_a_server_can_not_is_in_the_text(world: Any, always: Always) -> None:
    world.say(always(rcode=2, options=b"\x00\x0f\x00\x07\x00\x06no\x1b[m"))
    assert world.ask(world.resolver.mx("d.example")).text == "SERVFAIL (DNSSEC Bogus: no?[m) from 192.0.2.53"


def test_other_kinds_of_records(world: Any) -> None:
    records = {
        RecordType.TXT: [txt("n.example", b"v=spf1 ", b"-all"), txt("n.example", b"\xff")],
        RecordType.PTR: [ptr("n.example", "Mail.example")],
        RecordType.TLSA: [tlsa("n.example", b"\x03\x01\x01" + b"d" * 32)],
        RecordType.A: [a("n.example", "192.0.2.1")],
    }
    world.say(lambda asked: respond(asked, *records[RecordType(asked.kind)]))
    answers = {kind: world.ask(world.resolver.query("n.example", kind)) for kind in records}
    assert answers == {
        RecordType.TXT: Answer((b"v=spf1 -all", b"\xff")),
        RecordType.PTR: Answer(("mail.example",)),
        RecordType.TLSA: Answer((Tlsa(3, 1, 1, b"d" * 32),)),
        RecordType.A: Answer(("192.0.2.1",)),
    }


def test_records_that_can_not_be_read_are_temporary(world: Any, always: Always) -> None:
    world.say(always(tlsa("n.example", b"\x03")))
    answer = world.ask(world.resolver.query("n.example", RecordType.TLSA))
    assert (type(answer), answer.trouble) == (Temporary, Trouble.MALFORMED)


def test_a_name_that_is_no_name_is_left_to_the_judgement_of_who_asked(world: Any, always: Always) -> None:
    bad = mx("d.example", 10, "x")
    bad.payload.name.name = b"\xff/..\x00.example"
    bad.payload.name.encode = lambda stream, _=None: stream.write(b"\x05\xff/.\x00x\x07example\x00")
    world.say(always(bad))
    assert world.ask(world.resolver.mx("d.example")) == Answer((MailExchanger(10, "\\xff/.\\x00x.example"),))


def test_u_labels_are_asked_for_as_a_labels(world: Any, always: Always) -> None:
    world.say(always(mx("xn--bcher-kva.example", 10, "mx.d.example")))
    assert world.ask(world.resolver.mx("Bücher.example")) == AS_FOUND
    assert world.questions() == [("udp", b"xn--bcher-kva.example", MX)]


@pytest.mark.parametrize("name", ["x" * 64, "a..b", "", ".", "a b.example", "a\x00.example", ".".join(["x" * 50] * 6)])
def test_what_is_no_name_is_not_asked_for(world: Any, name: str) -> None:
    answer = world.ask(world.resolver.mx(name))
    assert (type(answer), answer.trouble) == (Temporary, Trouble.LOCAL)
    assert world.questions() == []


# --- addresses --------------------------------------------------------------------------------------------------------


def addresses_as(world: Any, four: Any, six: Any) -> None:
    def rule(asked: Asked) -> Any:
        said = four if asked.kind == RecordType.A else six
        return respond(asked, rcode=said) if isinstance(said, int) else respond(asked, *said)

    world.say(rule)


FOUR, SIX = [a("h.example", "192.0.2.1")], [a("h.example", "2001:db8::1")]


@pytest.mark.parametrize(
    ("four", "six", "answer"),
    [
        (FOUR, SIX, Answer(("192.0.2.1", "2001:db8::1"))),
        (3, 3, NoSuchName()),
        (3, [], NoData()),
        ([], [], NoData()),
        ([], 2, Temporary("SERVFAIL from 192.0.2.53")),
        (3, 2, Temporary("SERVFAIL from 192.0.2.53")),
        (FOUR, 2, Answer(("192.0.2.1",))),
        (FOUR, 3, Answer(("192.0.2.1",))),
        (2, SIX, Answer(("2001:db8::1",))),
    ],
)
def test_two_questions_make_one_answer(world: Any, four: Any, six: Any, answer: Any) -> None:
    addresses_as(world, four, six)
    assert world.ask(world.resolver.addresses("h.example")) == answer
    assert world.resolver.addresses("h.example") == answer  # at hand


@pytest.mark.parametrize(("which", "authentic"), [((1, 28), True), ((1,), False), ((28,), False)])
def test_addresses_are_authentic_when_both_answers_are(world: Any, which: tuple[int, ...], authentic: bool) -> None:
    resolver = world.make(DnsOptions((("127.0.0.1", 53),)))
    world.network.servers["127.0.0.1"] = lambda asked: respond(
        asked, *(FOUR if asked.kind == 1 else []), authentic=asked.kind in which
    )
    assert world.ask(resolver.addresses("h.example")).authentic == authentic


def test_half_an_answer_is_not_authentic(world: Any) -> None:
    resolver = world.make(DnsOptions((("127.0.0.1", 53),)))
    world.network.servers["127.0.0.1"] = lambda asked: respond(
        asked, *(FOUR if asked.kind == 1 else []), authentic=True, rcode=0 if asked.kind == 1 else 2
    )
    assert world.ask(resolver.addresses("h.example")) == Answer(("192.0.2.1",), authentic=False)


def test_the_hosts_file_comes_first_and_is_read_again_when_it_changed(world: Any, always: Always) -> None:
    world.say(always(rcode=3))
    resolver = world.resolver
    assert world.ask(resolver.addresses("localhost")) == Answer(("127.0.0.1", "::1"))
    assert world.ask(resolver.addresses("ONE.example")) == Answer(("192.0.2.7",))
    world.hosts_file.write_text("192.0.2.8 two.example\n")
    world.pass_time(1)
    assert world.ask(resolver.addresses("two.example")) == Answer(("192.0.2.8",))
    assert world.questions() == []
    world.hosts_file.unlink()
    world.pass_time(1)
    assert world.ask(resolver.addresses("two.example")) == NoSuchName()


# --- memory -----------------------------------------------------------------------------------------------------------


def test_an_answer_lives_as_long_as_its_record_and_needs_no_deferred(world: Any, always: Always) -> None:
    world.say(always(mx("d.example", 10, "mx.d.example", ttl=100)))
    assert world.ask(world.resolver.mx("d.example")).ttl_seconds == 100
    world.pass_time(98)
    assert world.resolver.mx("D.example") == AS_FOUND
    world.pass_time(2)
    assert isinstance(again := world.resolver.mx("d.example"), Deferred)
    assert world.ask(again) == AS_FOUND
    assert len(world.questions()) == 2


@pytest.mark.parametrize(
    ("how", "seconds"),
    [
        ({"rcode": 3, "authority": [soa("example", minimum=60)]}, 60),
        ({"authority": [soa("example", minimum=60)]}, 60),
        ({"authority": [soa("example", minimum=60, ttl=30)]}, 30),
        ({"rcode": 3, "authority": [soa("example", minimum=90000, ttl=90000)]}, 900),
        ({"rcode": 3, "authority": [soa("example", minimum=0)]}, 5),
        ({"rcode": 3}, 5),
        ({"rcode": 2}, 5),
    ],
)
def test_what_there_is_not_is_remembered_too(world: Any, always: Always, how: dict[str, Any], seconds: float) -> None:
    """RFC 2308 section 5 and RFC 9520, between the floor and the cap."""
    world.say(always(**how))
    answer = world.ask(world.resolver.mx("d.example"))
    world.pass_time(seconds - 1)
    assert world.resolver.mx("d.example") == answer
    world.pass_time(1)
    world.ask(world.resolver.mx("d.example"))
    assert world.network.asked[-1].name == b"d.example"
    assert len({each.id for each in world.network.asked if each.server == "192.0.2.53"}) == 2


@pytest.mark.parametrize(("ttl", "seconds"), [(0, 5), (1 << 31, 5), (90_000, 3600)])
def test_a_life_has_a_floor_and_a_cap(world: Any, always: Always, ttl: int, seconds: float) -> None:
    world.say(always(mx("d.example", 10, "mx.d.example", ttl=ttl)))
    world.ask(world.resolver.mx("d.example"))
    world.pass_time(seconds - 1)
    assert world.resolver.mx("d.example") == AS_FOUND
    world.pass_time(1)
    assert isinstance(world.resolver.mx("d.example"), Deferred)


def test_one_question_is_on_the_wire_for_all_who_ask(world: Any, always: Always) -> None:
    world.say(always(mx("d.example", 10, "mx.d.example")))
    askers = [world.resolver.mx("d.example") for _ in range(100)]
    askers[50].addErrback(lambda failure: failure.trap(CancelledError))
    askers[50].cancel()  # his own affair: the others get their answer
    world.settle()
    assert len(world.questions()) == 1
    assert [world.ask(each) for each in askers].count(AS_FOUND) == 99


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_line(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(stub, "LINE_LIMIT", 2000)
    return 2000


@pytest.mark.usefixtures("short_line")
def test_an_outage_piles_nothing_up(world: Any) -> None:
    """All are told that nobody knows: the first after their time-outs, those in line then, the rest at once."""
    asked = [world.resolver.mx(f"d{number}.example") for number in range(3000)]
    at_once = [each for each in asked if isinstance(each, Temporary)]
    assert len(at_once) == 3000 - stub.IN_FLIGHT_LIMIT - stub.LINE_LIMIT
    assert {each.trouble for each in at_once} == {Trouble.LOCAL}
    assert world.network.open == stub.IN_FLIGHT_LIMIT
    found: list[Any] = []
    for each in asked:
        if isinstance(each, Deferred):
            each.addCallback(found.append)
    world.pass_time(65)
    assert len(found) == stub.IN_FLIGHT_LIMIT + stub.LINE_LIMIT
    assert {each.trouble for each in found} == {Trouble.TIMEOUT}
    assert world.network.open == 0
    assert len(world.network.asked) <= 8 * stub.IN_FLIGHT_LIMIT  # not all of them were asked


def test_after_an_outage_the_line_moves_on(world: Any, always: Always) -> None:
    found: list[Any] = []
    for number in range(1000):
        world.resolver.mx(f"d{number}.example").addCallback(found.append)
    world.pass_time(3)
    world.say(always(rcode=3))
    world.pass_time(10)
    assert len(found) == 1000
    assert found.count(NoSuchName()) >= 1000 - stub.IN_FLIGHT_LIMIT


@pytest.mark.usefixtures("short_line")
def test_without_sockets_all_hear_of_it_and_nothing_recurses(world: Any) -> None:
    class NoSockets:
        def udp(self, _address: str, _port: int, _received: Any, broken: Any) -> Any:
            class Channel:
                def send(self, _message: bytes) -> None:
                    broken("Too many open files")

                def close(self) -> None: ...

            return Channel()

        tcp = udp

    resolver = world.resolver
    busy = [resolver.mx(f"d{number}.example") for number in range(stub.IN_FLIGHT_LIMIT)]
    line = [resolver.mx(f"e{number}.example") for number in range(stub.LINE_LIMIT)]
    resolver._inquiry._network = NoSockets()
    world.pass_time(60)
    found: list[Any] = []
    for each in [*busy, *line]:
        each.addCallback(found.append)
    assert len(found) == len(busy) + len(line)
    answer = world.ask(resolver.mx("f.example"))
    assert answer.text == "Too many open files from 192.0.2.53, Too many open files from 192.0.2.54"


def test_the_end_answers_all_and_leaves_nothing(world: Any) -> None:
    waiting = [world.resolver.mx(f"d{number}.example") for number in range(stub.IN_FLIGHT_LIMIT + 10)]
    waiting.append(world.resolver.addresses("h.example"))
    world.resolver.close()
    assert (world.network.open, world.clock.getDelayedCalls()) == (0, [])  # at once, and no other server is asked
    assert {world.ask(each) for each in waiting} == {Temporary("shutting down", Trouble.LOCAL)}
    assert world.resolver.mx("late.example") == Temporary("shutting down", Trouble.LOCAL)


def test_our_own_fault_is_temporary(world: Any, always: Always, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("ours")

    world.say(always(rcode=3))
    monkeypatch.setattr(stub.Pursuit, "take", broken)
    monkeypatch.setattr(stub._log, "failure", lambda *_: None)
    assert world.ask(world.resolver.mx("d.example")) == Temporary("internal error", Trouble.LOCAL)


def test_other_servers_know_other_things(world: Any, always: Always) -> None:
    world.say(always(rcode=3))
    world.network.servers["192.0.2.99"] = always(mx("d.example", 10, "mx.d.example"))
    assert world.ask(world.resolver.mx("d.example")) == NoSuchName()
    late = world.resolver.mx("e.example")
    world.resolver.configure(DnsOptions((("192.0.2.99", 53),)))
    assert world.ask(world.resolver.mx("d.example")) == AS_FOUND
    assert world.ask(late) == NoSuchName()  # it had been asked before
    world.network.servers["192.0.2.99"] = always(mx("e.example", 10, "mx.d.example"))
    assert world.ask(world.resolver.mx("e.example")) == AS_FOUND  # and that is not remembered
    world.resolver.configure(DnsOptions((("192.0.2.99", 53),)))
    assert world.resolver.mx("d.example") == AS_FOUND  # nothing new: nothing is forgotten


def test_a_port_that_nobody_listens_at_costs_no_time(world: Any, always: Always) -> None:
    world.network.servers["192.0.2.53"] = lambda _: Refused()
    world.network.servers["192.0.2.54"] = always(mx("d.example", 10, "mx.d.example"))
    assert world.ask(world.resolver.mx("d.example")) == AS_FOUND
