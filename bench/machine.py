"""What the machine did meanwhile: CPU of a server's processes, memory, and whether something else disturbed the measurement."""

from __future__ import annotations

import os
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; [] for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Party:
    """A process and all below it. `kept`: the process itself is bench/keeper.py and does not count."""

    pid: int
    kept: bool = False

    def cpu_seconds(self) -> float:
        """User and system time, with the children that it has seen end."""
        ticks = 0
        for pid in tree(self.pid):
            fields = _stat(pid)
            of = fields[13:15] if self.kept and pid == self.pid else fields[11:15]
            ticks += sum(int(each) for each in of)
        return ticks / TICKS_PER_SECOND


def memory_mib(party: Party) -> float:
    """Pss: shared pages divided among their users."""
    pss = 0
    for pid in tree(party.pid)[1 if party.kept else 0 :]:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
        pss += int(found[1]) if found else 0
    return pss / 1024


def calibration_ms() -> float:
    """A fixed piece of work: when it takes longer than usual, the machine itself got slower."""
    began, total = time.perf_counter(), 0
    for number in range(600_000):
        total += number * number
    return (time.perf_counter() - began) * 1e3


def _busy_seconds() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        times = [int(field) for field in file.readline().split()[1:9]]
    return (sum(times) - times[3] - times[4]) / TICKS_PER_SECOND  # without idle and iowait


def _own_seconds() -> float:
    of_us, of_children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in (of_us, of_children))


@dataclass
class Watch:
    """The time between two moments. `parties`: whose CPU belongs to the measurement, the server first."""

    parties: tuple[Party, ...]

    def __post_init__(self) -> None:
        self._cpu = [party.cpu_seconds() for party in self.parties]
        self._busy, self._own, self._began = _busy_seconds(), _own_seconds(), time.perf_counter()

    def stop(self) -> tuple[float, float]:
        """CPU seconds of the server; how many cores others kept busy (noise: above 0.1, don't trust the row)."""
        spent = [party.cpu_seconds() - before for party, before in zip(self.parties, self._cpu, strict=True)]
        window = time.perf_counter() - self._began
        others = _busy_seconds() - self._busy - sum(spent) - (_own_seconds() - self._own)
        return spent[0], max(0.0, others / window)
