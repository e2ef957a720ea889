"""The power goes, again and again: what was acknowledged is on the disk, the databases are whole; and without fsync they are not.

MTA_SOAK=1 makes it a long test (`make soak`).
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.testing.ledger import Ledger
from mta.testing.power import PowerDisk, eatmydata, missing
from mta.testing.processes import wait_for
from mta.testing.rig import QUICK, REFUSED, Rig
from mta.testing.sink import Sink

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]

ROUNDS, DELIVERING_ROUNDS = (30, 15) if os.environ.get("MTA_SOAK") else (5, 3)
RATE = 200.0
SEED = 30
SLOTS = 20  # [queue] destination_concurrency
WITHOUT_POWER_SECONDS = 0.15  # the daemon lives on over a dead disk: what it says then counts too
HELD = QUICK + "hold = true\n"
HOUSE = "house"


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with Sink(tmp_path / "taken", refuse=REFUSED) as running:
        yield running


@pytest.fixture
def disk(tmp_path: Path) -> PowerDisk:
    return PowerDisk(tmp_path)


def _rig(directory: Path, disk: PowerDisk, sink: Sink, extra: str) -> Rig:
    return Rig(directory / HOUSE, sink, extra=extra, prefix=disk.prefix, store=disk.mount)


def _round(rig: Rig, disk: PowerDisk, moments: random.Random, number: int) -> Ledger:
    """Start, load, cut at a random moment, end."""
    rig.start()
    load = rig.load(rate=RATE, name=f"cut{number}")
    wait_for("the first 250 of the round", lambda: load.ledger.acknowledged)
    # Real time on purpose: the moment must not depend on what the daemon has just done.
    threading.Event().wait(moments.uniform(0.3, 1.2))
    disk.cut(rig.daemon.pid)
    threading.Event().wait(WITHOUT_POWER_SECONDS)
    rig.daemon.kill()
    ledger = load.stop()
    disk.wait_until_free()
    return ledger


def _integrity(rig: Rig, disk: PowerDisk) -> set[str]:
    """SQLite's verdicts on all of the spool's databases."""
    found = disk.run("find", str(rig.daemon.spool), "-name", "*.db").split()
    assert any(path.endswith("spool.db") for path in found)
    return {disk.integrity(Path(path)) for path in found}


def _doubtful(ledger: Ledger) -> set[str]:
    """Messages whose commit failed without power: it may have been on the disk all the same. The client was told to come again."""
    return {mark for mark in ledger.marks("refused") if ledger.sent[mark].reply.startswith("451 4.3.0 ")}


def _show(capsys: pytest.CaptureFixture[str], what: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n  {what}\n")


def test_power_cuts_lose_nothing_that_was_acknowledged(
    tmp_path: Path, disk: PowerDisk, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    """Deliveries are held, so that all acknowledged mail is in the queue when the power goes."""
    moments, ledger = random.Random(SEED), Ledger()
    rig = _rig(tmp_path, disk, sink, HELD)
    for number in range(ROUNDS):
        ledger.merge(_round(rig, disk, moments, number))
        assert _integrity(rig, disk) == {"[('ok',)]"}
    rig.start()
    rig.drain()
    verdict = rig.verdict(ledger)
    rig.daemon.stop()
    _show(capsys, f"{ROUNDS} power cuts: {verdict}")
    assert (verdict.lost, verdict.corrupt, verdict.duplicates) == ((), (), 0)
    assert set(verdict.ghosts) <= _doubtful(ledger)
    assert verdict.acknowledged >= 20 * ROUNDS, "the load was too thin to prove anything"


def test_power_cuts_while_mail_is_delivered_repeat_only_what_was_under_way(
    tmp_path: Path, disk: PowerDisk, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mailboxes and spool are on the disk, so what counts as delivered must be as durable as the queue that forgot it."""
    moments, ledger = random.Random(SEED + 1), Ledger()
    rig = _rig(tmp_path, disk, sink, QUICK)
    for number in range(DELIVERING_ROUNDS):
        ledger.merge(_round(rig, disk, moments, number))
        assert _integrity(rig, disk) == {"[('ok',)]"}
    rig.start()
    rig.drain()
    verdict = rig.verdict(ledger)
    unexplained, again = rig.repeated()
    rig.daemon.stop()
    worst = max(again.values(), default=0)
    _show(capsys, f"{DELIVERING_ROUNDS} cuts while delivering: {verdict}; at most {worst} sent again after a cut")
    assert (verdict.lost, verdict.corrupt) == ((), ())
    assert set(verdict.ghosts) <= _doubtful(ledger)
    assert unexplained == []
    assert worst <= SLOTS


@pytest.mark.skipif(not eatmydata(), reason="needs libeatmydata1")
def test_control_without_fsync_a_power_cut_loses_acknowledged_mail(
    tmp_path: Path, disk: PowerDisk, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    """So the tests above can see a loss."""
    rig = _rig(tmp_path, disk, sink, HELD)
    rig.start()
    rig.daemon.stop()  # the databases are there for good
    disk.wait_until_free()
    rig.daemon.prefix += ["env", f"LD_PRELOAD={eatmydata()}"]
    ledger = _round(rig, disk, random.Random(SEED), 0)
    rig.daemon.prefix = disk.prefix
    rig.start()
    rig.drain()
    verdict = rig.verdict(ledger)
    rig.daemon.stop()
    _show(capsys, f"a power cut without fsync: {verdict}")
    assert verdict.lost
