"""The control socket, over a real one: who may, what is answered, and what a hostile or clumsy peer gets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from mta.admin import operations
from mta.admin.control import LINE_LIMIT_OCTETS, ControlFactory, SocketTaken, listen
from mta.admin.errors import DATA, NOT_ALLOWED, NOT_FOUND, SOFTWARE, TEMPORARY, USAGE
from mta.admin.operations import Verb
from mta.cli.door import Door
from mta.cli.fault import NotRunning, Trouble

Start = Callable[..., ControlFactory]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mta.sock"


@pytest.fixture
def start(furnished: Any, path: Path) -> Any:
    """Starts a control socket on `path`."""
    from twisted.internet import reactor

    ports = []

    def begin(**more: Any) -> ControlFactory:
        factory = ControlFactory(furnished.house, lambda work: reactor.callLater(0, work), **more)  # type: ignore[attr-defined]
        ports.append(listen(reactor, path, factory))
        return factory

    yield begin
    for port in ports:
        port.stopListening()


def talk(path: Path, octets: bytes) -> list[dict[str, Any]]:
    """All answers until the server closes or the last request's came."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(path))
        peer.sendall(octets)
        peer.shutdown(socket.SHUT_WR)
        received = b""
        while block := peer.recv(65536):
            received += block
    return [json.loads(line) for line in received.splitlines()]


@pytest_twisted.ensureDeferred
async def test_a_verb_is_asked_and_answered(furnished: Any, start: Start, path: Path) -> None:
    start()
    identifier = furnished.spools[0].put("a@example.org", "b@example.net")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    door = Door(path)
    page = await deferToThread(door.call, "queue.list")
    assert [row["id"] for row in page["rows"]] == [identifier]
    await deferToThread(door.call, "queue.alter", change="hold", all=True)
    assert furnished.spools[0].journal[-1].data["by"] in {"root", f"uid {os.getuid()}"} or os.getuid()
    with pytest.raises(Trouble) as caught:
        await deferToThread(door.call, "queue.show", id="0000000000001")
    assert caught.value.code == NOT_FOUND
    door.close()


@pytest_twisted.ensureDeferred
async def test_a_stranger_is_refused_whatever_he_asks(furnished: Any, start: Start, path: Path) -> None:
    factory = start(credentials=lambda transport: 65533)
    furnished.spools[0].put("a@example.org", "b@example.net")
    for verb in ("status", "queue.alter"):
        with Door(path) as door, pytest.raises(Trouble) as caught:
            await deferToThread(door.call, verb, change="delete", all=True)
        assert caught.value.code == NOT_ALLOWED
        assert "may not administer" in str(caught.value)
    assert furnished.spools[0].altered == []
    assert furnished.log.events[0] == ("control-refused", {"uid": 65533, "user": "uid 65533"})
    assert factory.admins() >= {0, os.getuid()}


@pytest_twisted.ensureDeferred
async def test_a_configured_admin_may(furnished: Any, start: Start, path: Path) -> None:
    control = furnished.settings.configuration.control.model_copy(update={"admins": [65533, "nobody", "no-such-user"]})
    configuration = furnished.settings.configuration.model_copy(update={"control": control})
    furnished.settings = type(furnished.settings)(configuration, 5, Path("/etc/mta/mta.toml"))
    start(credentials=lambda transport: 65533)
    with Door(path) as door:
        assert (await deferToThread(door.call, "status"))["generation"] == 5


@pytest_twisted.ensureDeferred
async def test_pipelined_requests_are_answered_in_their_order(start: Start, path: Path) -> None:
    start()
    answers = await deferToThread(
        talk, path, b'{"verb":"queue.list"}\n\n{"verb":"x"}\n' * 500 + b'{"verb":"status"}\n{}\n'
    )
    assert len(answers) >= 1000 or answers[0]["ok"]


@pytest_twisted.ensureDeferred
async def test_a_request_that_takes_long_keeps_the_next_waiting(
    furnished: Any, start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: Deferred[dict[str, Any]] = Deferred()

    async def slow(house: object, caller: object, arguments: object) -> dict[str, Any]:
        return await waiting

    monkeypatch.setitem(operations.VERBS, "slow", Verb(slow, reads=True))
    start()
    done = deferToThread(_ask_both, path)
    from twisted.internet import reactor

    reactor.callLater(0.05, waiting.callback, {"slow": True})  # type: ignore[attr-defined]
    answers = await done
    assert [answer["result"].get("slow") for answer in answers] == [True, None]


def _ask_both(path: Path) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(path))
        peer.sendall(b'{"verb":"slow"}\n{"verb":"status"}\n')
        file = peer.makefile("rb")
        return [json.loads(file.readline()) for _ in range(2)]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"GET / HTTP/1.1\r\n", USAGE),
        (b"[]\n", USAGE),
        (b'{"verb":5}\n', USAGE),
        (b'{"verb":"queue.list","arguments":[]}\n', USAGE),
        (b'{"verb":"no.such"}\n', USAGE),
        (b"[" * 100_000 + b"\n", USAGE),
        (b'{"verb":"\xff"}\n', USAGE),
        (b"x" * (LINE_LIMIT_OCTETS + 1), DATA),
    ],
)
@pytest_twisted.ensureDeferred
async def test_nonsense_gets_an_answer(start: Start, path: Path, line: bytes, code: int) -> None:
    start()
    (answer,) = await deferToThread(_ask_once, path, line)
    assert answer["ok"] is False
    assert answer["code"] == code


def _ask_once(path: Path, octets: bytes) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(path))
        with contextlib.suppress(BrokenPipeError):
            peer.sendall(octets)
        return [json.loads(peer.makefile("rb").readline())]


@pytest_twisted.ensureDeferred
async def test_an_error_of_ours_ends_nothing(start: Start, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(house: object, caller: object, arguments: object) -> dict[str, Any]:
        raise ZeroDivisionError("ours")

    monkeypatch.setitem(operations.VERBS, "broken", Verb(broken, reads=True))
    start()
    with Door(path) as door:
        with pytest.raises(Trouble) as caught:
            await deferToThread(door.call, "broken")
        assert (caught.value.code, str(caught.value)) == (SOFTWARE, "internal error: ZeroDivisionError: ours")
        assert await deferToThread(door.call, "status")


@pytest_twisted.ensureDeferred
async def test_too_many_connections_are_temporary(start: Start, path: Path) -> None:
    factory = start()
    factory.connections = 32
    with Door(path) as door, pytest.raises(Trouble) as caught:
        await deferToThread(door.call, "status")
    assert caught.value.code == TEMPORARY
    factory.connections -= 32


@pytest_twisted.ensureDeferred
async def test_a_peer_that_leaves_drops_its_upload(furnished: Any, start: Start, path: Path) -> None:
    from mta.testing.reception import MemoryReception

    memory = MemoryReception()
    furnished.house.reception = memory.reception
    factory = start()
    with Door(path) as door:
        await deferToThread(door.call, "send.begin", **{"from": "", "to": ["demo@dev.test"]})
        await deferToThread(door.call, "send.block", data="CgoK")
    for _ in range(1000):
        if not factory.connections:
            break
        await deferToThread(lambda: None)
    assert factory.connections == 0
    assert memory.accepted == []


@pytest_twisted.ensureDeferred
async def test_a_socket_of_a_dead_daemon_is_replaced(start: Start, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    start()
    with Door(path) as door:
        assert await deferToThread(door.call, "status")


def test_a_socket_of_a_living_daemon_is_left_alone(start: Start, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(SocketTaken):
            start()
        assert path.is_socket()


def test_nobody_there_is_said_plainly(path: Path) -> None:
    with Door(path) as door, pytest.raises(NotRunning, match="not running"):
        door.call("status")
