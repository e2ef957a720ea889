"""Aliases: followed to their end, whoever has to be asked for it, and no further than ten."""

from itertools import pairwise
from typing import Any

import pytest

from mta.dns.resolver import Answer, MailExchanger, NoData, NoSuchName, RecordType, Temporary, Trouble
from mta.dns.servers import DnsOptions
from mta.testing.scripted_name_servers import Asked, a, cname, mx, respond, soa

FOUND = Answer((MailExchanger(10, "mx.d.example"),))


def chain(length: int, *, first: int = 0) -> list[Any]:
    return [cname(f"n{number}.example", f"n{number + 1}.example") for number in range(first, length)]


def test_a_whole_chain_is_followed_in_any_order(world: Any) -> None:
    world.say(lambda asked: respond(asked, mx("n2.example", 10, "mx.d.example"), *chain(2)[::-1]))
    assert world.ask(world.resolver.mx("n0.example")) == FOUND
    assert len(world.network.asked) == 1


def test_the_end_of_a_part_of_a_chain_is_asked_for(world: Any) -> None:
    def rule(asked: Asked) -> bytes:
        number = int(asked.name[1:2])
        return respond(asked, mx("n3.example", 10, "mx.d.example") if number == 3 else chain(number + 1)[number])

    world.say(rule)
    assert world.ask(world.resolver.mx("n0.example")) == FOUND
    assert [each.name for each in world.network.asked] == [f"n{number}.example".encode() for number in range(4)]


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ({"rcode": 3}, NoSuchName()),
        ({"authority": [soa("example", 60)]}, NoData()),
    ],
)
def test_what_is_said_at_the_end_of_a_chain_is_said_of_its_end(world: Any, how: Any, answer: Any) -> None:
    world.say(lambda asked: respond(asked, *chain(2), **how))
    assert world.ask(world.resolver.mx("n0.example")) == answer
    assert len(world.network.asked) == 1


def test_an_end_that_has_no_such_record_is_asked_for_once(world: Any) -> None:
    world.say(lambda asked: respond(asked, *chain(1)) if asked.name == b"n0.example" else respond(asked))
    assert world.ask(world.resolver.mx("n0.example")) == NoData()
    assert len(world.network.asked) == 2


@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_ten_aliases_are_followed_and_eleven_are_temporary(world: Any, at_once: int) -> None:
    """Whether they come one by one or all in one answer."""
    for length in (10, 11):
        records = [*chain(length), mx(f"n{length}.example", 10, "mx.d.example")]
        world.say(lambda asked, all_=records: respond(asked, *all_[int(asked.name[1:-8]) :][:at_once]))
        answer = world.ask(world.resolver.mx("n0.example"))
        assert (answer == FOUND) == (length == 10)
        assert length == 10 or answer == Temporary("more than 10 aliases (CNAME)", Trouble.MALFORMED)
        world.pass_time(600)


@pytest.mark.parametrize("links", [["n0", "n0"], ["n0", "n1", "n0"], ["n0", "n1", "n2", "n1"]])
@pytest.mark.parametrize("whole", [True, False], ids=["in one answer", "in many"])
def test_a_circle_of_aliases_is_temporary(world: Any, links: list[str], whole: bool) -> None:
    records = {
        f"{each}.example".encode(): cname(f"{each}.example", f"{after}.example") for each, after in pairwise(links)
    }
    world.say(lambda asked: respond(asked, *(records.values() if whole else [records[asked.name]])))
    answer = world.ask(world.resolver.mx("n0.example"))
    assert answer == Temporary("aliases (CNAME) in a circle", Trouble.MALFORMED)


def test_the_alias_itself_can_be_asked_for(world: Any) -> None:
    world.say(lambda asked: respond(asked, *chain(1)))
    assert world.ask(world.resolver.query("n0.example", RecordType.CNAME)) == Answer(("n1.example",))


def test_a_chain_lives_as_long_as_its_shortest_link(world: Any) -> None:
    world.say(
        lambda asked: respond(asked, cname("n0.example", "n1.example", ttl=60), mx("n1.example", 10, "x.example"))
    )
    assert world.ask(world.resolver.mx("n0.example")).ttl_seconds == 60


@pytest.mark.parametrize(("first", "second", "authentic"), [(1, 1, True), (1, 0, False), (0, 1, False)])
def test_a_chain_is_authentic_when_all_its_parts_are(world: Any, first: int, second: int, authentic: bool) -> None:
    def rule(asked: Asked) -> bytes:
        if asked.name == b"n0.example":
            return respond(asked, *chain(1), authentic=bool(first))
        return respond(asked, a("n1.example", "192.0.2.1"), authentic=bool(second))

    resolver = world.make(DnsOptions((("127.0.0.1", 53),)))
    world.network.servers["127.0.0.1"] = rule
    assert world.ask(resolver.query("n0.example", RecordType.A)) == Answer(("192.0.2.1",), authentic)


def test_a_record_beside_an_alias_counts(world: Any) -> None:
    world.say(lambda asked: respond(asked, *chain(1), mx("n0.example", 10, "mx.d.example")))
    assert world.ask(world.resolver.mx("n0.example")) == FOUND
