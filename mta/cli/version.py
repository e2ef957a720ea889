"""`mta version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import click

from mta.cli.show import print_json

_PARTS = ("twisted", "apsw", "pyopenssl", "pydantic")


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print the versions of txmta and what it runs on."""
    versions = {"txmta": _version("txmta"), "python": platform.python_version()}
    versions |= {name: _version(name) for name in _PARTS}
    if as_json:
        print_json(versions)
    else:
        for name, number in versions.items():
            click.echo(f"{name:<10}{number}")


def _version(name: str) -> str:
    try:
        return installed(name)
    except PackageNotFoundError:
        return "not installed"
