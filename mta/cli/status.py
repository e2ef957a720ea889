"""`mta status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mta.admin.timeline import octets
from mta.cli.face import Face, pass_face
from mta.cli.show import age, clock, escaped, print_json, table

_KNOWN = frozenset(
    {
        "boot", "configuration", "generation", "hostname", "log_lines_dropped", "now", "pid", "running", "schedulers",
        "sessions", "spools", "started_at", "troubles",
    }
)  # fmt: skip


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_face
def status(face: Face, as_json: bool) -> None:
    """Tell how the daemon and its queue are.

    Ends with 0 when all is well, with 75 when something keeps mail from flowing (a spool that accepts nothing, a full disk),
    with 69 when the daemon is stopped; the queue is shown all the same.

    \b
    Examples:
      mta status
      mta status --json | jq .spools[0].queued
    """
    data = face.read("status")
    if as_json:
        print_json(data)
    else:
        _print(data)
    if not data["running"]:
        raise click.exceptions.Exit(69)
    if any(spool["failing"] for spool in data["spools"]):
        raise click.exceptions.Exit(75)


def _print(data: Mapping[str, Any]) -> None:
    now = data["now"]
    if data["running"]:
        since = f"since {clock(data['started_at'])} ({age(now - data['started_at'])})"
        click.echo(f"{data['hostname']}: running as process {data['pid']} {since}")
    else:
        click.echo(f"{data['hostname']}: stopped")
    click.echo(f"configuration {data['configuration']}, generation {data['generation']}")
    if data["running"]:
        click.echo(f"{data['sessions']} sessions open, {data['log_lines_dropped']} log lines dropped")
    for trouble in data["troubles"]:
        click.echo(f"TROUBLE: {escaped(trouble)}")
    click.echo()
    rows = [
        (
            str(spool["shard"]),
            str(spool["messages"]),
            str(spool["queued"]),
            str(spool["held"]),
            str(spool["claimed"]),
            age(now - spool["oldest_received_at"]) if spool["oldest_received_at"] else "-",
            str(spool["accepted"]),
            octets(spool["database_octets"] + spool["wal_octets"]),
            f"{octets(spool['free_octets'])} ({spool['free_share']:.0%})",
        )
        for spool in data["spools"]
    ]
    columns = ("SHARD", "MESSAGES", "QUEUED", "HELD", "ACTIVE", "OLDEST", "ACCEPTED", "ON DISK", "FREE")
    table(columns, rows, right=range(len(columns)))
    for number, scheduler in enumerate(data["schedulers"]):
        click.echo()
        title = "scheduler" if len(data["schedulers"]) == 1 else f"scheduler {number}"
        _print_part(title, scheduler)
    for name in sorted(set(data) - _KNOWN):
        click.echo()
        _print_part(name, data[name])


def _print_part(title: str, value: object) -> None:
    """A section that the daemon names itself: flat values in a line, lists of objects as a table."""
    if isinstance(value, Mapping):
        flat = [
            f"{key.replace('_', ' ')} {_cell(each)}" for key, each in value.items() if not isinstance(each, list | dict)
        ]
        click.echo(f"{title}: " + (", ".join(flat) if flat else "-"))
        for key, each in value.items():
            if isinstance(each, list | dict) and each:
                _print_part(f"  {key}", each)
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        click.echo(f"{title}:")
        columns = list(value[0])
        rows = [[_cell(each.get(column)) for column in columns] for each in value]
        table([column.replace("_", " ").upper() for column in columns], rows)
    elif isinstance(value, list):
        click.echo(f"{title}: " + (", ".join(_cell(each) for each in value) or "-"))
    else:
        click.echo(f"{title}: {_cell(value)}")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return escaped(str(value))
