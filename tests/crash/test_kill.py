"""kill -9 at a random moment under load, again and again on the same spool: nothing acknowledged may be lost or changed."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

import pytest

from mta.testing.daemon import Daemon
from mta.testing.load import Ledger, Load, Verdict, judge
from mta.testing.processes import wait_for
from mta.testing.strace import missing, traced

pytestmark = pytest.mark.real

ROUNDS = 20
RECIPIENT = "bob@dev.test"
QUICK = '\n[queue]\nretry_min = "1s"\nretry_max = "2s"\n'
EARLY = QUICK + "\n[test_only]\nreply_before_commit = true\n"
SLOW_DISK = "pwrite64:delay_enter=5000"  # microseconds: each write to the spool's files


def _drain(daemon: Daemon) -> None:
    """Until nothing is queued."""

    def empty() -> bool:
        daemon.mta("queue", "retry", "--all", check=False)
        return not daemon.query("queue", "list", "--limit", "1")

    wait_for("an empty queue", empty, 60, every=0.2)


def _show(capsys: pytest.CaptureFixture[str], what: str, verdict: Verdict) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n  {what}: {verdict}\n")


def test_twenty_kills_under_load_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moments = random.Random(20)
    ledger = Ledger()
    daemon = Daemon(tmp_path, extra=QUICK)
    for number in range(ROUNDS):
        daemon.start()
        load = Load(
            daemon.mx,
            RECIPIENT,
            name=f"kill{'abcdefghijklmnopqrst'[number]}",
            octets=lambda each: 150 << 10 if each % 25 == 0 else 300 + each % 5 * 2500,
            chunking=lambda each: each % 4 == 0,
        ).start()
        # Real time on purpose: the moment of the kill must not depend on what the daemon has just done.
        wait_for("the first 250 of the round", lambda load=load: load.ledger.acknowledged)
        threading.Event().wait(moments.uniform(0.0, 0.6))
        daemon.kill()
        ledger.merge(load.stop())
    with daemon:
        _drain(daemon)
    verdict = judge(ledger, daemon.mailbox("bob"))
    _show(capsys, f"{ROUNDS} kills", verdict)
    assert (verdict.lost, verdict.corrupt, verdict.ghosts) == ((), (), ())
    assert verdict.acknowledged >= 20 * ROUNDS, "the load was too thin to prove anything"


@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
@pytest.mark.parametrize(("extra", "loses"), [(QUICK, False), (EARLY, True)], ids=["ours", "control"])
def test_only_a_reply_before_the_commit_loses_mail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: str, loses: bool
) -> None:
    """The same kill on a slow disk: the control, which says 250 before the commit, does lose. So the test above can see it."""
    slow = Daemon(tmp_path, extra=extra, prefix=traced(tmp_path / "trace", "pwrite64", inject=[SLOW_DISK], octets=0))
    slow.start()
    load = Load(slow.mx, RECIPIENT, per_connection=1000).start()
    wait_for("fifty acknowledgements", lambda: len(load.ledger.acknowledged) >= 50, 60)
    slow.kill()
    ledger = load.stop()
    slow.prefix = []
    with slow:
        _drain(slow)
    verdict = judge(ledger, slow.mailbox("bob"))
    _show(capsys, "250 before the commit" if loses else "250 after the commit", verdict)
    assert bool(verdict.lost) is loses
    assert not verdict.corrupt
