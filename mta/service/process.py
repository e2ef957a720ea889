"""What a process of ours sets once, before its first timer: the clock, the thread switch; and what it tells systemd."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from typing import Any

from twisted.internet.error import ReactorNotRunning

# A thread that wakes a busy reactor waits this long for the interpreter: 4 ms instead of 21 ms at the default of 5 ms (law 13).
SWITCH_INTERVAL_SECONDS = 0.0005
# Most objects of a message die young and without cycles; the collector need not look after every 700 of them.
GC_THRESHOLDS = (20_000, 20, 50)


def prepare_process(reactor: Any) -> None:
    """Timers follow the monotonic clock (law 9): a step of the wall clock neither freezes nor fires them."""
    reactor.seconds = time.monotonic
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)


def end_at_sigterm(reactor: Any) -> None:
    """SIGTERM is an orderly end with exit code 0. Call it when the reactor runs.

    Twisted's own handler stops the reactor too, but then ends the process by the signal, which looks like a failure to whoever waits
    for it. A second SIGTERM changes nothing: what is under way is bounded in time.
    """

    def stop() -> None:
        with contextlib.suppress(ReactorNotRunning):
            reactor.stop()

    signal.signal(signal.SIGTERM, lambda number, frame: reactor.callFromThread(stop))


def settle_memory() -> None:
    """Once everything is built: what lives for ever is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def notify_systemd(state: str) -> bool:
    """sd_notify(3): "READY=1", "WATCHDOG=1", "STOPPING=1". False when nobody listens; never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or address[0] not in "/@":
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.sendall(state.encode())
    except OSError:
        return False
    return True


def watchdog_seconds() -> float:
    """How often to say WATCHDOG=1: half of what the unit allows; 0 when it asks for none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = os.environ.get("WATCHDOG_USEC", "0")
    return int(microseconds) / 2e6 if microseconds.isdecimal() else 0.0
