"""The sink that all servers relay to: smtp-sink, and its running counter."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time

from peers import SINK_PORT

from mta.testing.processes import greeting, stop, wait_for

BACKLOG = "4096"
_COUNT = re.compile(rb"mesg=(\d+)(?=\r)")


class Sink:
    """Running. `count` messages have come, the last one at `last_at` (perf_counter)."""

    def __init__(self) -> None:
        if greeting(SINK_PORT):
            raise SystemExit(f"something answers on port {SINK_PORT} already; the sink needs it")
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = ["smtp-sink", "-c", *as_nobody, f"127.0.0.1:{SINK_PORT}", BACKLOG]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        self.count, self.last_at = 0, time.perf_counter()
        threading.Thread(target=self._read, daemon=True).start()
        wait_for("the sink's greeting", lambda: greeting(SINK_PORT).startswith(b"220"))

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        tail = b""
        while block := os.read(self._process.stdout.fileno(), 65536):
            tail = (tail + block)[-400:]
            counts = _COUNT.findall(tail)
            if counts and int(counts[-1]) != self.count:
                self.count, self.last_at = int(counts[-1]), time.perf_counter()

    def wait(self, count: int, quiet_seconds: float = 30.0) -> None:
        """Until so many have come in all. Raises TimeoutError when none has come for a while."""
        self.last_at = time.perf_counter() if self.count < count else self.last_at
        while self.count < count:
            if time.perf_counter() - self.last_at > quiet_seconds:
                raise TimeoutError(f"{count - self.count} messages did not arrive at the sink")
            time.sleep(0.005)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            stop(self._process)
