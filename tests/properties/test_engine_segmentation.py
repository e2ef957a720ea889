"""The same octets, cut anywhere, give the same events and the same replies."""

from __future__ import annotations

import os
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp.events import ContentEnd
from mta.smtp.extensions import ServerProfile
from mta.testing.engine_driver import EngineDriver

EXAMPLES = 5000 if os.environ.get("MTA_LONG") else 300

ALPHABET = [b"\r\n", b".", b"\r\n.", b"\r", b"\n", b"a", b"b" * 70, b"\0", b"\xc3\xa9", b"..", b"\r\n.\r", b"x" * 1200]
CONTENT = st.lists(st.sampled_from(ALPHABET), max_size=40).map(b"".join)
# Turns after which a client must wait for the reply: they end a segment group (RFC 2920 section 3.1).
GROUPS = st.lists(
    st.sampled_from(
        [
            b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n",
            b"MAIL FROM:<>\r\n",
            b"RCPT TO:<x@y.example> NOTIFY=NEVER\r\n",
            b"RSET\r\n",
            b"NOOP\r\n",
            b"VRFY a\r\n",
            b"GARBAGE \x01\r\n",
            b"mail from:<a@b> SIZE=999999999\r\n",
            b"X" * 3000 + b"\r\n",
            b"HELP\nNOOP\r\n",
            b"BDAT 5\r\nab\r\nc",
            b"BDAT 3 LAST\r\nd\r\n",
            b"BDAT 0 LAST\r\n",
            b"EHLO again.example\r\n",
        ]
    ),
    max_size=12,
)


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(octets) + 1) for place in places} | {0, len(octets)})
    return [octets[a:b] for a, b in pairwise(marks) if a != b]


def play(turns: list[bytes], places: list[int] | None) -> EngineDriver:
    driver = EngineDriver(ServerProfile("mail.example.org", size_limit=20_000, starttls=True, auth=True))
    for turn in turns:
        driver.send(*(cut(turn, places) if places is not None else [turn]))
    return driver


@settings(max_examples=EXAMPLES, deadline=None)
@given(groups=GROUPS, contents=st.lists(CONTENT, max_size=3), places=st.lists(st.integers(0, 10**6), max_size=60))
def test_the_same_octets_cut_anywhere_give_the_same_events(
    groups: list[bytes], contents: list[bytes], places: list[int]
) -> None:
    turns = [b"EHLO c.example\r\n", b"".join(groups), b"RSET\r\n"]
    for content in contents:
        turns += [b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n", content + b"\r\n.\r\nNOOP\r\n"]
    whole, pieces = play(turns, None), play(turns, places)
    assert whole.wire == pieces.wire
    ends = [event for event in whole.seen if isinstance(event, ContentEnd)]
    taken = [index for index, end in enumerate(ends) if end.refusal is None]
    assert [whole.content[index] for index in taken] == [pieces.content[index] for index in taken]
    assert [type(e) for e in whole.seen] == [type(e) for e in pieces.seen]
    assert whole.seen == pieces.seen


@settings(max_examples=EXAMPLES, deadline=None)
@given(content=CONTENT)
def test_only_crlf_dot_crlf_ends_the_content(content: bytes) -> None:
    """One byte at a time against a plain search over the whole."""
    driver = EngineDriver()
    driver.send(b"EHLO c.example\r\n")
    driver.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    octets = content + b"\r\n.\r\n"
    end = (b"\r\n" + octets).index(b"\r\n.\r\n")
    expected = (b"\r\n" + octets)[: end + 2].replace(b"\r\n.", b"\r\n")[2:]
    driver.send(*[octets[i : i + 1] for i in range(end + 3)])
    assert len(driver.content) == 1
    lone = expected.replace(b"\r\n", b"")
    if not any(octet in lone for octet in (b"\r", b"\n", b"\0")):
        assert expected == driver.content[0]
    else:
        assert b"\r\n550 " in driver.wire


def test_twenty_thousand_pipelined_commands_in_one_packet_are_answered_one_by_one() -> None:
    driver = EngineDriver(ServerProfile("mail.example.org", junk_limit=10**6))
    driver.send(b"EHLO c.example\r\n")
    said = driver.send(b"NOOP\r\n" * 20_000)
    assert said.count(b"250 2.0.0 Ok\r\n") == 20_000
