"""`make bench`: ours beside Postfix, Exim and sendmail on this machine, in one run, in turn (A B C D A B C D), so that a busy minute hits all.

    python bench/run.py [--quick] [--only WORKLOAD ...] [--peers postfix,exim] [--rounds 3] [--messages 3000]

accept          the queue is held: messages a second from the first connect until the load generator has its last 250
relay ...       everything goes on to a sink: messages a second from the first connect until the sink has the last one
idle            memory alone and with idle sessions
destinations    1,000 destinations of which half are dead: what the living get, in measure of what they get when all live (ours alone)

Each measurement starts its server with an empty queue and warms it up. Read `other cores` and `calibration` first: above 0.1, or off
its usual value, something else ran, and the row proves nothing. All servers have a message on disk before they say 250. Ratios count;
absolute figures are this machine's and this minute's. Ends with 1 when a promised ratio (floors.toml) falls 20 % short.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import table
import workloads
from floors import promised, shortfalls
from machine import calibration_ms
from peers import ROOT, Server
from peers.exim import Exim
from peers.ours import Ours
from peers.postfix import Postfix
from peers.sendmail import Sendmail
from plot import picture
from workloads import LARGE, WORKLOADS, Row, Workload

from mta.testing.neighbours import living_rate

PEERS: dict[str, Callable[[], Server]] = {"postfix": Postfix, "exim": Exim, "sendmail": Sendmail}
IDLE_SESSIONS = 50  # Postfix has a process for each
IDLE_SESSIONS_OURS = 2000
OTHERS = ("idle", "destinations")
EX_UNAVAILABLE = 69
# After the last message: what a server still does for it (deletions, log, history) is counted too.
SETTLE_SECONDS, SETTLE_QUICK_SECONDS = 2.0, 0.5


def main() -> int:
    options = _options()
    if options.quick:
        options.rounds, options.messages = 1, 400
    servers = _servers(options)
    report: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine()}
    report["options"] = vars(options)
    groups = {each.name: _beside(each, servers, options, report) for each in _chosen(options)}
    if _wanted(options, "idle"):
        _idle(servers, report)
    if _wanted(options, "destinations"):
        _destinations(options, report)
    _write(report, groups)
    if options.quick:
        return 0
    short = shortfalls({name: table.ratios(of) for name, of in groups.items()}, promised())
    for each in short:
        print(f"too little: {each}", file=sys.stderr)
    return 1 if short else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    names = [*(each.name for each in (*WORKLOADS, LARGE)), *OTHERS]
    parser.add_argument("--quick", action="store_true", help="about two minutes: to see that all works, not to quote")
    parser.add_argument("--only", nargs="+", choices=names, metavar="WORKLOAD", help=f"of {', '.join(names)}")
    parser.add_argument("--peers", default=",".join(PEERS), help="those to compare with, by comma")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each server in each workload")
    parser.add_argument("--messages", type=int, default=3000, help="messages of a measurement; slow servers get fewer")
    parser.add_argument("--sessions", type=int, default=20, help="sessions at once")
    parser.add_argument("--large", action="store_true", help="messages of 5 MB too")
    return parser.parse_args()


def _wanted(options: argparse.Namespace, name: str) -> bool:
    return not options.only or name in options.only


def _chosen(options: argparse.Namespace) -> list[Workload]:
    every = [*WORKLOADS, LARGE] if options.large or LARGE.name in (options.only or ()) else list(WORKLOADS)
    return [each for each in every if _wanted(options, each.name)]


def _servers(options: argparse.Namespace) -> list[Server]:
    """Ours, and the peers that this machine has. Ends with 69 when the load generator is missing."""
    if _chosen(options) and shutil.which("smtp-source") is None:
        print("missing: smtp-source and smtp-sink (as root: apt install postfix)", file=sys.stderr)
        sys.exit(EX_UNAVAILABLE)
    servers: list[Server] = [Ours()]
    for name in filter(None, options.peers.split(",")):
        if name not in PEERS:
            sys.exit(f"no peer is called {name}; there are {', '.join(PEERS)}")
        server = PEERS[name]()
        if absent := server.missing():
            print(f"without {name}: {absent}", file=sys.stderr)
        else:
            servers.append(server)
    return servers


def _machine() -> str:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = model[0].partition(":")[2].strip() if model else platform.processor()
    return f"{len(model) or '?'} x {name}, Linux {platform.release()}, Python {platform.python_version()}"


def _beside(
    workload: Workload, servers: Sequence[Server], options: argparse.Namespace, report: dict[str, Any]
) -> dict[str, table.Summary]:
    rows: dict[str, list[Row]] = {server.name: [] for server in servers}
    best = calibration_ms()
    print(table.heading(workload))
    for _ in range(options.rounds):
        for server in servers:
            settle = SETTLE_QUICK_SECONDS if options.quick else SETTLE_SECONDS
            row = workloads.measure(server, workload, options.messages, options.sessions, settle)
            rows[server.name].append(row)
            print(table.line(server.name, row), flush=True)
    best = min([best, *(row.calibration_ms for of in rows.values() for row in of)])
    summaries = {name: table.summarise(of, best) for name, of in rows.items()}
    print(table.results(summaries), flush=True)
    report[workload.name] = table.as_json(rows, summaries)
    return summaries


def _idle(servers: Sequence[Server], report: dict[str, Any]) -> None:
    print("\nidle: memory (PSS)")
    found = [(server, IDLE_SESSIONS) for server in servers] + [(servers[0], IDLE_SESSIONS_OURS)]
    report["idle"] = []
    for server, sessions in found:
        idle = workloads.idle(server, sessions)
        print(table.idle_line(server.name, idle), flush=True)
        report["idle"].append({"server": server.name, **idle.as_json()})


def _destinations(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Some thousand messages for 1,000 destinations, at least two each."""
    destinations = 100 if options.quick else 1000
    messages = max(2 * destinations, options.messages)
    print(f"\ndestinations: {destinations}, {messages} messages of 1 KB, messages a second to the first half of them")
    rates: dict[str, list[float]] = {"all live": [], "half dead": []}
    for _ in range(options.rounds):
        for name, of in rates.items():
            with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
                dead = name == "half dead"
                rate = living_rate(Path(folder) / "bench", dead=dead, destinations=destinations, messages=messages)
            of.append(round(rate, 1))
            print(f"{name:12}{rate:9.0f}", flush=True)
    shares = [dead / alive for alive, dead in zip(*rates.values(), strict=True)]
    print(f"the living get {', '.join(f'{share:.0%}' for share in shares)} of the undisturbed rate")
    report["destinations"] = {"destinations": destinations, "messages": messages, "rates": rates}


def _write(report: Mapping[str, Any], groups: Mapping[str, Mapping[str, table.Summary]]) -> None:
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{path.relative_to(ROOT)}")
    if groups:
        image = path.with_suffix(".svg")
        image.write_text(picture(groups, "txmta beside others", f"{report['machine']}; {report['at']}"))
        print(image.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
