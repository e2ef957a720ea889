"""Content: its end, its dots, its chunks, what it turns out to be."""

from __future__ import annotations

import pytest

from mta.mail import reply
from mta.smtp.content import ChunkReader, ContentFacts, DotReader


def read(*pieces: bytes) -> tuple[bytes, bytes | None]:
    """The content of these pieces, and what follows its end."""
    reader, content = DotReader(), b""
    for piece in pieces:
        block, rest = reader.feed(piece)
        assert not (content.endswith(b"\r") and block.startswith(b"\n")), "a CRLF was cut in two"
        content += block
        if rest is not None:
            return content, rest
    return content, None


@pytest.mark.parametrize(
    ("octets", "content", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n", b""),
        (b"..a\r\n.\r\n", b".a\r\n", b""),
        (b".a\r\n.\r\n", b"a\r\n", b""),
        (b"...\r\n.\r\n", b"..\r\n", b""),
        (b"\r\n..\r\n..\r\n.\r\n.\r\n", b"\r\n.\r\n.\r\n", b".\r\n"),
        (b".\r\n.\r\n", b"", b".\r\n"),
        (b"a\r\r\n.\r\n", b"a\r\r\n", b""),
    ],
)
def test_the_end_and_the_dots_wherever_the_octets_are_cut(octets: bytes, content: bytes, rest: bytes) -> None:
    assert read(octets) == (content, rest)
    for at in range(1, len(octets)):
        got, left = read(octets[:at], octets[at:])
        assert got == content
        assert rest.startswith(left or b"")
    singles = read(*[octets[at : at + 1] for at in range(len(octets))])
    assert singles[0] == content


# SAFETY 3.1: what a lenient peer reads an end into.
NO_ENDS = [b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
           b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\r.\n\r", b"\r\n .\r\n", b"\r\n. \r\n", "\u2028.\u2028".encode(), "\x85.\x85".encode(),
           b"\r\n..\r\n", b"\r\n.\x0b\r\n", b"\n\n.\n\n"]  # fmt: skip


@pytest.mark.parametrize("ending", NO_ENDS)
@pytest.mark.parametrize("cut", [1, 2, 3, 5, 1000])
def test_nothing_else_is_an_end(ending: bytes, cut: int) -> None:
    octets = b"hello" + ending + b"MAIL FROM:<evil@example.org>\r\n"
    content, rest = read(*[octets[at : at + cut] for at in range(0, len(octets), cut)])
    assert rest is None
    assert b"MAIL FROM" in content


def facts(limit: int = 10_000, line_limit: int = 5_000, *, normalize: bool = False) -> ContentFacts:
    return ContentFacts(limit, line_limit, normalize)


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (b"a\r\nb\r\n", None),
        (b"", None),
        (b"a\nb\r\n", reply.BARE_NEWLINE),
        (b"a\rb\r\n", reply.BARE_NEWLINE),
        (b"a\n\rb\r\n", reply.BARE_NEWLINE),
        (b"\n\r", reply.BARE_NEWLINE),
        (b"\r\r\n\n", reply.BARE_NEWLINE),
        (b"a\0b\r\n", reply.NUL_IN_CONTENT),
        (b"x" * 10_001, reply.MESSAGE_TOO_BIG),
        (b"x" * 5_001 + b"\r\n", reply.TEXT_LINE_TOO_LONG),
        (b"x" * 5_000 + b"\r\n", None),
        # of several faults the graver one is named, whichever came first
        (b"\0\n" + b"x" * 20_000, reply.BARE_NEWLINE),
        (b"x" * 20_000 + b"\0", reply.NUL_IN_CONTENT),
    ],
)
def test_what_content_is_refused_for(content: bytes, refusal: reply.Reply | None) -> None:
    measured = facts()
    measured.take(content)
    assert measured.refusal == refusal


def test_refused_content_is_given_on_no_more() -> None:
    measured = facts()
    assert measured.take(b"a\r\n") == b"a\r\n"
    assert measured.take(b"b\n") == b""
    assert measured.take(b"c\r\n") == b""


def test_a_refusal_from_outside_stands_before_those_of_the_content() -> None:
    measured = facts()
    measured.refuse(reply.SPOOL_FULL)
    measured.take(b"a\nb\0")
    assert measured.refusal is reply.SPOOL_FULL


def test_bare_newlines_are_mended_where_that_is_asked_for() -> None:
    measured = facts(normalize=True)
    assert measured.take(b"a\nb\r\nc\rd\n") == b"a\r\nb\r\nc d\r\n"
    assert measured.refusal is None
    assert measured.size == 11
    measured.take(b"\0")
    assert measured.refusal is reply.NUL_IN_CONTENT


@pytest.mark.parametrize("cut", [1, 7, 499, 1000, 4096])
@pytest.mark.parametrize("lengths", [[998, 10, 998], [999], [10, 3000, 20, 1200], [0, 0, 4999, 0], [998, 1000, 997]])
def test_the_longest_line_is_found_however_it_is_cut(lengths: list[int], cut: int) -> None:
    content = b"".join(b"x" * length + b"\r\n" for length in lengths)
    measured, held = facts(100_000, 65_535), b""
    for at in range(0, len(content), cut):
        block = held + content[at : at + cut]
        held = b"\r" if block.endswith(b"\r") else b""
        measured.take(block[: len(block) - len(held)])
    longest = max(lengths)
    assert measured.max_line == (longest if longest > 998 else 0)
    assert measured.size == len(content)


def test_eight_bits_are_seen() -> None:
    measured = facts()
    measured.take(b"plain\r\n")
    assert not measured.has_8bit
    measured.take("ü\r\n".encode())
    assert measured.has_8bit


def chunks(*parts: bytes) -> bytes:
    reader, content = ChunkReader(), b""
    for part in parts:
        reader.remaining = len(part)
        block = reader.feed(part)
        assert not block.endswith(b"\r")
        content += block
    assert reader.remaining == 0
    return content + reader.finish()


def test_chunks_join_what_their_borders_cut() -> None:
    assert chunks(b"a\r", b"\nb\r\n") == b"a\r\nb\r\n"
    assert chunks(b"a\r", b"", b"\n") == b"a\r\n"
    assert chunks(b"a") == b"a\r\n"
    assert chunks() == b""
    assert chunks(b"\r\n.\r\n", b".\r\n") == b"\r\n.\r\n.\r\n"


def test_a_lone_cr_at_the_end_of_the_last_chunk_is_content() -> None:
    """... and is then refused as a bare CR, not mended by the CRLF that is added."""
    assert chunks(b"a\r") == b"a\r\r\n"
