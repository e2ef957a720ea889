"""The command's side of the control socket: blocking, standard library alone, so that a question costs no import of Twisted."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from mta.admin.errors import NOT_ALLOWED, TEMPORARY, UNAVAILABLE
from mta.cli.fault import NotRunning, Trouble

CONNECT_TIMEOUT_SECONDS = 10.0
ANSWER_TIMEOUT_SECONDS = 120.0  # a reload checks certificates; a search in the history reads days of it


class Door:
    """One connection to the daemon, opened at the first call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._buffer = bytearray()

    def __enter__(self) -> Door:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, verb: str, **arguments: object) -> Any:
        """The result. Raises NotRunning, and Trouble with what the daemon said."""
        request = json.dumps({"verb": verb, "arguments": arguments}).encode("ascii") + b"\n"
        connection = self._connected()
        try:
            connection.sendall(request)
        except BrokenPipeError:
            pass  # refused at once: the answer says why
        except OSError as error:
            raise Trouble(f"the daemon went away: {error}", UNAVAILABLE) from error
        answer = json.loads(self._line(connection))
        if answer.get("ok"):
            return answer.get("result")
        raise Trouble(str(answer.pop("error", "refused")), int(answer.pop("code", 70)), answer)

    def _connected(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_TIMEOUT_SECONDS)
        try:
            connection.connect(str(self.path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            connection.close()
            raise NotRunning(f"the daemon is not running (nobody answers on {self.path})") from error
        except PermissionError as error:
            connection.close()
            raise Trouble(f"you may not open {self.path}", NOT_ALLOWED) from error
        except OSError as error:
            connection.close()
            raise Trouble(f"{self.path}: {error}", UNAVAILABLE) from error
        connection.settimeout(ANSWER_TIMEOUT_SECONDS)
        self._socket = connection
        return connection

    def _line(self, connection: socket.socket) -> bytes:
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line
            searched = len(self._buffer)
            try:
                block = connection.recv(1 << 18)
            except TimeoutError as error:
                raise Trouble("the daemon does not answer", TEMPORARY) from error
            except OSError as error:
                raise Trouble(f"the daemon went away: {error}", UNAVAILABLE) from error
            if not block:
                raise Trouble("the daemon closed the connection without an answer", UNAVAILABLE)
            self._buffer += block
