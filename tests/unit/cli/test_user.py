"""`mta user` on a real database."""

from __future__ import annotations

import json
import os
import pty
import stat
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mta.cli.face import Face
from mta.cli.fault import Trouble
from mta.cli.user import user
from mta.sasl.user_database import UserDatabase
from mta.sasl.verifier import proves

CONFIGURATION = """
hostname = "mail.dev.test"
postmaster = "admin@dev.test"
[[listener]]
name = "mx"
endpoints = ["tcp:2525"]
kind = "mx"
tls = "none"
[[auth.backend]]
kind = "users"
path = "users.db"
[[auth.backend]]
kind = "users"
path = "more.db"
[[route]]
domains = ["*"]
via = "mx"
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "mta.toml"
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture
def run(configuration: Path):
    def run(*arguments: str, typed: str | bytes = "") -> Result:
        return CliRunner().invoke(user, arguments, obj=Face(str(configuration)), input=typed)

    return run


@pytest.fixture
def database(configuration: Path) -> UserDatabase:
    return UserDatabase(configuration.with_name("users.db"))


def code(result: Result) -> int:
    assert isinstance(result.exception, Trouble), result.output
    return result.exception.code


def is_password(database: UserDatabase, name: str, password: str) -> bool:
    row = database.find(name)
    assert row is not None
    return proves(password, row.verifiers["sha256"])


def test_the_first_user_makes_the_database_for_its_owner_alone(run, database):
    result = run("add", "Demo", "--stdin", typed="demo-password\nsecond line\n")
    assert result.output == "demo@dev.test added\n"
    assert stat.S_IMODE(database.path.stat().st_mode) == 0o600
    assert is_password(database, "demo@dev.test", "demo-password")
    assert [database.path.name, "mta.toml"] == sorted(os.listdir(database.path.parent), reverse=True)


def test_spaces_in_a_password_and_a_dos_line_end_are_told_apart(run, database):
    run("add", "demo", "--stdin", typed=" a b \r\n")
    assert is_password(database, "demo@dev.test", " a b ")


def test_a_user_is_added_once(run, database):
    run("add", "demo", "--stdin", typed="first\n")
    assert code(run("add", "demo@DEV.test", "--stdin", typed="second\n")) == 65
    kept = run("add", "demo", "--if-missing", "--json", "--stdin", typed="third\n")
    assert json.loads(kept.output) == {"user": "demo@dev.test", "database": str(database.path), "added": False}
    assert is_password(database, "demo@dev.test", "first")


def test_a_changed_password_replaces_the_old_one(run, database):
    run("add", "demo", "--stdin", typed="first\n")
    assert run("passwd", "demo", "--stdin", typed="second\n").exit_code == 0
    assert is_password(database, "demo@dev.test", "second")
    assert not is_password(database, "demo@dev.test", "first")


def test_the_list_has_every_database_and_no_secret(run, database):
    run("add", "demo", "--stdin", typed="secret\n")
    run("add", "other@example.org", "--stdin", "--database", str(database.path.with_name("more.db")), typed="secret\n")
    listed = json.loads(run("list", "--json").output)
    assert [(one["user"], Path(one["database"]).name) for one in listed] == [
        ("demo@dev.test", "users.db"),
        ("other@example.org", "more.db"),
    ]
    assert set(listed[0]) == {"user", "created_at", "changed_at", "database"}
    assert time.time() - listed[0]["created_at"] < 60
    assert "demo@dev.test" in run("list").output


def test_a_user_of_the_second_database_is_found_there(run, database):
    more = database.path.with_name("more.db")
    run("add", "demo", "--stdin", "--database", str(more), typed="first\n")
    assert code(run("add", "demo", "--stdin", typed="second\n")) == 65
    run("passwd", "demo", "--stdin", typed="third\n")
    assert is_password(UserDatabase(more), "demo@dev.test", "third")
    assert json.loads(run("delete", "demo", "--json").output)["database"] == str(more)
    assert UserDatabase(more).names() == frozenset()


def test_an_empty_list_is_no_error(run):
    assert run("list").exit_code == 0
    assert json.loads(run("list", "--json").output) == []


def test_who_is_not_there_is_told_by_the_exit_code(run):
    assert code(run("delete", "nobody")) == 67
    assert code(run("passwd", "nobody", "--stdin", typed="x\n")) == 67


@pytest.mark.parametrize("typed", ["", "\n", "bell\x07\n", "x" * 1025 + "\n", b"\xff\n"])
def test_what_can_be_no_password_is_refused_and_leaves_no_user(run, database, typed):
    result = run("add", "demo", "--stdin", typed=typed)
    assert code(result) == 65
    assert "bell" not in str(result.exception)
    assert not database.path.exists() or database.names() == frozenset()


@pytest.mark.parametrize("name", ["a b", "@dev.test", "a@[192.0.2.1]", ""])
def test_what_can_be_no_user_is_refused(run, name):
    assert code(run("add", name, "--stdin", typed="x\n")) == 65


def test_without_a_terminal_the_password_comes_only_by_stdin(run):
    assert code(run("add", "demo", typed="typed\n")) == 64


def test_a_database_outside_the_configuration_is_not_touched(run, tmp_path):
    assert code(run("add", "demo", "--stdin", "--database", str(tmp_path / "x.db"), typed="x\n")) == 64
    assert not (tmp_path / "x.db").exists()


def test_a_broken_and_an_exposed_database_are_faults_with_words(run, database):
    database.path.write_bytes(b"garbage" * 1000)
    database.path.chmod(0o600)
    assert code(run("list")) == 75
    database.path.chmod(0o644)
    result = run("list")
    assert code(result) == 75
    assert "chmod 0640" in str(result.exception)


def test_a_broken_configuration_is_told(run, configuration):
    configuration.write_text("hostname = 3\n")
    assert code(run("list")) == 78


@pytest.mark.real
def test_on_a_terminal_the_password_is_typed_twice_and_not_shown(configuration, database):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(
            sys.executable,
            [sys.executable, "-m", "mta.cli.main", "--config", str(configuration), "user", "add", "demo"],
        )
    shown = b""
    for _ in ("Password", "Again"):
        while not shown.endswith(b": "):  # the blank comes when the terminal has stopped to show what is typed
            shown += read(terminal) or pytest.fail(f"no prompt: {shown!r}")
        shown += b"|"
        os.write(terminal, b"typed-secret\n")
    while part := read(terminal):
        shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert b"demo@dev.test added" in shown
    assert b"Password" in shown
    assert b"Again" in shown
    assert b"typed-secret" not in shown
    assert is_password(database, "demo@dev.test", "typed-secret")


def read(terminal: int) -> bytes:
    """What the other side has written; nothing when it is gone."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
