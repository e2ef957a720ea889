"""Keep a server whose processes leave their parents: python keeper.py COMMAND...

Exim and sendmail fork twice, and what was forked twice belongs to init. A keeper is the nearest subreaper (prctl(2)), so all of them stay
below it: their CPU is found in its children's times, and none outlives it. SIGTERM ends all. Its own CPU is not the server's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

from machine import tree

PR_SET_CHILD_SUBREAPER = 36
TERM_SECONDS = 5.0


def main() -> int:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    server = subprocess.Popen(sys.argv[1:])
    signal.signal(signal.SIGTERM, _ended)
    with contextlib.suppress(InterruptedError):
        while os.wait()[0] != server.pid:
            pass
    end = time.monotonic() + TERM_SECONDS
    while len(tree(os.getpid())) > 1:
        _signal_all(signal.SIGTERM if time.monotonic() < end else signal.SIGKILL)
        time.sleep(0.05)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return 0


def _ended(_number: int, _frame: FrameType | None) -> None:
    raise InterruptedError


def _signal_all(number: int) -> None:
    for pid in tree(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main())
