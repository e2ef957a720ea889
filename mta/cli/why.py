"""`mta why`."""

from __future__ import annotations

from typing import Any

import click

from mta.admin.timeline import headline, refusal, tell
from mta.cli.face import Face, pass_face
from mta.cli.show import clock, escaped, print_json


@click.command
@click.argument("what", metavar="WHAT")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 100), default=20, show_default=True, help="Most messages to tell of."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_face
def why(face: Face, what: str, limit: int, as_json: bool) -> None:
    """Tell what happened to a message, and why: who handed it in and how, each attempt with the host's answer, the reports.

    WHAT is a queue ID, an address or @domain (of a sender or recipient), a Message-ID in angle brackets, the queue ID that a next
    hop gave, a client's IP address, or a login. The queue, the history of finished mail, and what was refused at the door are
    searched; oldest first.

    \b
    Examples:
      mta why 06E4S6Q4000G0
      mta why bob@example.net
      mta why '<20260101120000.4711@example.org>'
      mta why 192.0.2.7
    """
    data = face.read("why", what=what, limit=limit)
    if as_json:
        print_json(data)
        return
    for story in data["messages"]:
        _print_story(story, data["now"], data.get("suspended", {}))
    if data["refusals"]:
        click.echo("refused at the door:")
        for note in data["refusals"]:
            line = refusal(note)
            click.echo(f"  {clock(line.at)}  {line.text}")
    if data["more"]:
        click.echo(f"(the newest {limit}; --limit shows more)", err=True)


def _print_story(story: dict[str, Any], now: float, suspended: dict[str, Any]) -> None:
    click.echo(f"{story['message']['id']} {headline(story)}")
    several = len(story["recipients"]) > 1
    for line in tell(story, clock):
        whom = f"<{line.recipient}> " if several and line.recipient else ""
        click.echo(f"  {clock(line.at)}  {whom}{line.text}")
    for each in story["recipients"]:
        if each["state"] == "queued":
            click.echo(
                f"  {'now':<19}  " + (f"<{each['recipient']}> " if several else "") + _waiting(each, now, suspended)
            )
    click.echo()


def _waiting(recipient: dict[str, Any], now: float, suspended: dict[str, Any]) -> str:
    if recipient["held"]:
        return "held: waits for `mta queue release`"
    if recipient["destination"] in suspended and not recipient["active"]:
        why = suspended[recipient["destination"]]
        until, reply = clock(why["suspended_until"]), escaped(why["last_reply"])
        return f"waits: {escaped(recipient['destination'])} is suspended until {until} ({reply}); `mta queue flush` ends that"
    if recipient["active"]:
        return "an attempt is under way"
    if recipient["next_attempt"] <= now:
        return "is due: waits for its turn"
    return f"waits for the next attempt, {clock(recipient['next_attempt'])}"
