"""What is measured, and how one measurement goes: server and sink started anew, warmed up, loaded, watched, ended."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from typing import Any

from machine import Party, Watch, calibration_ms, memory_mib
from peers import Server
from sink import Sink

from mta.testing.processes import wait_for

WARM_SHARE = 0.1  # of the messages, before the measurement


@dataclass(frozen=True, slots=True)
class Workload:
    """`hold`: accepted and kept, else relayed to the sink; `reuse`: many messages a connection; `share` of the usual number of messages."""

    name: str
    title: str
    octets: int = 10_240
    hold: bool = False
    reuse: bool = False
    share: float = 1.0


WORKLOADS = (
    Workload("accept", "accepted and held, 10 KB, a message a connection", hold=True),
    Workload("relay", "relayed, 10 KB, a message a connection"),
    Workload("relay-reused", "relayed, 10 KB, connections reused", reuse=True),
    Workload("relay-1k", "relayed, 1 KB, a message a connection", octets=1_024),
    Workload("relay-100k", "relayed, 100 KB, a message a connection", octets=102_400, share=0.4),
)
LARGE = Workload("relay-5m", "relayed, 5 MB, a message a connection", octets=5 << 20, share=0.02)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `other_cores`: kept busy by others, noise; `calibration_ms`: of a fixed piece of work just before."""

    messages: int
    seconds: float
    per_second: float
    cpu_ms: float  # of the server, a message
    other_cores: float
    calibration_ms: float

    def as_json(self) -> dict[str, Any]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure(server: Server, workload: Workload, messages: int, sessions: int, settle_seconds: float) -> Row:
    """`messages` is the number for the fastest; a slow server gets its share. Raises SystemExit when the load is refused."""
    number = max(20, int(messages * workload.share * server.share))
    warm = max(10, int(number * WARM_SHARE))
    with contextlib.ExitStack() as stack:
        sink = None if workload.hold else Sink()
        if sink is not None:
            stack.callback(sink.stop)
        stack.callback(server.stop)
        server.start(hold=workload.hold)
        _load(server, workload, warm, sessions)
        _arrived(server, sink, warm)
        calibration = calibration_ms()
        parties = [Party(server.pid, server.kept), *([Party(sink.pid)] if sink is not None else [])]
        watch = Watch(tuple(parties))
        began = time.perf_counter()
        _load(server, workload, number, sessions)
        seconds = time.perf_counter() - began
        if sink is not None:
            sink.wait(warm + number)
            seconds = sink.last_at - began
        time.sleep(settle_seconds)
        cpu, others = watch.stop()
        if sink is None:
            _arrived(server, None, warm + number)
    return Row(number, seconds, number / seconds, cpu / number * 1e3, others, calibration)


def _arrived(server: Server, sink: Sink | None, count: int) -> None:
    if sink is not None:
        sink.wait(count)
    else:
        wait_for(f"{count} messages in the queue of {server.name}", lambda: server.queued() >= count, 60, every=0.1)


def _load(server: Server, workload: Workload, messages: int, sessions: int) -> None:
    command = ["smtp-source", "-s", server.sessions or sessions, "-m", messages, "-l", workload.octets]
    command += ["-f", "sender@example.org", "-t", "rcpt@example.com", *(["-d"] if workload.reuse else [])]
    command.append(f"127.0.0.1:{server.port}")
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"smtp-source against {server.name}: {done.stderr.decode(errors='replace').strip()}")


# --- idle -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Idle:
    """Memory (PSS of all processes) without sessions, and with `sessions` that said EHLO. `refusal`: of the next one."""

    sessions: int
    alone_mib: float
    together_mib: float
    refusal: str = ""

    @property
    def kib_per_session(self) -> float:
        return (self.together_mib - self.alone_mib) * 1024 / max(self.sessions, 1)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"kib_per_session": round(self.kib_per_session, 2)}


def idle(server: Server, sessions: int) -> Idle:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        server.start(hold=True)
        party = Party(server.pid, server.kept)
        alone = memory_mib(party)
        opened, refusal = 0, ""
        for _ in range(sessions):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
            greeting = client.recv(512)
            client.sendall(b"EHLO bench.example\r\n")
            if not greeting.startswith(b"220") or not client.recv(2048).startswith(b"250"):
                refusal = greeting.decode(errors="replace").strip()
                break
            opened += 1
        return Idle(opened, alone, memory_mib(party), refusal)
