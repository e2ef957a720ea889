"""The dialogues of this folder, each with the runners it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.testing.conversation import Dialogue, play, read_dialogues
from mta.testing.daemon import Daemon
from mta.testing.house import USERS
from mta.testing.parties import EngineParty, MemoryParty, SocketParty

HERE = Path(__file__).parent
# Faults that are known and not mended yet, by dialogue.
KNOWN = {
    "920-a-slow-refusal-is-still-a-refusal": "the rate counts content that is kept, not content that comes",
    "921-content-that-stops": "the rate is an average since the first octet",
}


def _named(runner: str) -> list[object]:
    return [
        pytest.param(
            each,
            id=each.name,
            marks=[pytest.mark.xfail(reason=KNOWN[each.name], strict=True)] if each.name in KNOWN else [],
        )
        for each in read_dialogues(HERE, runner)
    ]


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), users=USERS) as running:
        yield running


@pytest.mark.parametrize("dialogue", _named("engine"))
def test_with_the_engine_alone(dialogue: Dialogue) -> None:
    play(dialogue, EngineParty(dialogue))


@pytest.mark.parametrize("dialogue", _named("memory"))
def test_in_memory(dialogue: Dialogue) -> None:
    play(dialogue, MemoryParty(dialogue))


@pytest.mark.real
@pytest.mark.parametrize("dialogue", _named("daemon"))
def test_with_the_real_daemon(dialogue: Dialogue, daemon: Daemon) -> None:
    port = {"mx": daemon.mx, "submission": daemon.submission, "submissions": daemon.submissions}[dialogue.listener]

    def mailbox(address: str) -> list[bytes]:
        messages = daemon.mailbox(*address.split("@"))
        return [each.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for each in messages]

    implicit = dialogue.listener == "submissions"
    play(dialogue, SocketParty("127.0.0.1", port, implicit_tls=implicit, mailboxes=mailbox))
