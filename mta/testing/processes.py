"""Real processes for tests: free ports, waiting for a real event with a deadline, an end by their own pid."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


_PORTS = range(15000, 32000)  # below the ephemeral ports: no client's own port can take one, or meet itself
_random = random.SystemRandom()  # hypothesis seeds the shared one
_handed_out: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on now, another one each time."""
    while True:
        port = _random.choice(_PORTS)
        if port in _handed_out:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            _handed_out.add(port)
            return port


def absent(*programs: str) -> str:
    """Those that are not installed, as words; "" when all are. For pytest.mark.skipif."""
    return " ".join(program for program in programs if shutil.which(program) is None)


def wait_for(what: str, probe: Callable[[], T | None], seconds: float = 20.0, every: float = 0.01) -> T:
    """The first true value of `probe`. Raises TimeoutError naming what did not come."""
    end = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(every)


def stop(process: subprocess.Popen[bytes], sig: int = signal.SIGTERM, seconds: float = 20.0) -> int:
    """End it by its pid; SIGKILL its group when it does not go. Its exit code."""
    if process.poll() is None:
        process.send_signal(sig)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait(5)


def greeting(port: int, seconds: float = 5.0, host: str = "127.0.0.1") -> bytes:
    """The first line that a server on loopback says; b"" when it can't be reached."""
    try:
        with socket.create_connection((host, port), seconds) as client:
            client.settimeout(seconds)
            return client.makefile("rb").readline()
    except OSError:
        return b""
