"""Replies of peers: whatever comes, a reply or a ReplyError, in bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.replies import LINE_LIMIT_OCTETS, LINES_LIMIT, PeerReply, ReplyError, ReplyParser


def parse(*segments: bytes) -> list[PeerReply]:
    parser, found = ReplyParser(), []
    for segment in segments:
        parser.feed(segment)
        while (reply := parser.next_reply()) is not None:
            found.append(reply)
    return found


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (b"250 2.1.0 Ok\r\n", PeerReply(250, "2.1.0", ("Ok",))),
        (b"250\r\n", PeerReply(250, "", ("",))),
        (b"354 go on\r\n", PeerReply(354, "", ("go on",))),
        (b"250 ok\n", PeerReply(250, "", ("ok",))),
        (b"571 5.7.1 no\r\n", PeerReply(571, "5.7.1", ("no",))),
        (b"550-5.1.1 nobody\r\n550 5.1.1 of that name\r\n", PeerReply(550, "5.1.1", ("nobody", "of that name"))),
        (b"550-5.1.1 nobody\r\n550 plain\r\n", PeerReply(550, "5.1.1", ("nobody", "plain"))),
        (b"250-a\r\n250-\r\n250 SIZE 10\r\n", PeerReply(250, "", ("a", "", "SIZE 10"))),
        (
            b"550 2.1.1 a class that is not the code's\r\n",
            PeerReply(550, "", ("2.1.1 a class that is not the code's",)),
        ),
        (b"550 5.1.1\r\n", PeerReply(550, "5.1.1", ("",))),
        (b"250 2.0.0.1 no status\r\n", PeerReply(250, "", ("2.0.0.1 no status",))),
    ],
)
def test_a_reply_is_code_status_and_lines(wire: bytes, reply: PeerReply) -> None:
    assert parse(wire) == [reply]


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n", b"hello\r\n", b"25 ok\r\n", b"150 ok\r\n", b"650 ok\r\n", b"2500 ok\r\n", b"250ok\r\n",
        b"250-a\r\n251 b\r\n", b"250-a\r\nb\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"\x15\x03\x01\x00\x02\x02\n",
    ],
)  # fmt: skip
def test_what_is_no_reply_is_an_error(wire: bytes) -> None:
    with pytest.raises(ReplyError):
        parse(wire)


def test_a_line_without_end_is_an_error_before_it_fills_memory() -> None:
    with pytest.raises(ReplyError, match="4096"):
        parse(*[b"250 " + b"x" * 100] * (LINE_LIMIT_OCTETS // 100 + 1))


def test_a_long_line_is_an_error_though_it_ends() -> None:
    with pytest.raises(ReplyError, match="4096"):
        parse(b"250 " + b"x" * LINE_LIMIT_OCTETS + b"\r\n")


def test_a_reply_without_end_is_an_error() -> None:
    assert len(parse(b"250-x\r\n" * (LINES_LIMIT - 1) + b"250 x\r\n")[0].lines) == LINES_LIMIT
    with pytest.raises(ReplyError, match="128 lines"):
        parse(b"250-x\r\n" * 1_000_000)


def test_text_can_steer_no_terminal_and_no_log() -> None:
    (reply,) = parse(b"550 \x1b[2Jgone\x00\x7f\t\xe2\x80\xaeevil \xff \xc2\x85\r\n")
    assert reply.text.isprintable()
    assert "\\x1b[2Jgone" in reply.text


def test_text_is_bounded() -> None:
    (reply,) = parse(b"550-" + b"x" * 4000 + b"\r\n550 " + b"y" * 4000 + b"\r\n")
    assert len(reply.text) == 1000


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_octets_give_replies_or_an_error_and_nothing_else(segments: list[bytes]) -> None:
    try:
        replies = parse(*segments)
    except ReplyError as error:
        shown = str(error)
        replies = []
    else:
        shown = "".join(reply.text for reply in replies)
    assert shown.isprintable()
    assert all(200 <= reply.code <= 599 for reply in replies)


@given(st.data())
def test_cuts_change_nothing(data: st.DataObject) -> None:
    wire = b"220 hi\r\n250-a\r\n250-PIPELINING\r\n250 SIZE 5\r\n250 2.1.0 ok\n550-5.1.1 a\r\n550 5.1.1 b\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1))))
    segments = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert parse(*segments) == parse(wire)
    assert len(parse(wire)) == 4
