"""kill -9 at random moments under load, again and again on the same spool: nothing acknowledged may be lost or changed.

200 messages a second, for a mailbox, for a next hop, for both, some of them refused there; the load goes on while the daemon is
down and coming up. MTA_SOAK=1 makes it a long test (`make soak`).
"""

from __future__ import annotations

import os
import random
import sys
import threading
from pathlib import Path

import pytest

from mta.testing.processes import wait_for
from mta.testing.rig import QUICK, REFUSED, Rig
from mta.testing.sink import Sink
from mta.testing.strace import missing, traced

pytestmark = pytest.mark.real

ROUNDS, ROUND_SECONDS = (200, 4.0) if os.environ.get("MTA_SOAK") else (30, 1.2)
RATE = 200.0
SEED = 20
STILLBORN_EVERY = 6  # a round that is killed while it still takes up what the last one left
SLOTS = 20  # [queue] destination_concurrency: jobs under way at once, of the mailbox and of the next hop each
EARLY = QUICK + "\n[test_only]\nreply_before_commit = true\n"
SLOW_DISK = "pwrite64:delay_enter=5000"  # microseconds: each write to the spool's files


def _show(capsys: pytest.CaptureFixture[str], what: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n  {what}\n")


def test_kills_under_load_lose_nothing_and_repeat_only_what_was_under_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = random.Random(SEED)
    with Sink(tmp_path / "taken", refuse=REFUSED) as sink:
        rig = Rig(tmp_path / "house", sink)
        load = rig.load(rate=RATE)
        for number in range(ROUNDS):
            # Real time on purpose: the moment of the kill must not depend on what the daemon has just done.
            if number % STILLBORN_EVERY == STILLBORN_EVERY - 1:
                rig.start(wait=False)
                threading.Event().wait(moments.uniform(0.3, 1.0))
            else:
                rig.start()
                threading.Event().wait(moments.uniform(0.05, ROUND_SECONDS))
            rig.daemon.kill()
        ledger = load.stop()
        rig.start()
        rig.drain()
        verdict, returned = rig.verdict(ledger), rig.returned()
        unexplained, again = rig.repeated()
        rig.daemon.stop()
    worst = max(again.values(), default=0)
    _show(capsys, f"{ROUNDS} kills: {verdict}; {len(returned)} reports; at most {worst} sent again after a kill")
    assert (verdict.lost, verdict.corrupt, verdict.ghosts) == ((), (), ())
    assert unexplained == []
    assert worst <= SLOTS
    assert verdict.acknowledged >= ROUNDS * ROUND_SECONDS * RATE * 0.2, "the load was too thin to prove anything"
    assert returned, "no report was under the blow"


@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
@pytest.mark.parametrize(("extra", "loses"), [(QUICK, False), (EARLY, True)], ids=["ours", "control"])
def test_only_a_reply_before_the_commit_loses_mail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: str, loses: bool
) -> None:
    """The same kill on a slow disk: the control, which says 250 before the commit, does lose. So the test above can see it."""
    with Sink(tmp_path / "taken", refuse=REFUSED) as sink:
        prefix = traced(tmp_path / "trace", "pwrite64", inject=[SLOW_DISK], octets=0)
        slow = Rig(tmp_path / "house", sink, extra=extra, prefix=prefix)
        slow.start()
        load = slow.load(rate=0)
        wait_for("fifty acknowledgements", lambda: len(load.ledger.acknowledged) >= 50, 60)
        slow.daemon.kill()
        ledger = load.stop()
        slow.daemon.prefix = []
        slow.start()
        slow.drain()
        verdict = slow.verdict(ledger)
        slow.daemon.stop()
    _show(capsys, f"250 {'before' if loses else 'after'} the commit: {verdict}")
    assert bool(verdict.lost) is loses
    assert not verdict.corrupt
