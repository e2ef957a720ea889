"""`mta reload`."""

from __future__ import annotations

import click

from mta.cli.face import Face, pass_face
from mta.cli.fault import Trouble
from mta.cli.show import escaped, print_json


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_face
def reload(face: Face, as_json: bool) -> None:
    """Let the daemon read its configuration, certificates and tables anew. Waits until they are in force.

    Open sessions keep what they began with; no mail is interrupted. When the file has errors they are printed, nothing
    changes, and the exit code is 78. Keys that take effect only after a restart are named.

    \b
    Examples:
      mta config check && mta reload
    """
    try:
        data = face.ask("config.reload")
    except Trouble as trouble:
        problems = trouble.details.get("problems")
        if isinstance(problems, list):
            for problem in problems:
                for line in str(problem).splitlines():
                    click.echo(escaped(line), err=True)
        raise
    if as_json:
        print_json(data)
        return
    click.echo(f"generation {data['generation']} is in force")
    for key in data["restart"]:
        click.echo(f"  {escaped(key)} takes effect after a restart")
