"""A daemon's control socket for the command to talk to: a thread that answers from a table, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mta.cli import main as command

Answer = dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]]


class FakeDaemon:
    """`answers[verb]` is a result, or a function of the arguments; a missing verb is refused."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, Answer] = {}
        self.refusals: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as lines:
                for line in lines:
                    peer.sendall(json.dumps(self._answer(json.loads(line))).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        verb, arguments = request["verb"], request["arguments"]
        self.asked.append((verb, arguments))
        if verb in self.refusals:
            return {"ok": False, **self.refusals[verb]}
        answer = self.answers.get(verb)
        if answer is None:
            return {"ok": False, "error": f"no answer to {verb}", "code": 70}
        return {"ok": True, "result": answer(arguments) if callable(answer) else answer}

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)


@dataclass
class Ended:
    code: int
    out: str
    err: str


class Terminal:
    """Runs the command as main() does, in this process."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Ended:
        result = CliRunner().invoke(
            _Main(), ["--config", str(self.config), *arguments], input=stdin, catch_exceptions=False
        )
        return Ended(result.exit_code, result.stdout, result.stderr)


class _Main:
    """What CliRunner takes for a command: main() with its exit codes."""

    name = "mta"

    def main(self, args: list[str], prog_name: str, **extra: Any) -> None:
        command.run(args)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mta.toml"
    path.write_text('[control]\nsocket = "run/mta.sock"\n')
    (tmp_path / "run").mkdir()
    return path


@pytest.fixture
def daemon(config: Path) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(config.parent / "run/mta.sock")
    yield daemon
    daemon.close()


@pytest.fixture
def mta(config: Path) -> Terminal:
    return Terminal(config)
