"""The two that are compared, ours and Postfix, behind one face; and the sink that both relay to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Protocol

from mta.testing.postfix import PrivatePostfix
from mta.testing.postfix import missing as postfix_missing
from mta.testing.processes import greeting, stop, wait_for

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "var" / "bench"  # both queues lie here, so on the same disk
OUR_PORT = 2530  # of conf/bench.toml
SINK_PORT = 2600


def missing() -> list[str]:
    """What a full run needs and this machine has not, as an administrator would install it."""
    wanted = {"smtp-source": "postfix", "smtp-sink": "postfix"}
    absent = {package for program, package in wanted.items() if shutil.which(program) is None}
    return sorted(absent | ({postfix_missing()} if postfix_missing() else set()))


class Server(Protocol):
    """Started anew for every measurement: with an empty queue, on the port `port`, as process `pid`."""

    name: str
    port: int
    pid: int

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def queued(self) -> int: ...


class Ours:
    """`twistd mta` with conf/bench.toml; with conf/bench-hold.toml its queue is held."""

    name = "txmta"
    port = OUR_PORT

    def __init__(self, *, hold: bool) -> None:
        self._config = ROOT / "conf" / ("bench-hold.toml" if hold else "bench.toml")
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self) -> None:
        if greeting(self.port):
            raise SystemExit(f"something answers on port {self.port} already; conf/bench.toml wants it for txmta")
        shutil.rmtree(WORK / "spool", ignore_errors=True)
        WORK.mkdir(parents=True, exist_ok=True)
        (WORK / "mta.log").unlink(missing_ok=True)
        with (WORK / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("twistd"), "-n", "--pidfile=", "mta", "--config", self._config],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.pid = self._process.pid
        wait_for("txmta's greeting", self._greets, 30)

    def _greets(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise SystemExit(f"txmta ended:\n{(WORK / 'output').read_text()}")
        return greeting(self.port).startswith(b"220")

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process, seconds=60)

    def queued(self) -> int:
        command = [sys.executable, "-m", "mta.cli.main", "--config", self._config, "status", "--json"]
        status = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return sum(spool["queued"] for spool in status["spools"])


class Postfix:
    """A private Postfix with its defaults, logging as it does by default."""

    name = "postfix"

    def __init__(self, *, hold: bool) -> None:
        self._hold = hold
        self._running: PrivatePostfix | None = None
        self.port = self.pid = 0

    def start(self) -> None:
        shutil.rmtree(WORK / "postfix", ignore_errors=True)
        settings = {
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_recipient_restrictions": "check_client_access static:HOLD, permit" if self._hold else "permit",
            "relayhost": f"[127.0.0.1]:{SINK_PORT}",
            "smtp_tls_security_level": "none",
        }
        self._running = PrivatePostfix(WORK / "postfix", settings=settings)
        self._running.start()
        self.port, self.pid = self._running.port, self._running.pid

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()

    def queued(self) -> int:
        if self._running is None:
            return 0
        return sum(1 for path in (self._running.directory / "spool" / "hold").rglob("*") if path.is_file())


class Sink:
    """smtp-sink, and its running counter."""

    def __init__(self) -> None:
        if greeting(SINK_PORT):
            raise SystemExit(f"something answers on port {SINK_PORT} already; the sink needs it")
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = ["smtp-sink", "-c", *as_nobody, f"127.0.0.1:{SINK_PORT}", "4096"]
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
            counts = re.findall(rb"mesg=(\d+)(?=\r)", tail)
            if counts and int(counts[-1]) != self.count:
                self.count, self.last_at = int(counts[-1]), time.perf_counter()

    def wait(self, count: int, quiet_seconds: float = 20.0) -> None:
        """Until so many have come in all. Raises TimeoutError when none has come for a while."""
        while self.count < count:
            if time.perf_counter() - self.last_at > quiet_seconds:
                raise TimeoutError(f"{count - self.count} messages did not arrive at the sink")
            time.sleep(0.005)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            stop(self._process)
