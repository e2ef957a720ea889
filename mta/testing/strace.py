"""The order of a daemon's system calls, as strace saw it: what was on disk before something was said.

    daemon = Daemon(tmp_path, prefix=traced(tmp_path / "trace", "pwrite64,fdatasync,sendto"))
    ...
    for call in calls_of(tmp_path / "trace"): ...

A call has two places in the order: where it `began` and where it `ended`. One call came surely before another when it ended
before the other began.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mta.testing.processes import wait_for

PAGE_OCTETS = 8192  # of the spool: strings are kept so far, so that a page is seen whole
_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+|\?)(.*)")
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>")


def missing() -> str:
    """The package that is wanting, or ""; for pytest.skip."""
    return "" if shutil.which("strace") else "strace"


def traced(output: Path, calls: str, *, inject: Sequence[str] = (), octets: int = PAGE_OCTETS) -> list[str]:
    """What to put before a command. The command keeps its pid; strace goes when it ends."""
    prefix = ["strace", "-DD", "-f", "--seccomp-bpf", "-y", "-s", str(octets), "-o", str(output)]
    return [*prefix, "-e", f"trace={calls}", *(part for each in inject for part in ("-e", f"inject={each}"))]


@dataclass(frozen=True, slots=True)
class Call:
    """`paths` of its descriptors, in their order; `text`: all its arguments; `result`: -1 for a failure."""

    thread: int
    name: str
    text: str
    result: int
    began: int
    ended: int

    @property
    def paths(self) -> list[str]:
        return _DESCRIPTOR.findall(self.text)

    @property
    def path(self) -> str:
        """Of the first descriptor: `socket:[4711]` for a socket."""
        found = _DESCRIPTOR.match(self.text)
        return found[1] if found else ""


def wait_until_written(output: Path, pid: int) -> None:
    """strace writes the last lines after the command has ended."""
    end = re.compile(rf"^{pid} +\+\+\+ ", re.MULTILINE)
    wait_for("the end of the trace", lambda: output.exists() and end.search(_tail(output)), 20)


def _tail(output: Path) -> str:
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - 4096))
        return file.read().decode("ascii", "replace")


def calls_of(output: Path) -> list[Call]:
    """By their end."""
    return list(_calls(output))


def _calls(output: Path) -> Iterator[Call]:
    begun: dict[str, tuple[int, str, str]] = {}
    with output.open(encoding="ascii", errors="replace") as lines:
        for at, line in enumerate(lines):
            if hit := _CALL.match(line):
                yield Call(int(hit[1]), hit[2], hit[3], _number(hit[4]), at, at)
            elif hit := _BEGUN.match(line):
                begun[hit[1]] = (at, hit[2], hit[3])
            elif (hit := _RESUMED.match(line)) and hit[1] in begun:
                since, name, text = begun.pop(hit[1])
                yield Call(int(hit[1]), name, text + hit[3], _number(hit[4]), since, at)


def _number(text: str) -> int:
    return -1 if text == "?" else int(text)
