"""Queue IDs: unique for ever, in order, whatever the clock does."""

from __future__ import annotations

import pytest

from mta.mail.identifiers import SHARDS_MAX, IdentifierSource, format_id, made_at, parse_id, shard_of


def test_ids_grow_and_tell_their_time_and_shard() -> None:
    source = IdentifierSource(7, lambda: 1_700_000_000.25)
    first, second = source.next(), source.next()
    assert first < second
    assert shard_of(first) == shard_of(second) == 7
    assert made_at(first) == 1_700_000_000.25
    assert 0 < first < 1 << 63


def test_a_clock_that_stands_or_goes_back_repeats_no_id() -> None:
    times = iter([2_000_000_000.0] * 20_000 + [1_900_000_000.0] * 20_000)
    source = IdentifierSource(0, lambda: next(times))
    ids = [source.next() for _ in range(40_000)]
    assert ids == sorted(set(ids))


def test_a_source_begins_above_the_high_water_mark() -> None:
    old = IdentifierSource(3, lambda: 2_000_000_000.0)
    last = [old.next() for _ in range(5)][-1]
    new = IdentifierSource(3, lambda: 1_900_000_000.0, high_water=last)
    assert new.next() > last
    assert shard_of(new.next()) == 3


def test_an_id_is_printed_in_thirteen_characters_that_sort_like_it() -> None:
    ids = [0, 1, 31, 32, 1023, 1024, 1 << 40, (1 << 63) - 1]
    texts = [format_id(each) for each in ids]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {13}
    assert [parse_id(text) for text in texts] == ids
    assert [parse_id(text.lower()) for text in texts] == ids


def test_misread_letters_are_forgiven() -> None:
    assert parse_id("OOOOOOOOOOOIL") == parse_id("0000000000011")


@pytest.mark.parametrize("text", ["", "0" * 12, "0" * 14, "000000000000U", "00000 0000000", "Z" * 13, "000000000000é"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="no queue ID"):
        parse_id(text)


@pytest.mark.parametrize("shard", [-1, SHARDS_MAX])
def test_a_shard_has_its_bounds(shard: int) -> None:
    with pytest.raises(ValueError, match="shard"):
        IdentifierSource(shard, lambda: 0.0)
