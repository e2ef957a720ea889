"""What goes out can be read back as it was, and holds no boundary but its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.content import DotReader
from mta.smtp.stuffing import BareNewlineError, DotStuffer


def stuff(*blocks: bytes) -> bytes:
    stuffer = DotStuffer()
    return b"".join(stuffer.feed(block) for block in blocks) + stuffer.finish()


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n", b"...\r\n.\r\n"),
        (b"a\r\n.\r\n.b\r\n\r\n.", b"a\r\n..\r\n..b\r\n\r\n..\r\n.\r\n"),
    ],
)
def test_dots_are_doubled_and_the_end_is_said(content: bytes, wire: bytes) -> None:
    assert stuff(content) == wire


LINES = st.lists(st.sampled_from([b".", b"..", b"a", b"", b".a", b"a.", b"\xff.\x00"]), max_size=12)


@given(LINES, st.data())
def test_cut_anywhere_it_is_the_same_and_our_reader_gets_it_back(lines: list[bytes], data: st.DataObject) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=12)))
    blocks = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    wire = stuff(*blocks)
    assert wire == stuff(content)
    assert DotReader().feed(wire) == (content, b"")


@pytest.mark.parametrize(
    "content", [b"a\nb\r\n", b"a\rb\r\n", b"\n.\n", b"a\r\r\n", b"\r\n.\r\r\n", b"a\r", b"a\rb\nc\r\n"]
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_no_lone_cr_or_lf_goes_out(content: bytes, size: int) -> None:
    with pytest.raises(BareNewlineError):
        stuff(*[content[at : at + size] for at in range(0, len(content), size)])
