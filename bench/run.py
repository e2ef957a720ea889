"""`make bench`: ours beside Postfix on this machine, in one run, in turn (A B A B), so that a busy minute hits both.

    bench/run.py [--rounds 3] [--messages 3000] [--only accept|relay|idle] ...

accept   the queue is held: messages a second from the first connect until the load generator has its last 250
relay    everything goes on to a sink: messages a second from the first connect until the sink has the last one
idle     memory with clear-text sessions that said EHLO and nothing more (ours only: Postfix has a process for each)

One message a connection, unless --reuse. Each measurement starts its server with an empty queue and warms it up. Read
`other cores` and `calibration` first: above 0.1, or off its usual value, something else ran, and the row proves nothing.
Both servers have a message on disk before they say 250.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import Watch, calibration_ms, memory_mib
from servers import ROOT, Ours, Postfix, Server, Sink, missing

from mta.testing.processes import wait_for

SETTLE_SECONDS = 2.0  # after the last message: what a server still does for it (deletions, log) is counted too
Row = dict[str, Any]


def main() -> int:
    options = _options()
    absent = missing()
    if absent and options.only != "idle":
        print(
            f"missing: {', '.join(absent)} (as root: apt install postfix). --only idle needs neither.", file=sys.stderr
        )
        return 69
    report: Row = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine(), **vars(options)}
    for name in ("accept", "relay"):
        if options.only in {name, None}:
            report[name] = _beside(name, options)
    if options.only in {"idle", None}:
        report["idle"] = _idle(options.idle_sessions)
        _print_idle(report["idle"])
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{path.relative_to(ROOT)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each server")
    parser.add_argument("--messages", type=int, default=3000, help="messages of a measurement")
    parser.add_argument("--sessions", type=int, default=20, help="sessions at once")
    parser.add_argument("--length", type=int, default=10240, help="octets of a message")
    parser.add_argument("--warm", type=int, default=300, help="messages before each measurement")
    parser.add_argument("--reuse", action="store_true", help="many messages a connection")
    parser.add_argument("--idle-sessions", type=int, default=2000, help="open sessions of the idle measurement")
    parser.add_argument("--only", choices=["accept", "relay", "idle"], help="this one alone; default: all")
    return parser.parse_args()


def _machine() -> str:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = model[0].partition(":")[2].strip() if model else platform.processor()
    return f"{len(model) or '?'} x {name}, Linux {platform.release()}, Python {platform.python_version()}"


# --- side by side -----------------------------------------------------------------------------------------------------


def _beside(workload: str, options: argparse.Namespace) -> Row:
    hold = workload == "accept"
    rows: dict[str, list[Row]] = {"txmta": [], "postfix": []}
    makers: tuple[Callable[[], Server], ...] = (lambda: Ours(hold=hold), lambda: Postfix(hold=hold))
    print(f"\n{workload}: {options.messages} messages of {options.length} octets, {options.sessions} sessions")
    print(f"{'':10}{'msg/s':>9}{'CPU ms/msg':>12}{'other cores':>13}{'calibration':>13}")
    for _ in range(options.rounds):
        for maker in makers:
            server = maker()
            row = _measure(server, options, None if hold else Sink())
            rows[server.name].append(row)
            _print_row(server.name, row)
    medians = {
        name: {key: statistics.median(row[key] for row in of) for key in ("per_second", "cpu_ms")}
        for name, of in rows.items()
    }
    ours, theirs = medians["txmta"], medians["postfix"]
    ratio = ours["per_second"] / theirs["per_second"]
    for name, median in medians.items():
        print(f"{name:10}{median['per_second']:9.0f}{median['cpu_ms']:12.3f}   median of {options.rounds}")
    print(f"ratio of medians: {ratio:.2f} in speed, {theirs['cpu_ms'] / ours['cpu_ms']:.2f} in CPU")
    return {"rows": rows, "medians": medians, "ratio": round(ratio, 3)}


def _measure(server: Server, options: argparse.Namespace, sink: Sink | None) -> Row:
    try:
        server.start()
        _load(server, options, options.warm)
        if sink is not None:
            sink.wait(options.warm)
        else:
            wait_for("the warming messages in the queue", lambda: server.queued() >= options.warm)
        calibration = calibration_ms()
        watch = Watch((server.pid, *([sink.pid] if sink is not None else [])))
        began = time.perf_counter()
        _load(server, options, options.messages)
        seconds = time.perf_counter() - began
        if sink is not None:
            sink.wait(options.warm + options.messages)
            seconds = sink.last_at - began
        time.sleep(SETTLE_SECONDS)
        cpu, others = watch.stop()
        kept = server.queued() if sink is None else 0
        if sink is None and kept != options.warm + options.messages:
            raise SystemExit(f"{server.name} has {kept} messages of {options.warm + options.messages}")
    finally:
        server.stop()
        if sink is not None:
            sink.stop()
    return {
        "per_second": round(options.messages / seconds, 1),
        "seconds": round(seconds, 3),
        "cpu_ms": round(cpu / options.messages * 1e3, 4),
        "other_cores": round(others, 2),
        "calibration_ms": round(calibration, 1),
    }


def _load(server: Server, options: argparse.Namespace, messages: int) -> None:
    command = ["smtp-source", "-s", options.sessions, "-m", messages, "-l", options.length]
    command += ["-f", "sender@example.org", "-t", "rcpt@example.com", *(["-d"] if options.reuse else [])]
    command.append(f"127.0.0.1:{server.port}")
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"smtp-source against {server.name}: {done.stderr.decode(errors='replace').strip()}")


def _print_row(name: str, row: Row) -> None:
    figures = f"{row['per_second']:9.0f}{row['cpu_ms']:12.3f}{row['other_cores']:13.2f}{row['calibration_ms']:13.1f}"
    print(f"{name:10}{figures}", flush=True)


# --- idle sessions ----------------------------------------------------------------------------------------------------


def _idle(sessions: int) -> Row:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Ours(hold=True)
    with contextlib.ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        alone = memory_mib(server.pid)
        opened, refusal = 0, ""
        for _ in range(sessions):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 15))
            greeting = client.recv(512)
            client.sendall(b"EHLO bench.example\r\n")
            if not greeting.startswith(b"220") or not client.recv(2048).startswith(b"250"):
                refusal = greeting.decode(errors="replace").strip()
                break
            opened += 1
        together = memory_mib(server.pid)
    return {
        "sessions": opened,
        "refusal": refusal,
        "pss_mib": round(together[0], 1),
        "rss_mib": round(together[1], 1),
        "pss_mib_without": round(alone[0], 1),
        "kib_per_session": round((together[0] - alone[0]) * 1024 / max(opened, 1), 2),
    }


def _print_idle(row: Row) -> None:
    print(
        f"\nidle: {row['sessions']} sessions that said EHLO" + (f", then: {row['refusal']}" if row["refusal"] else "")
    )
    print(f"{row['pss_mib']:.1f} MiB (Rss {row['rss_mib']:.1f}); {row['pss_mib_without']:.1f} without them; ", end="")
    print(f"{row['kib_per_session']:.1f} KiB a session")


if __name__ == "__main__":
    sys.exit(main())
