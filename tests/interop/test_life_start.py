"""What an administrator sees when the daemon will not start: a plain reason on standard error, and an exit code to act on."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from mta.testing.daemon import Daemon
from mta.testing.processes import absent, greeting, wait_for

pytestmark = pytest.mark.real

EX_UNAVAILABLE, EX_TEMPFAIL, EX_CONFIG = 69, 75, 78


def refusal(daemon: Daemon) -> tuple[int, str]:
    """Its exit code, and what it said."""
    daemon.start(wait=False)
    assert daemon.process is not None
    try:
        code = daemon.process.wait(30)
    finally:
        daemon.kill()
    said = daemon.output.read_text()
    assert "Traceback" not in said
    return code, said


def test_a_port_in_use_is_named_and_69(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    with socket.create_server(("127.0.0.1", daemon.submission)):
        code, said = refusal(daemon)
    assert code == EX_UNAVAILABLE
    assert f"can't listen on tcp:{daemon.submission}:interface=127.0.0.1" in said
    assert "Address already in use" in said
    with daemon:
        assert greeting(daemon.mx).startswith(b"220 "), "it starts when the port is free again"


def test_a_second_daemon_on_one_spool_leaves_with_75(tmp_path: Path) -> None:
    with Daemon(tmp_path / "first") as first:
        second = Daemon(tmp_path / "second")
        second.spool = first.spool
        second.write_config()
        code, said = refusal(second)
        assert code == EX_TEMPFAIL
        assert str(first.spool) in said
        assert f"in use by process {first.pid}" in said
        assert greeting(first.mx).startswith(b"220 "), "the first one goes on"


def test_the_spool_is_free_again_after_a_kill(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).start()
    daemon.kill()
    with daemon:
        assert greeting(daemon.mx).startswith(b"220 ")


@pytest.mark.skipif(os.geteuid() != 0 or bool(absent("unshare")), reason="needs root and util-linux (unshare)")
def test_a_spool_that_can_not_be_written_is_named_and_78(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o ro tmpfs "{tmp_path}/spool" && exec "$@"'
    daemon = Daemon(tmp_path, prefix=["unshare", "-m", "sh", "-c", script, "sh"])
    daemon.spool.mkdir()
    code, said = refusal(daemon)
    assert code == EX_CONFIG
    assert str(daemon.spool) in said
    assert re.search("read-only|can.t be written|not writable", said, re.IGNORECASE)


def test_a_spool_that_is_a_file_is_named_and_78(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.spool.write_text("")
    code, said = refusal(daemon)
    assert code == EX_CONFIG
    assert str(daemon.spool) in said


def test_a_missing_certificate_is_named_with_its_line_and_78(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.prepare()
    (tmp_path / "cert.pem").unlink()
    code, said = refusal(daemon)
    assert code == EX_CONFIG
    line = next(n for n, text in enumerate(daemon.config.read_text().splitlines(), 1) if text.startswith("[tls]")) + 1
    assert f"{daemon.config}:{line}:" in said
    assert str(tmp_path / "cert.pem") in said


def test_a_private_key_that_others_can_read_is_refused_with_the_chmod_that_mends_it(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.prepare()
    key = tmp_path / "key.pem"
    key.chmod(0o644)
    code, said = refusal(daemon)
    assert code == EX_CONFIG
    mend = re.search(rf"mend it with: (chmod 0?[0-7]{{3}} {re.escape(str(key))})$", said, re.MULTILINE)
    assert mend is not None
    subprocess.run(mend[1].split(), check=True)
    with daemon:
        assert greeting(daemon.mx).startswith(b"220 ")


def test_all_errors_of_the_file_are_told_at_once_with_line_and_key(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, extra='\n[queue]\nlifetme = "5d"\nretry_min = "soon"\n')
    code, said = refusal(daemon)
    assert code == EX_CONFIG
    lines = daemon.config.read_text().splitlines()
    for key in ("lifetme", "retry_min"):
        assert f"{daemon.config}:{next(n for n, text in enumerate(lines, 1) if text.startswith(key))}:" in said
        assert f"queue.{key}" in said
    checked = daemon.mta("config", "check", check=False)
    assert checked.returncode == EX_CONFIG
    assert "queue.lifetme" in checked.stdout + checked.stderr


def test_a_switch_of_the_tests_is_refused_outside_them(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, extra="\n[test_only]\nreply_before_commit = true\n", environment={"MTA_TEST_ONLY": ""})
    code, said = refusal(daemon)
    assert code == EX_CONFIG
    assert "test_only" in said


def test_an_emptied_spool_is_not_begun_anew(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    with daemon:
        pass
    for path in (daemon.spool / "0").glob("spool.db*"):
        path.unlink()
    code, said = refusal(daemon)
    assert code == EX_CONFIG
    assert "the spool was emptied" in said


def test_a_stale_control_socket_is_no_hindrance(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).start()
    daemon.kill()
    assert (tmp_path / "mta.sock").exists()
    with daemon:
        wait_for("an answer by the control socket", lambda: daemon.mta("status", check=False).returncode == 0)
