"""What is remembered of a proved password, and for how long."""

from __future__ import annotations

from twisted.internet.task import Clock

from mta.sasl.login_cache import LoginCache


def a_cache(clock: Clock, **options: int) -> LoginCache:
    return LoginCache(b"k" * 32, clock.seconds, 60.0, **options)


def test_the_very_password_is_recalled_for_its_time(clock):
    cache = a_cache(clock)
    cache.remember("demo", "secret", b"row", "state")
    clock.advance(59)
    assert cache.recall("demo", "secret").row == b"row"
    assert cache.recall("demo", "Secret") is None
    assert cache.recall("other", "secret") is None
    clock.advance(1)
    assert cache.recall("demo", "secret") is None


def test_no_password_and_no_bare_hash_of_one_is_kept(clock):
    first, second = a_cache(clock), LoginCache(b"another boot".ljust(32), clock.seconds, 60.0)
    for cache in (first, second):
        cache.remember("demo", "secret", b"row", None)
    kept = [cache.recall("demo", "secret").keyed_hash for cache in (first, second)]
    assert kept[0] != kept[1]
    assert b"secret" not in kept[0]
    assert "keyed_hash" not in repr(first.recall("demo", "secret"))


def test_the_oldest_entry_makes_room(clock):
    cache = a_cache(clock, entries=2)
    for name in ("a", "b", "c"):
        cache.remember(name, "secret", b"row", None)
    assert cache.recall("a", "secret") is None
    assert cache.recall("c", "secret") is not None
