"""What is remembered has a bound."""

from twisted.internet.task import Clock

from mta.dns.cache import Cache
from mta.dns.resolver import Answer, NoSuchName, RecordType, Temporary, Trouble

A = RecordType.A


def test_what_was_not_used_for_the_longest_time_goes_first() -> None:
    cache = Cache(Clock().seconds, limit=3)
    for name in "abc":
        cache.put((name, A), Answer((name,)))
    cache.get(("a", A))
    cache.put(("d", A), NoSuchName())
    assert [name for name in "abcd" if cache.get((name, A)) is not None] == ["a", "c", "d"]
    assert len(cache) == 3


def test_kinds_of_records_are_apart() -> None:
    cache = Cache(Clock().seconds)
    cache.put(("a", A), Answer(("192.0.2.1",)))
    assert cache.get(("a", RecordType.AAAA)) is None


def test_what_is_dead_is_let_go() -> None:
    clock = Clock()
    cache = Cache(clock.seconds)
    cache.put(("a", A), Answer(("192.0.2.1",), ttl_seconds=10))
    clock.advance(10)
    assert cache.get(("a", A)) is None
    assert len(cache) == 0


def test_our_own_trouble_is_not_remembered() -> None:
    cache = Cache(Clock().seconds)
    cache.put(("a", A), Temporary("shutting down", Trouble.LOCAL))
    assert len(cache) == 0
