"""The sink's conversation, however its octets are cut; and that a message is on record before its 250."""

import asyncio
from typing import Any

import pytest

from mta.testing.sink import Session

DIALOGUE = (
    b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<refused@d>\r\nRCPT TO:<x@d> NOTIFY=NEVER\r\nDATA\r\n"
    b"X-ID: 1\r\n\r\n..dots\r\n...\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<y@d>\r\nDATA\r\n.\r\nQUIT\r\n"
)


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("octets", [1, 2, 3, 7, len(DIALOGUE)])
def test_a_dialogue_cut_anywhere_is_the_same(octets: int) -> None:
    wire = Wire()
    taken: list[tuple[tuple[str, ...], bytes, int]] = []
    session = Session(
        lambda recipients, content: taken.append((recipients, content, wire.written.count(b"Taken"))), b"ref"
    )
    session.connection_made(wire)
    for at in range(0, len(DIALOGUE), octets):
        session.data_received(DIALOGUE[at : at + octets])
    codes = [line[:3] for line in wire.written.splitlines() if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"550", b"250", b"354", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert [(recipients, content) for recipients, content, _ in taken] == [
        (("x@d",), b"X-ID: 1\r\n\r\n.dots\r\n..\r\n"),
        (("y@d",), b""),
    ]
    assert taken[0][2] == 0, "its 250 was written before it was on record"
    assert wire.closed
