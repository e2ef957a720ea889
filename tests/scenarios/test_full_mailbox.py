"""A mailbox of ours that is full: the mail waits, and its sender hears of it only when the mailbox stays full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mta.testing.reports import reports_in
from mta.testing.simulated_house import SimulatedHouse

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root and util-linux (mount)"),
]


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system with room for a few letters."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        kept = folder.with_name(folder.name + "-kept")
        shutil.copytree(folder, kept)
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        kept.rename(folder)  # what was delivered is still looked for


def test_mail_for_a_full_mailbox_waits_until_there_is_room(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub = house.txmta("hub.test")
    folder = hub.mail / "hub.test" / "full"
    with small_disk(folder):
        (folder / "ballast").write_bytes(b"x" * 50_000)
        letter = house.letter("user@hub.test", ["full@hub.test"], 20_000)
        identifier = hub.submit("user@hub.test", ["full@hub.test", "other@hub.test"], letter)
        house.advance(hours=1)
        assert hub.states(identifier) == {"full@hub.test": "queued", "other@hub.test": "delivered"}
        assert list(folder.glob("*/*")) == [], "nothing half is left"
        (folder / "ballast").unlink()
        house.advance(hours=1.3)
        assert hub.states(identifier)["full@hub.test"] == "delivered"
        assert hub.mailbox("user@hub.test") == []


def test_a_mailbox_that_stays_full_is_told_of(simulated_house: SimulatedHouse) -> None:
    house = simulated_house
    hub = house.txmta("hub.test", queue={"lifetime": "1d"})
    folder = hub.mail / "hub.test" / "full"
    with small_disk(folder):
        (folder / "ballast").write_bytes(b"x" * 60_000)
        hub.submit("user@hub.test", ["full@hub.test"], house.letter("user@hub.test", ["full@hub.test"], 20_000))
        house.advance(days=2)
        assert [report.fates["full@hub.test"][0] for report in reports_in(hub.mailbox("user@hub.test"))] == [
            "delayed",
            "failed",
        ]
        assert "4.3.1" in reports_in(hub.mailbox("user@hub.test"))[1].recipients[0].diagnostic
