"""Sizes and durations."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta.config.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", 0), ("128K", 131072), ("25 MiB", 26214400), ("1gb", 1 << 30), ("2T", 2 << 40), (5, 5)],
)
def test_sizes(text: object, octets: int) -> None:
    assert octets == parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300), ("5m", 300), ("1h30m", 5400), ("1 d 12 h", 129600), ("0.5s", 0.5), ("250ms", 0.25), (7, 7)],
)
def test_durations(text: object, seconds: float) -> None:
    assert seconds == parse_duration(text)


@pytest.mark.parametrize("text", ["", "x", "5x", "5m x", "-5m", "m", "5 5m6", "inf"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
    if text != "5x":
        with pytest.raises(ValueError, match="size"):
            parse_size(text)


@given(st.integers(0, 1 << 50), st.integers(0, 10**9))
@example(0, 1_000_000)
def test_what_is_shown_is_read_again(octets: int, seconds: int) -> None:
    assert octets == parse_size(show_size(octets))
    assert seconds == parse_duration(show_duration(float(seconds)))
