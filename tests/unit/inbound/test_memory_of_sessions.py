"""A session that is over is gone: its memory is free at once, without the garbage collector."""

from __future__ import annotations

import gc

from mta.testing.reception import MemoryReception


def test_a_session_leaves_no_circle_behind() -> None:
    reception = MemoryReception()

    def one() -> None:
        connection = reception.connect("mx", "192.0.2.1")
        connection.send(b"EHLO client.example\r\n")
        connection.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<demo@dev.test>\r\nDATA\r\n")
        connection.send(b"Subject: x\r\n\r\nHello\r\n.\r\n")
        connection.send(b"QUIT\r\n")
        connection.hang_up()
        reception.connections.clear()

    one()
    gc.collect()
    for _ in range(10):
        one()
    assert gc.collect() == 0
