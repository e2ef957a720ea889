"""Lines out of octets: strict ends, bounded memory, linear time."""

from __future__ import annotations

import time

from mta.smtp.lines import BARE_LF, OVERLONG, InputBuffer


def lines_of(*pieces: bytes, limit: int = 20, prefix: bytes = b"", more: int = 0) -> list[object]:
    buffer, found = InputBuffer(), []
    for piece in pieces:
        buffer.receive(piece)
        while (line := buffer.take_line(limit, prefix, more)) is not None:
            found.append(line)
    return found


def test_a_line_ends_with_crlf() -> None:
    assert lines_of(b"one\r\ntwo\r\nthr", b"ee\r", b"\n") == [b"one", b"two", b"three"]
    assert lines_of(b"\r\n") == [b""]


def test_a_line_that_ends_with_lf_alone_is_none() -> None:
    assert lines_of(b"one\ntwo\r\n\n") == [BARE_LF, b"two", BARE_LF]


def test_a_cr_within_a_line_stays_in_it() -> None:
    assert lines_of(b"a\rb\r\r\n") == [b"a\rb\r"]


def test_the_limit_is_without_crlf() -> None:
    assert lines_of(b"x" * 20 + b"\r\n") == [b"x" * 20]
    assert lines_of(b"x" * 21 + b"\r\n") == [OVERLONG]
    assert lines_of(*[b"x"] * 20, b"\r", b"\n") == [b"x" * 20]
    assert lines_of(*[b"x"] * 21, b"\r", b"\n") == [OVERLONG]


def test_some_lines_may_be_longer() -> None:
    assert lines_of(b"auth " + b"x" * 20 + b"\r\n", prefix=b"AUTH ", more=5) == [b"auth " + b"x" * 20]
    assert lines_of(b"auth " + b"x" * 21 + b"\r\n", prefix=b"AUTH ", more=5) == [OVERLONG]
    assert lines_of(b"noop " + b"x" * 20 + b"\r\n", prefix=b"AUTH ", more=5) == [OVERLONG]


def test_an_overlong_line_is_told_once_however_long_and_what_follows_is_whole() -> None:
    assert lines_of(*[b"x" * 1000] * 1000, b"\r\nnext\r\n") == [OVERLONG, b"next"]


def test_an_overlong_line_is_dropped_as_it_comes() -> None:
    buffer = InputBuffer()
    for _ in range(1000):
        buffer.receive(b"x" * 1000)
        assert buffer.take_line(2048) is None
        assert buffer.octets <= 4000


def test_the_octets_that_wait_are_counted_always() -> None:
    buffer = InputBuffer()
    buffer.receive(b"one\r\ntwo\r\nrest")
    assert buffer.octets == 14
    assert buffer.take_line(20) == b"one"
    assert buffer.octets == 9
    buffer.receive(b"of it\r\n12345678")
    assert buffer.take_line(20) == b"two"
    assert buffer.take_line(20) == b"restof it"
    assert buffer.octets == 8
    assert buffer.take_some(3) == b"123"
    assert buffer.octets == 5
    assert buffer.take_all() == b"45678"
    assert buffer.octets == 0
    buffer.put_back(b"8")
    assert (buffer.octets, buffer.take_all()) == (1, b"8")
    buffer.receive(b"gone")
    buffer.clear()
    assert (buffer.octets, buffer.take_some(9), buffer.take_line(9)) == (0, b"", None)


def test_the_beginning_is_seen_across_pieces() -> None:
    buffer = InputBuffer()
    assert not buffer.starts_with(b"\x16\x03")
    buffer.receive(b"\x16")
    assert not buffer.starts_with(b"\x16\x03")
    assert buffer.take_line(20) is None
    buffer.receive(b"\x03\x01")
    assert buffer.starts_with(b"\x16\x03")


def test_many_small_things_in_one_large_piece_cost_what_they_are() -> None:
    """Doubling the piece doubles the time, within a factor; copying the rest for each would make it fourfold."""

    def seconds(count: int) -> float:
        best = 9.0
        for _ in range(3):
            buffer = InputBuffer()
            buffer.receive(b"BDAT 1\r\nx" * count)
            began = time.perf_counter()
            for _ in range(count):
                buffer.take_line(2048)
                buffer.take_some(1)
            best = min(best, time.perf_counter() - began)
        return best

    assert seconds(80_000) < 8 * 2.5 * seconds(10_000)
