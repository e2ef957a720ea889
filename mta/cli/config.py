"""`mta config`: check the file before the daemon reads it, and say what may stand in it."""

from __future__ import annotations

import json

import click

from mta.admin.errors import CONFIGURATION
from mta.cli.face import Face, pass_face
from mta.cli.show import escaped


@click.group
def config() -> None:
    """Check the configuration; print its schema."""


@config.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of problems.")
@pass_face
def check(face: Face, as_json: bool) -> None:
    """Check the whole configuration: every error and warning at once, with file, line and key.

    Keys, types, values, and how they fit together and to this machine: certificates, files, users. Ends with 78 when there are
    errors; warnings alone are taken.

    \b
    Examples:
      mta config check
      mta --config new.toml config check --json
    """
    from mta.config.load import load_settings
    from mta.config.problem import ConfigurationError, format_problems

    refused = False
    try:
        problems = list(load_settings(face.path).warnings)
    except ConfigurationError as error:
        problems, refused = error.problems, True
    if as_json:
        click.echo(format_problems(problems, json=True))
    else:
        for line in format_problems(problems).splitlines():
            click.echo(escaped(line), err=refused)
    if refused:
        raise click.exceptions.Exit(CONFIGURATION)
    if not as_json:
        click.echo(f"{face.path} is good")


@config.command
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors and for programs that write one.

    \b
    Examples:
      mta config schema > mta.schema.json
    """
    from mta.config import documentation

    click.echo(json.dumps(documentation.schema(), indent=2))
