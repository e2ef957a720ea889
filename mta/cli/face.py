"""What every command shares: where the configuration is, and how a verb is asked - of the daemon, or of the spool of a stopped one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from mta.admin.errors import CONFIGURATION, NO_INPUT
from mta.cli.door import Door
from mta.cli.fault import NotRunning, Trouble

DEFAULT_CONFIGURATION = Path("/etc/mta/mta.toml")
DEFAULT_SOCKET = "/run/mta/mta.sock"


@dataclass
class Face:
    """The object of click's context. `config` is the option --config, or MTA_CONFIG, or None."""

    config: str | None
    _closing: list[Any] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The configuration file."""
        return Path(self.config) if self.config else DEFAULT_CONFIGURATION

    @cached_property
    def socket(self) -> Path:
        """The control socket. Only this key is read, so that a broken file can't keep an administrator out of the daemon."""
        try:
            table = tomllib.loads(self.path.read_text("utf-8"))
            text = str(table.get("control", {}).get("socket", DEFAULT_SOCKET))
        except FileNotFoundError as error:
            text = f"{self.path} does not exist; name the configuration by --config or MTA_CONFIG"
            raise Trouble(text, CONFIGURATION) from error
        except OSError as error:
            raise Trouble(f"{self.path} can't be read: {error.strerror}", NO_INPUT) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
            raise Trouble(f"{self.path}: {error}; see `mta config check`", CONFIGURATION) from error
        return self.path.absolute().parent / text

    @cached_property
    def door(self) -> Door:
        door = Door(self.socket)
        click.get_current_context().call_on_close(door.close)
        return door

    def ask(self, verb: str, **arguments: object) -> Any:
        """A verb that only a running daemon can do."""
        return self.door.call(verb, **arguments)

    def read(self, verb: str, **arguments: object) -> Any:
        """A verb that reads: of the daemon, or of the files of a stopped one."""
        if "_offline" not in self.__dict__:
            try:
                return self.ask(verb, **arguments)
            except NotRunning:
                click.echo("mta: the daemon is not running; reading its files", err=True)
        return self._offline.call(verb, **arguments)

    @cached_property
    def _offline(self) -> Any:
        from mta.cli.offline import Offline

        offline = Offline(self.path)
        click.get_current_context().call_on_close(offline.close)
        return offline

    def pages(self, verb: str, **arguments: object) -> Iterator[Any]:
        """Each page of a verb that answers with a cursor."""
        cursor = ""
        while True:
            page = self.read(verb, cursor=cursor, **arguments)
            yield page
            cursor = page["cursor"]
            if not cursor:
                return


pass_face = click.make_pass_decorator(Face)
