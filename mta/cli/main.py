"""The `mta` command. A command's module is imported when it is called: `mta --help` and questions to the daemon stay fast."""

from __future__ import annotations

import importlib
import os
import sys

import click

from mta.admin.errors import SOFTWARE, USAGE
from mta.cli.face import Face
from mta.cli.fault import Trouble

# name -> (where it is, its line in the list of commands)
COMMANDS = {
    "config": ("mta.cli.config:config", "Check the configuration; print its schema."),
    "queue": ("mta.cli.queue:queue", "List, show, hold, release, retry or delete queued mail."),
    "reload": ("mta.cli.reload:reload", "Let the daemon read its configuration anew."),
    "send": ("mta.cli.send:send", "Send a message."),
    "status": ("mta.cli.status:status", "Tell how the daemon and its queue are."),
    "user": ("mta.cli.user:user", "Add, change, list and delete users."),
    "version": ("mta.cli.version:version", "Print the versions of txmta and what it runs on."),
    "why": ("mta.cli.why:why", "Tell what happened to a message, and why."),
}


class Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=Lazy, name="mta", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    envvar="MTA_CONFIG",
    metavar="FILE",
    help="The configuration file.  [default: $MTA_CONFIG, then /etc/mta/mta.toml]",
)
@click.pass_context
def mta(context: click.Context, config: str | None) -> None:
    """Administer the txmta mail server.

    The commands ask the running daemon by its control socket. queue list, queue show, why and status also work while it is
    stopped: they then read its files.

    \b
    Exit codes:
      0   done
      1   nothing was found that fits
      64  the command was used wrongly
      65  a message or address is not acceptable
      67  a recipient does not exist
      69  the daemon is not running
      75  a temporary fault; try again
      77  you may not do that
      78  the configuration has errors

    \b
    Examples:
      mta status
      mta queue list --destination mx:example.org
      mta why alice@example.org
      mta --config conf/development.toml config check
    """
    context.obj = Face(config)


def main() -> None:
    """The entry point."""
    run(sys.argv[1:])


def run(arguments: list[str]) -> None:
    """Raises SystemExit: every way out has its exit code."""
    try:
        left = mta.main(arguments, prog_name="mta", standalone_mode=False)
        sys.exit(left if isinstance(left, int) else 0)  # click gives an Exit's code as the value
    except click.Abort:
        click.echo("\nmta: given up", err=True)
        sys.exit(130)
    except click.UsageError as error:
        error.show()
        sys.exit(USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Trouble as trouble:
        click.echo(f"mta: {trouble}", err=True)
        sys.exit(trouble.code)
    except BrokenPipeError:
        # `mta queue list | head`: nobody reads on; not worth a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except Exception as error:
        if os.environ.get("MTA_TRACEBACK"):
            raise
        click.echo(f"mta: internal error: {type(error).__name__}: {error} (MTA_TRACEBACK=1 tells more)", err=True)
        sys.exit(SOFTWARE)


if __name__ == "__main__":
    main()
