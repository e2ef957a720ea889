"""`mta send`."""

from __future__ import annotations

import base64
from typing import BinaryIO

import click

from mta.cli.face import Face, pass_face
from mta.cli.show import print_json


@click.command
@click.option("--from", "sender", required=True, metavar="ADDRESS", help="The sender; '<>' for none.")
@click.option(
    "--to", "recipients", required=True, multiple=True, metavar="ADDRESS", help="A recipient; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("message", type=click.File("rb"), default="-")
@pass_face
def send(face: Face, sender: str, recipients: tuple[str, ...], as_json: bool, message: BinaryIO) -> None:
    """Send a message: header, empty line, text, from a file or from standard input.

    The message is in the queue when the command ends; its queue ID is printed. Missing Date, From and Message-ID fields are
    added, newlines become those of mail.

    \b
    Examples:
      printf 'Subject: test\\n\\nHello\\n' | mta send --from me@example.org --to you@example.net
      mta send --from '<>' --to bob@example.net report.eml
    """
    block_octets = face.ask("send.begin", **{"from": sender, "to": list(recipients)})["block"]
    while block := message.read(block_octets):
        face.ask("send.block", data=base64.b64encode(block).decode("ascii"))
    data = face.ask("send.end")
    if as_json:
        print_json(data)
    else:
        click.echo(data["id"])
