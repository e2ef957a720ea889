"""`mta queue destinations` and `mta queue flush`: next hops, and sending them their mail now."""

from __future__ import annotations

from typing import Any

import click

from mta.cli.face import Face, pass_face
from mta.cli.show import age, clock, escaped, print_json, table


@click.command("destinations")
@click.argument("destination", default="", metavar="[KEY]")
@click.option("--limit", "-n", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Most to list.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of objects.")
@pass_face
def destinations(face: Face, destination: str, limit: int, as_json: bool) -> None:
    """List next hops: what waits for them, how much goes at once, and until when nothing does.

    LIMIT is how many deliveries may run at once; it begins with 5 and follows success and failure. SITE are the hosts that a domain shares
    with others: all of them together have a limit too. A next hop that is not reached several times in a row is suspended for a while;
    then one message tries it.

    \b
    Examples:
      mta queue destinations
      mta queue destinations mx:example.net
      mta queue destinations --json | jq '.[] | select(.suspended_until > 0)'
    """
    data = face.read("queue.destinations", limit=limit, destination=destination)
    rows, now = data["destinations"], data["now"]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("nothing is known of it" if destination else "nothing waits for any destination", err=True)
        return
    shards = len({row["shard"] for row in rows}) > 1
    columns = ("DESTINATION", "WAITING", "IN USE", "LIMIT", "NEXT", "SITE", "LAST REPLY")
    table(
        columns if not shards else ("SHARD", *columns),
        [_cells(row, now) if not shards else (str(row["shard"]), *_cells(row, now)) for row in rows],
        right=[columns.index(name) + shards for name in ("WAITING", "IN USE", "LIMIT")],
    )
    if data["more"]:
        click.echo(f"(and {data['more']} more; --limit shows them)", err=True)


def _cells(row: dict[str, Any], now: float) -> tuple[str, ...]:
    site = escaped(row["site"])
    if site and row["site_limit"]:
        site += f" ({row['site_in_use']} of {row['site_limit']})"
    return (
        escaped(row["destination"]),
        str(row["waiting"]),
        str(row["in_use"]),
        str(row["limit"] or "-"),
        _next(row, now),
        site,
        escaped(row["last_reply"]),
    )


def _next(row: dict[str, Any], now: float) -> str:
    if row["suspended_until"] > now:
        return f"suspended until {clock(row['suspended_until'])} (in {age(row['suspended_until'] - now)})"
    if not row["waiting"]:
        return "-"
    wait = row["next_attempt"] - now
    return f"in {age(wait)}" if wait > 0 and not row["in_memory"] else "due"


@click.command("flush")
@click.argument("destination", default="", metavar="[KEY]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_face
def flush(face: Face, destination: str, as_json: bool) -> None:
    """Send what waits now: to one next hop, as `queue destinations` names it, or to all.

    Suspensions end, and mail that waits for its next attempt is due. To a next hop that was suspended one message goes first; when it gets
    through, all others follow. What is held stays held.

    \b
    Examples:
      mta queue flush
      mta queue flush mx:example.net
    """
    changed, resumed, cursor = 0, 0, ""
    while True:
        answer = face.ask("queue.flush", cursor=cursor, destination=destination)
        changed, resumed, cursor = changed + answer["changed"], resumed + answer["resumed"], answer["cursor"]
        if not cursor:
            break
    if as_json:
        print_json({"changed": changed, "resumed": resumed})
    else:
        click.echo(
            f"{changed} recipient{'' if changed == 1 else 's'} due now, {_destinations(resumed)} no longer suspended"
        )


def _destinations(number: int) -> str:
    return f"{number} destination{'' if number == 1 else 's'}"
