"""Values of a message."""

from __future__ import annotations

from mta.mail.envelope import BodyFile, Content, Notify, State


def test_the_size_of_content_has_the_empty_line_in_it() -> None:
    assert len(b"A: b\r\n\r\nxyz\r\n") == Content(b"A: b\r\n", b"xyz\r\n").size
    assert Content(b"A: b\r\n", BodyFile("body/x", 5)).size == 13
    assert Content(b"", b"").size == 2


def test_stored_numbers_keep_their_meaning() -> None:
    """They are in databases: a change is a migration."""
    assert [each.value for each in State] == [0, 1, 2, 3, 4, 5, 6]
    assert (Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.DELAY) == (1, 2, 4, 8)
