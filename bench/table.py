"""What was measured, for the terminal, and the figures that are drawn from it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workloads import Idle, Row, Workload

NOISY_CORES = 0.1
SLOW_MACHINE = 1.3  # times the fastest calibration of the run


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one server in one workload: medians, and the spread of the rate."""

    per_second: float
    slowest: float
    fastest: float
    cpu_ms: float
    noisy: int  # rows
    rounds: int


def summarise(rows: Sequence[Row], best_calibration_ms: float) -> Summary:
    rates = [row.per_second for row in rows]
    noisy = sum(
        row.other_cores > NOISY_CORES or row.calibration_ms > SLOW_MACHINE * best_calibration_ms for row in rows
    )
    cpu = statistics.median(row.cpu_ms for row in rows)
    return Summary(statistics.median(rates), min(rates), max(rates), cpu, noisy, len(rows))


def ratios(summaries: Mapping[str, Summary], ours: str = "txmta") -> dict[str, dict[str, float]]:
    """For each peer: `speed`, ours in its measure; `cpu`, what a message costs us in its measure."""
    own = summaries[ours]
    return {
        name: {"speed": round(own.per_second / of.per_second, 3), "cpu": round(own.cpu_ms / of.cpu_ms, 3)}
        for name, of in summaries.items()
        if name != ours and of.cpu_ms
    }


def heading(workload: Workload) -> str:
    columns = f"{'':12}{'msg/s':>9}{'CPU ms/msg':>12}{'other cores':>13}{'calibration':>13}{'messages':>10}"
    return f"\n{workload.name}: {workload.title}\n{columns}"


def line(name: str, row: Row) -> str:
    figures = f"{row.per_second:9.0f}{row.cpu_ms:12.3f}{row.other_cores:13.2f}{row.calibration_ms:13.1f}"
    return f"{name:12}{figures}{row.messages:10}"


def results(summaries: Mapping[str, Summary]) -> str:
    against = ratios(summaries)
    lines = []
    for name, of in summaries.items():
        text = f"{name:12}{of.per_second:9.0f}{of.cpu_ms:12.3f}   median of {of.rounds} [{of.slowest:.0f} to {of.fastest:.0f}]"
        if name in against:
            text += f"; ours: {against[name]['speed']:.2f} times the speed, {against[name]['cpu']:.2f} of the CPU"
        if of.noisy:
            text += f"; {of.noisy} noisy"
        lines.append(text)
    return "\n".join(lines)


def idle_line(name: str, idle: Idle) -> str:
    text = f"{name:12}{idle.alone_mib:9.1f} MiB alone; {idle.together_mib:.1f} with {idle.sessions} idle sessions"
    text += f", {idle.kib_per_session:.1f} KiB each"
    return text + (f"; then: {idle.refusal}" if idle.refusal else "")


def as_json(rows: Mapping[str, Sequence[Row]], summaries: Mapping[str, Summary]) -> dict[str, Any]:
    return {
        "rows": {name: [row.as_json() for row in of] for name, of in rows.items()},
        "medians": {
            name: {"per_second": round(of.per_second, 1), "cpu_ms": round(of.cpu_ms, 4), "noisy": of.noisy}
            for name, of in summaries.items()
        },
        "ratios": ratios(summaries),
    }
