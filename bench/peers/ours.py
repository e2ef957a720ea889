"""txmta with conf/bench.toml; with conf/bench-hold.toml its queue is held."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from mta.testing.processes import greeting, stop, wait_for
from peers import ROOT

PORT = 2530  # of conf/bench.toml
STATE = ROOT / "var" / "bench"  # the same


class Ours:
    name = "txmta"
    port = PORT
    kept = False
    share = 1.0
    sessions: int | None = None

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._config = Path()
        self.pid = 0

    def missing(self) -> str:
        return ""

    def start(self, *, hold: bool) -> None:
        self._config = ROOT / "conf" / ("bench-hold.toml" if hold else "bench.toml")
        if greeting(self.port):
            raise SystemExit(f"something answers on port {self.port} already; conf/bench.toml wants it for txmta")
        shutil.rmtree(STATE / "spool", ignore_errors=True)
        STATE.mkdir(parents=True, exist_ok=True)
        (STATE / "mta.log").unlink(missing_ok=True)
        with (STATE / "output").open("wb") as output:
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
            raise SystemExit(f"txmta ended:\n{(STATE / 'output').read_text()}")
        return greeting(self.port).startswith(b"220")

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process, seconds=60)

    def queued(self) -> int:
        command = [sys.executable, "-m", "mta.cli.main", "--config", self._config, "status", "--json"]
        status = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return sum(spool["queued"] for spool in status["spools"])
