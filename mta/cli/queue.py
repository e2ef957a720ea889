"""`mta queue`: what waits, and what an operator does to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from mta.admin.errors import NOT_FOUND, USAGE
from mta.admin.timeline import octets
from mta.cli.destinations import destinations, flush
from mta.cli.face import Face, pass_face
from mta.cli.fault import Trouble
from mta.cli.show import age, clock, escaped, print_json, table

PROGRESS_FROM = 2000  # recipients; fewer are done before anybody looks
Function = TypeVar("Function", bound=Callable[..., Any])

_CONDITIONS = (
    click.option("--sender", default="", metavar="ADDRESS", help="Sent by this address, by @domain, or by '<>'."),
    click.option("--recipient", default="", metavar="ADDRESS", help="For this address, or for @domain."),
    click.option("--destination", default="", metavar="KEY", help="For this destination, as `queue list` names it."),
    click.option("--older-than", default="", metavar="AGE", help="Accepted longer ago: 90s, 5m, 1h30m, 2d."),
)


def _conditions(function: Function) -> Function:
    for option in reversed(_CONDITIONS):
        function = option(function)
    return function


@click.group
def queue() -> None:
    """List, show, hold, release, retry, delete or flush queued mail; look at its next hops.

    Conditions narrow one another: a recipient must fit all that are given.
    """


queue.add_command(destinations)
queue.add_command(flush)


# --- looking ----------------------------------------------------------------------------------------------------------


@queue.command("list")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_conditions
@click.option("--held/--not-held", default=None, help="Only what is held, or only what is not.")
@click.option("--limit", "-n", type=click.IntRange(1), default=1000, show_default=True, help="Most recipients to list.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of objects.")
@pass_face
def list_(face: Face, /, limit: int, as_json: bool, **conditions: Any) -> None:
    """List queued recipients, oldest message first.

    \b
    Examples:
      mta queue list
      mta queue list --recipient @example.net --older-than 1h
      mta queue list --held --json | jq -r '.[].id' | sort -u
    """
    rows: list[dict[str, Any]] = []
    now = 0.0
    for page in face.pages("queue.list", **_arguments(conditions)):
        now = page["now"]
        rows += page["rows"]
        if len(rows) > limit:
            break
    if as_json:
        print_json(rows[:limit])
        return
    cells = [_cells(row, now) for row in rows[:limit]]
    if not cells:
        click.echo("the queue is empty" if not any(conditions.values()) else "nothing fits", err=True)
        return
    table(
        ("ID", "AGE", "SIZE", "SENDER", "RECIPIENT", "DESTINATION", "NEXT", "TRIES", "LAST REPLY"),
        cells,
        right=(1, 2, 7),
    )
    if len(rows) > limit:
        click.echo(f"(the first {limit}; --limit shows more)", err=True)


def _cells(row: dict[str, Any], now: float) -> tuple[str, ...]:
    return (
        row["id"],
        age(now - row["received_at"]),
        octets(row["size"]),
        f"<{escaped(row['sender'])}>",
        f"<{escaped(row['recipient'])}>",
        escaped(row["destination"]),
        _next(row, now),
        str(row["attempts"]),
        escaped(row["last"]),
    )


def _next(row: dict[str, Any], now: float) -> str:
    if row["state"] != "queued":
        return str(row["state"])
    if row["held"]:
        return "held"
    if row["active"]:
        return "active"
    wait = row["next_attempt"] - now
    return f"in {age(wait)}" if wait > 0 else "due"


@queue.command
@click.argument("id_", metavar="ID")
@click.option("--header", is_flag=True, help="Print the message's header section too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_face
def show(face: Face, id_: str, header: bool, as_json: bool) -> None:
    """Show a message of the queue: its envelope and the state of each recipient.

    \b
    Examples:
      mta queue show 06E4S6Q4000G0
      mta queue show --header 06E4S6Q4000G0
    """
    data = face.read("queue.show", id=id_, header=header)
    if as_json:
        print_json(data)
        return
    message, now = data["message"], data["now"]
    click.echo(f"{message['id']} from <{escaped(message['sender'])}>, {octets(message['size'])}")
    for name, value in _facts(message):
        if value:
            click.echo(f"  {name:<12}{escaped(value)}")
    click.echo()
    rows = [
        (
            f"<{escaped(each['recipient'])}>",
            escaped(each["destination"]),
            _next(each, now),
            str(each["attempts"]),
            escaped(each["last"]),
        )
        for each in data["recipients"]
    ]
    table(("RECIPIENT", "DESTINATION", "STATE", "TRIES", "LAST REPLY"), rows, right=(3,))
    if header:
        click.echo()
        for line in data["header"].splitlines():
            click.echo(escaped(line.replace("\t", "    ")))


def _facts(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    client = message["client_ip"]
    yield "accepted", clock(message["received_at"])
    yield "expires", clock(message["expires_at"])
    yield "client", f"{client} ({message['helo']})" if client else ""
    yield "login", f"{message['auth']} {message['mechanism']}".strip()
    yield "protocol", f"{message['protocol']} {message['tls']}".strip()
    yield "listener", message["listener"]
    yield "Message-ID", message["message_id"]
    yield "ENVID", message["envid"]
    yield "report on", message["reports_on"]


# --- changing ---------------------------------------------------------------------------------------------------------


def _change(name: str, done: str, help_text: str) -> None:
    """The four changes differ in a word; deleting asks first."""

    @queue.command(name, help=help_text)
    @click.argument("ids", nargs=-1, metavar="[ID]...")
    @_conditions
    @click.option("--all", "everything", is_flag=True, help="All that is queued.")
    @click.option("--yes", "-y", is_flag=True, help="Don't ask.", hidden=name != "delete")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @pass_face
    def command(face: Face, /, everything: bool, yes: bool, as_json: bool, **conditions: Any) -> None:
        arguments = _arguments(conditions)
        if not arguments and not everything:
            raise click.UsageError(f"say which messages to {name}: IDs, conditions, or --all")
        total = _count(face, arguments) if name == "delete" or sys.stderr.isatty() else 0
        if name == "delete" and total > 1 and not yes:
            _confirm(total)
        changed, cursor = 0, ""
        with _progress(total) as advance:
            while True:
                answer = face.ask("queue.alter", change=name, cursor=cursor, all=everything, **arguments)
                changed += answer["changed"]
                advance(answer["changed"])
                cursor = answer["cursor"]
                if not cursor:
                    break
        if as_json:
            print_json({"changed": changed})
        else:
            click.echo(f"{changed} recipient{'' if changed == 1 else 's'} {done}")
        if not changed:
            raise click.exceptions.Exit(NOT_FOUND)


def _arguments(conditions: dict[str, Any]) -> dict[str, Any]:
    arguments = {key: value for key, value in conditions.items() if value not in ("", None, ())}
    if "ids" in arguments:
        arguments["ids"] = list(arguments["ids"])
    return arguments


def _count(face: Face, arguments: dict[str, Any]) -> int:
    total, cursor = 0, ""
    while True:
        page = face.ask("queue.count", cursor=cursor, **arguments)
        total += int(page["recipients"])
        cursor = page["cursor"]
        if not cursor:
            return total


def _confirm(total: int) -> None:
    if not sys.stdin.isatty():
        raise Trouble(f"this would delete {total} recipients for good; say --yes", USAGE)
    click.confirm(f"Delete {total} recipients for good? Nobody gets a report", abort=True, err=True)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    if total < PROGRESS_FROM or not sys.stderr.isatty():
        yield lambda number: None
        return
    with click.progressbar(length=total, file=sys.stderr) as bar:
        yield bar.update


_change(
    "hold",
    "held",
    """Hold queued mail: it stays in the queue and is not tried until it is released.

    \b
    Examples:
      mta queue hold --sender @spam.example
      mta queue hold 06E4S6Q4000G0
    """,
)
_change(
    "release",
    "released",
    """Release held mail: it goes out at its turn.

    \b
    Examples:
      mta queue release --all
      mta queue release --sender alice@example.org
    """,
)
_change(
    "retry",
    "due now",
    """Try queued mail now instead of at its next time. What is held stays held.

    \b
    Examples:
      mta queue retry --destination mx:example.net
      mta queue retry --all
    """,
)
_change(
    "delete",
    "deleted",
    """Delete queued mail for good. Nobody gets a report of it; the journal keeps who deleted what.

    More than one recipient is deleted only after a question, or with --yes.

    \b
    Examples:
      mta queue delete 06E4S6Q4000G0
      mta queue delete --sender @spam.example --yes
    """,
)
