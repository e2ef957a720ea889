"""Who can read, change or replace a file; what can be made where."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mta.config import files
from mta.config.files import check_directory, check_local, check_parent, check_readable, check_secret, check_socket
from mta.config.problem import Problem

STRANGER = 54321


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "safe").mkdir(mode=0o755)
    path = tmp_path / "safe" / "key.pem"
    path.write_text("secret")
    path.chmod(0o600)
    return path


def code(problem: Problem | None) -> str:
    return problem.code if problem is not None else ""


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_secret_of_its_owner_and_group_is_well_kept(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert check_secret(secret) is None


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o660, 0o777])
def test_a_secret_that_others_can_read_or_change_is_refused_with_the_chmod_that_mends_it(
    secret: Path, mode: int
) -> None:
    secret.chmod(mode)
    problem = check_secret(secret)
    assert problem is not None
    assert (problem.code, problem.severity) == ("E301", "error")
    assert f"{mode:04o}" in problem.message
    command = problem.hint.partition(": ")[2].split()
    assert command[0] == "chmod"
    Path(command[2]).chmod(int(command[1], 8))
    assert check_secret(secret) is None


def test_a_file_that_is_not_there_keeps_no_secret(tmp_path: Path) -> None:
    assert check_secret(tmp_path / "none") is None


def own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the file to a stranger; without the right to do so, be a stranger to it."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)


def test_a_secret_of_a_stranger_is_refused(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(secret, monkeypatch)
    assert code(check_secret(secret)) == "E302"
    assert check_secret(secret, owners=[secret.stat().st_uid, secret.parent.stat().st_uid]) is None


def test_a_directory_that_all_can_write_makes_a_secret_replaceable(secret: Path) -> None:
    secret.parent.chmod(0o777)
    problem = check_secret(secret)
    assert code(problem) == "E303"
    assert problem is not None
    assert problem.hint == f"mend it with: chmod o-w {secret.parent}"
    secret.parent.chmod(0o1777)  # sticky, as /tmp: others can't take away what is ours
    assert check_secret(secret) is None


def test_both_ends_of_a_symbolic_link_count(secret: Path, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir(mode=0o755)
    link = tmp_path / "live" / "key.pem"
    link.symlink_to("../safe/key.pem")
    assert check_secret(link) is None  # as certbot keeps them
    link.parent.chmod(0o777)
    assert code(check_secret(link)) == "E303"
    link.parent.chmod(0o755)
    secret.parent.chmod(0o777)
    assert code(check_secret(link)) == "E303"
    secret.parent.chmod(0o755)
    secret.chmod(0o644)
    assert code(check_secret(link)) == "E301"


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert code(check_secret(tmp_path / "a")) == "W304"


@contextmanager
def asked_by_root(monkeypatch: pytest.MonkeyPatch, user: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(files, "DAEMON_USER", user)
        patch.setattr(os, "geteuid", lambda: 0)
        yield


def test_root_is_told_that_the_daemon_cant_read(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with asked_by_root(monkeypatch, "nobody"):
        assert code(check_readable(secret)) == "W304"
    with asked_by_root(monkeypatch, pwd.getpwuid(os.getuid()).pw_name):
        assert check_readable(secret) is None
    with asked_by_root(monkeypatch, "no-such-user-here"):
        assert check_readable(secret) is None


@pytest.fixture
def powerless() -> Iterator[Callable[[], None]]:
    """From its call on, the test is no root."""
    before = os.geteuid()
    yield lambda: os.seteuid(65534 if before == 0 else before)
    os.seteuid(before)


def test_a_directory_that_exists_or_can_be_made_is_good(tmp_path: Path) -> None:
    assert check_directory(tmp_path) is None
    assert check_directory(tmp_path / "new" / "deep") is None


def test_a_directory_that_cant_be_written_or_made_is_told_with_the_user(
    tmp_path: Path, powerless: Callable[[], None]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    powerless()
    for path in (closed, closed / "new"):
        problem = check_directory(path)
        assert code(problem) == "E305"
        assert problem is not None
        assert f"by {pwd.getpwuid(os.geteuid()).pw_name}" in problem.message
        assert "sudo -u mta" in problem.hint
    assert code(check_parent(closed / "mta.sock")) == "W309"


def test_a_file_is_no_directory(secret: Path) -> None:
    assert [code(check_directory(secret)), code(check_directory(secret / "below"))] == ["E306", "E306"]
    assert code(check_socket(secret.parent)) == "E306"


def test_the_spool_belongs_on_a_local_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n/dev/sdb {tmp_path}/local xfs rw 0 0\n"
    )
    monkeypatch.setattr(files, "MOUNTS", mounts)
    assert code(check_local(tmp_path / "spool")) == "W308"
    assert check_local(tmp_path / "local" / "spool") is None
    assert check_local(Path("/var/spool/mta")) is None
