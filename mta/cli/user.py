"""`mta user`: the own user database. It works on the file that the configuration names, whether the daemon runs or not."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mta.admin.errors import CONFIGURATION, DATA, NO_RECIPIENT, NOT_ALLOWED, TEMPORARY, USAGE
from mta.cli.face import Face, pass_face
from mta.cli.fault import Trouble
from mta.cli.show import clock, escaped, print_json, table

if TYPE_CHECKING:
    from mta.config.model import Configuration
    from mta.sasl.user_database import UserDatabase

PASSWORD_LIMIT_OCTETS = 1024  # of PLAIN and LOGIN too (mta.sasl.mechanisms.plain)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
stdin_option = click.option(
    "--stdin", "from_stdin", is_flag=True, help="Read the password from standard input (its first line)."
)


@click.group
def user() -> None:
    """Add, change, list and delete users who may log in.

    A name without a domain gets auth.realm, or the domain of this host's name. What is kept of a password can prove it, not
    tell it. The daemon sees a change within seconds; no reload is needed.

    \b
    Examples:
      mta user add alice@example.org
      pwgen -s 20 1 | mta user passwd alice@example.org --stdin
      mta user list --json
    """


@user.command
@click.argument("name")
@stdin_option
@click.option("--if-missing", is_flag=True, help="Change nothing, and succeed, if there is such a user.")
@click.option("--database", type=click.Path(path_type=Path), help="Which database; default: the first configured.")
@json_option
@pass_face
def add(face: Face, name: str, from_stdin: bool, if_missing: bool, database: Path | None, as_json: bool) -> None:
    """Add a user; the first one makes the database."""
    from mta.sasl.user_database import UserExists

    configuration = _configuration(face)
    where = _chosen(configuration, database)
    with _faults():
        name = _user_name(name, configuration)
        holder = _holder(configuration, name)
        if holder is not None:
            if not if_missing:
                raise Trouble(
                    f"{escaped(name)} exists already, in {holder.path}; `mta user passwd` changes its password", DATA
                )
            _tell(as_json, f"{escaped(name)} exists already", user=name, database=str(holder.path), added=False)
            return
        password = _password(from_stdin)
        if not where.path.exists():
            _create(where, configuration)
        try:
            where.add(name, password, now=time.time(), random=os.urandom)
        except UserExists:  # another one was quicker
            raise Trouble(f"{escaped(name)} exists already", DATA) from None
    _tell(as_json, f"{escaped(name)} added", user=name, database=str(where.path), added=True)


@user.command
@click.argument("name")
@stdin_option
@json_option
@pass_face
def passwd(face: Face, name: str, from_stdin: bool, as_json: bool) -> None:
    """Change a user's password. Logins with the old one fail from now on; open sessions go on."""
    configuration = _configuration(face)
    with _faults():
        name = _user_name(name, configuration)
        where = _found(configuration, name)
        where.change_password(name, _password(from_stdin), now=time.time(), random=os.urandom)
    _tell(as_json, f"the password of {escaped(name)} is changed", user=name, database=str(where.path))


@user.command("list")
@json_option
@pass_face
def list_users(face: Face, as_json: bool) -> None:
    """List the users, with the times when they were added and when their passwords were last changed."""
    rows = []
    with _faults():
        for database in _databases(_configuration(face)):
            if database.path.exists():
                rows += [(one, database.path) for one in database.users()]
    if as_json:
        print_json(
            [
                {"user": one.name, "created_at": one.created_at, "changed_at": one.changed_at, "database": str(path)}
                for one, path in rows
            ]
        )
    elif rows:
        cells = [(escaped(one.name), clock(one.created_at), clock(one.changed_at)) for one, _ in rows]
        table(("USER", "ADDED", "PASSWORD CHANGED"), cells)
    else:
        click.echo("there are no users yet: mta user add NAME", err=True)


@user.command
@click.argument("name")
@json_option
@pass_face
def delete(face: Face, name: str, as_json: bool) -> None:
    """Delete a user. Their mailbox is left as it is; mail for the address is refused from now on."""
    configuration = _configuration(face)
    with _faults():
        name = _user_name(name, configuration)
        where = _found(configuration, name)
        where.delete(name)
    _tell(as_json, f"{escaped(name)} deleted", user=name, database=str(where.path))


def _configuration(face: Face) -> Configuration:
    from mta.config.load import load_settings
    from mta.config.problem import ConfigurationError

    try:
        return load_settings(face.path, checks=False).configuration
    except ConfigurationError as error:
        text = "\n".join(str(problem) for problem in error.problems)
        raise Trouble(f"the configuration has errors\n{text}", CONFIGURATION) from error


def _databases(configuration: Configuration) -> list[UserDatabase]:
    from mta.sasl.user_database import UserDatabase

    found = [UserDatabase(backend.path) for backend in configuration.auth.backend if backend.kind == "users"]
    if not found:
        raise Trouble('the configuration has no user database: add [[auth.backend]] with kind = "users"', CONFIGURATION)
    return found


def _chosen(configuration: Configuration, path: Path | None) -> UserDatabase:
    databases = _databases(configuration)
    if path is None:
        return databases[0]
    for database in databases:
        if database.path.absolute() == path.absolute():
            return database
    known = ", ".join(str(database.path) for database in databases)
    raise Trouble(f"{path} is no database of the configuration; these are: {known}", USAGE)


def _holder(configuration: Configuration, name: str) -> UserDatabase | None:
    """The database that has the user: the first one, as a login would find it."""
    for database in _databases(configuration):
        if database.path.exists() and database.find(name) is not None:
            return database
    return None


def _found(configuration: Configuration, name: str) -> UserDatabase:
    holder = _holder(configuration, name)
    if holder is None:
        raise Trouble(f"there is no user {escaped(name)}", NO_RECIPIENT)
    return holder


def _user_name(text: str, configuration: Configuration) -> str:
    from mta.sasl.authenticator import login_domain
    from mta.sasl.names import BadName, user_name

    try:
        return user_name(text, login_domain(configuration), stored=True)
    except BadName as error:
        raise Trouble(f"{escaped(text)} can be no user: {error}", DATA) from error


def _password(from_stdin: bool) -> str:
    """From standard input, or typed twice on a terminal. Never from the command line: everybody can see that."""
    if from_stdin:
        try:
            line = sys.stdin.buffer.readline(PASSWORD_LIMIT_OCTETS + 2).decode("utf-8")
        except UnicodeDecodeError:
            raise Trouble("the password is not UTF-8", DATA) from None
        password = line.removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
    else:
        raise Trouble("there is no terminal to type a password on; give it with --stdin", USAGE)
    if not password:
        raise Trouble("the password is empty", DATA)
    if len(password.encode("utf-8", "surrogateescape")) > PASSWORD_LIMIT_OCTETS:
        raise Trouble(f"the password is longer than {PASSWORD_LIMIT_OCTETS} octets", DATA)
    return password


def _create(database: UserDatabase, configuration: Configuration) -> None:
    database.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    database.create(os.urandom, owner=_daemon(configuration) if os.geteuid() == 0 else None)


def _daemon(configuration: Configuration) -> tuple[int, int] | None:
    """Who will read the file that root makes: the spool's owner; before there is a spool, the user mta."""
    import pwd

    from mta.config.files import DAEMON_USER

    try:
        status = os.stat(configuration.spool.path)
    except OSError:
        try:
            entry = pwd.getpwnam(DAEMON_USER)
        except KeyError:
            return None
        return entry.pw_uid, entry.pw_gid
    return status.st_uid, status.st_gid


@contextmanager
def _faults() -> Iterator[None]:
    """What can go wrong with the file or the password, in words and with its exit code."""
    from mta.sasl.refusal import BackendUnavailable
    from mta.sasl.saslprep import ProhibitedText
    from mta.sasl.user_database import UserMissing

    try:
        yield
    except ProhibitedText as error:
        raise Trouble(f"this can't be a password: {error}", DATA) from error
    except UserMissing as error:
        raise Trouble(f"there is no user {escaped(str(error))}", NO_RECIPIENT) from error
    except PermissionError as error:
        raise Trouble(f"{error.filename}: {error.strerror}", NOT_ALLOWED) from error
    except OSError as error:
        raise Trouble(f"{error.filename}: {error.strerror}", TEMPORARY) from error
    except BackendUnavailable as error:
        raise Trouble(error.cause, NOT_ALLOWED if error.forbidden else TEMPORARY) from error


def _tell(as_json: bool, text: str, **fields: object) -> None:
    if as_json:
        print_json(fields)
    else:
        click.echo(text)
