"""The spool on a small disk: refused in time, nothing acknowledged lost, delivery goes on, and mail is taken again when there is room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.testing.daemon import Daemon
from mta.testing.load import Client, Load, compose, judge
from mta.testing.processes import wait_for

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and util-linux (unshare)"),
]

DISK_MIB = 48
HELD = '\n[queue]\nhold = true\nretry_min = "1s"\n[limits]\nmessage_size = "1MiB"\n'
MESSAGE_OCTETS = 60 << 10
SPARE_OCTETS = 512 << 10


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that sees a tmpfs at its spool; nobody else does."""
    script = f'mount -t tmpfs -o size={DISK_MIB}m,mode=0700 tmpfs "{tmp_path}/spool" && exec "$@"'
    daemon = Daemon(tmp_path, extra=HELD, prefix=["unshare", "-m", "sh", "-c", script, "sh"])
    daemon.spool.mkdir()
    with daemon:
        yield daemon


def _disk(daemon: Daemon) -> Path:
    """The spool as the daemon sees it."""
    return Path(f"/proc/{daemon.pid}/root{daemon.spool}")


def _free_octets(daemon: Daemon) -> int:
    found = os.statvfs(_disk(daemon))
    return found.f_bavail * found.f_frsize


def _offer(daemon: Daemon, mark: str) -> bytes:
    client = Client(daemon.mx)
    try:
        return client.send("load@client.example", ["bob@dev.test"], compose(mark, MESSAGE_OCTETS)[0])
    finally:
        client.close()


def test_a_full_disk_loses_nothing_and_is_recovered_from(daemon: Daemon) -> None:
    pid = daemon.pid
    size = DISK_MIB << 20
    ballast = _disk(daemon) / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size * 6 // 10)

    load = Load(daemon.mx, "bob@dev.test", octets=lambda number: MESSAGE_OCTETS).start()
    wait_for("a refusal", lambda: load.ledger.marks("refused"), 60)
    # At the border a checkpoint can make room for one more: the load goes on until the refusal is for good.
    wait_for("a refusal of another client", lambda: _offer(daemon, "late-0000001-x").startswith(b"452 4.3.1 "), 20)
    ledger = load.stop()

    assert all(ledger.sent[mark].reply.startswith("452 4.3.1 ") for mark in ledger.marks("refused"))
    assert _free_octets(daemon) > 0, "refused only when the disk was full"
    assert len(ledger.acknowledged) > 20

    # A neighbour takes nearly all that is left: what was acknowledged is delivered and settled all the same.
    neighbour = _disk(daemon) / "neighbour"
    with neighbour.open("wb") as file:
        if (left := _free_octets(daemon) - SPARE_OCTETS) > 0:
            os.posix_fallocate(file.fileno(), 0, left)
    wait_for(
        "the refusal of what would not fit", lambda: _offer(daemon, "late-0000002-x").startswith(b"452 4.3.1 "), 10
    )
    daemon.mta("queue", "release", "--all")
    wait_for("all acknowledged mail", lambda: len(daemon.mailbox("bob")) >= len(ledger.acknowledged), 60)
    wait_for("an empty queue", lambda: not daemon.query("queue", "list"), 60)

    ballast.unlink()
    neighbour.unlink()
    wait_for("mail being taken again", lambda: _offer(daemon, "again-000001-x").startswith(b"250 "), 10)

    verdict = judge(ledger, [each for each in daemon.mailbox("bob") if b"\nX-ID: load" in each])
    assert (verdict.lost, verdict.duplicates, verdict.corrupt, verdict.ghosts) == ((), 0, (), ())
    assert daemon.pid == pid
    assert daemon.process is not None
    assert daemon.process.poll() is None, "it was restarted"
