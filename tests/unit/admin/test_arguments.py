"""Arguments come from a socket: what is not understood is refused, and never widens what an operator meant."""

from __future__ import annotations

from typing import Any

import pytest

from mta.admin.arguments import narrows, selection_of
from mta.admin.errors import VerbError
from mta.mail.envelope import State
from mta.spool.contract import Selection

NOW = 1_000_000.0


def test_a_selection_is_normalised() -> None:
    arguments = {
        "ids": ["0000000000001"],
        "sender": "<A.b@EXAMPLE.org>",
        "recipient": "@Bücher.example",
        "destination": "mx:example.net",
        "older_than": "1h30m",
        "held": True,
    }
    assert selection_of(arguments, NOW) == Selection(
        messages=(1,),
        states=(State.QUEUED,),
        held=True,
        sender="A.b@example.org",
        recipient="@xn--bcher-kva.example",
        destination="mx:example.net",
        older_than=NOW - 5400,
    )
    assert selection_of({"sender": "<>"}, NOW) == Selection(sender="<>")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ids": ["nonsense"]}, "no queue ID"),
        ({"ids": "0000000000001"}, "ids: a list of texts"),
        ({"sender": "a b"}, "sender: 'a b' is no address"),
        ({"recipient": 5}, "recipient: a text"),
        ({"older_than": "soon"}, "older_than: .*no duration"),
        ({"held": "yes"}, "held: true or false"),
        ({"senders": "a@b"}, "unknown argument senders"),
        ({"sender": "x' OR 1=1 --"}, "is no address"),
    ],
)
def test_what_is_not_understood_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(VerbError, match=words):
        selection_of(arguments, NOW)


def test_a_change_of_everything_must_be_said() -> None:
    assert not narrows({})
    assert not narrows({"ids": [], "sender": "", "all": True, "cursor": "0:5"})
    assert narrows({"held": False})
    assert narrows({"sender": "<>"})
