"""The servers that are compared, each behind the same face, started anew for every measurement."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
SINK_PORT = 2600  # of conf/bench.toml: where all of them relay to


def _passable(directory: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (directory, *directory.parents) if each.exists())


# All queues lie here, so on the same disk. Users of the peers must be able to pass.
WORK = ROOT / "var" / "bench" if _passable(ROOT) else Path("/var/tmp/txmta-bench")


class Server(Protocol):
    """With an empty queue at each start, on `port`, as process `pid`.

    `kept`: the process is bench/keeper.py, whose children are the server. `share` of the messages of a workload: the slow get fewer, so that
    rounds stay short. `sessions`: of the load generator, where this server needs more than the others to show what it can do.
    """

    name: str
    port: int
    pid: int
    kept: bool
    share: float
    sessions: int | None

    def missing(self) -> str:
        """What this machine lacks for it, as words; "" when it can be started."""

    def start(self, *, hold: bool) -> None:
        """`hold`: take mail and keep it."""

    def stop(self) -> None: ...

    def queued(self) -> int:
        """Messages that are held."""


def fresh(directory: Path) -> Path:
    """Empty, and passable by everybody."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    return directory


def is_root() -> bool:
    return os.geteuid() == 0
