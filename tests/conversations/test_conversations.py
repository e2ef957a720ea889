"""The dialogues of this folder, each with the runners it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.testing.conversation import Dialogue, main, play, read_dialogues
from mta.testing.daemon import Daemon
from mta.testing.house import USERS
from mta.testing.parties import EngineParty, MemoryParty, SocketParty

HERE = Path(__file__).parent
QUEUE_ID = re.compile(rb"\sid ([0-9A-Z]{13})[;\s]")


def _named(runner: str) -> list[object]:
    return [
        pytest.param(
            each,
            id=each.name,
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
        """In the order of acceptance, which queue IDs tell; deliveries may overtake one another."""
        messages = daemon.mailbox(*address.split("@"))
        messages.sort(key=lambda each: QUEUE_ID.search(each)[1])
        return [each.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for each in messages]

    implicit = dialogue.listener == "submissions"
    play(dialogue, SocketParty("127.0.0.1", port, implicit_tls=implicit, mailboxes=mailbox))


@pytest.mark.real
def test_anybody_can_play_them_with_a_server_of_his_own(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(HERE / "003-commands-in-any-case-and-one-space-too-many.conv"), str(HERE / "109-small-talk.conv")]
    assert main(["--connect", f"127.0.0.1:{daemon.mx}", *files]) == 0
    assert capsys.readouterr().out.count("ok     ") == 2
    assert (
        main(["--connect", f"127.0.0.1:{daemon.submission}", *files, str(HERE / "007-nobody-of-that-name.conv")]) == 1
    )
    assert "expected '250 *', came '530 5.7.0" in capsys.readouterr().out
