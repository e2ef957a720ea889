"""A node that ends without a farewell, at each commit of a message's life: nothing that was acknowledged is lost, and two copies are made only
where a last reply was open.

Simulated only, on both spools; tests/crash kills real daemons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mta.testing.memory_spool import MemorySpool
from mta.testing.reports import reports_in
from mta.testing.sender import Receipt
from mta.testing.simulated_house import SimulatedHouse
from mta.testing.simulated_node import SimulatedNode
from mta.testing.sqlite_disk import SqliteDisk

LOGIN = ("user@hub.test", "password")
RECIPIENTS = ["alice@example.net", "bad@example.net", "later@example.org", "other@hub.test"]
# Of the message: its acceptance, three destinations, a second attempt; of the report: its delivery. Before and after each.
POINTS = 2 * 6


@contextmanager
def furnished(backend: str, folder: Path) -> Iterator[tuple[SimulatedHouse, SimulatedNode]]:
    house = SimulatedHouse(seed=3)
    disk = SqliteDisk(folder, house.clock.now) if backend == "sqlite" else None
    try:
        hub = house.txmta("hub.test", spool=disk)
        house.peer("mx.example.net", {"RCPT TO:<bad@": "550 5.1.1 nobody"})
        later = house.peer("mx.example.org")
        house.dns.mx("example.net", 10, "mx.example.net")
        house.dns.mx("example.org", 10, "mx.example.org")
        later.down()
        house.at(later.up, minutes=4)
        yield house, hub
    finally:
        house.close()
        if disk is not None:
            disk.close_files()


def handed_in(house: SimulatedHouse, hub: SimulatedNode) -> list[Receipt]:
    """As a mail program does it: what was not answered is sent again."""
    content = house.letter(LOGIN[0], RECIPIENTS)
    receipts: list[Receipt] = []

    def again() -> None:
        if not receipts or (receipts[-1].over and not receipts[-1].taken):
            receipts.append(hub.hand_in(LOGIN[0], RECIPIENTS, content, login=LOGIN))
        if not receipts[-1].taken:
            house.at(again, seconds=30)

    again()
    return receipts


def copies(house: SimulatedHouse, hub: SimulatedNode) -> Counter[str]:
    """How many each recipient has."""
    found: Counter[str] = Counter()
    for peer in house.peers.values():
        for address in RECIPIENTS:
            found[address] += len(peer.taken_for(address))
    found["other@hub.test"] += len(hub.mailbox("other@hub.test"))
    return found


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_without_a_crash_there_are_so_many_commits(backend: str, tmp_path: Path) -> None:
    with furnished(backend, tmp_path) as (house, hub):
        hub.commits.crash_at(0)
        handed_in(house, hub)
        house.advance(hours=2)
        assert len(hub.commits.points) == POINTS
        assert copies(house, hub) == {
            "alice@example.net": 1,
            "later@example.org": 1,
            "other@hub.test": 1,
            "bad@example.net": 0,
        }
        house.check()


@pytest.mark.parametrize("number", range(1, POINTS + 1))
@pytest.mark.parametrize(("backend", "told"), [("memory", True), ("memory", False), ("sqlite", True)])
def test_a_crash_at_a_commit_loses_nothing(backend: str, told: bool, number: int, tmp_path: Path) -> None:
    with furnished(backend, tmp_path) as (house, hub):
        hub.commits.crash_at(number, told=told)
        receipts = handed_in(house, hub)
        house.soon("the crash", lambda: not hub.running, 7200)
        house.at(hub.start, seconds=20)
        house.advance(hours=6)
        house.check()

        found = copies(house, hub)
        reports = reports_in(hub.mailbox(LOGIN[0]))
        assert receipts[-1].taken
        assert all(report.fates == {"bad@example.net": ("failed", "5.1.1")} for report in reports)
        assert hub.queue() == []
        moment, what = hub.commits.crashed_at or ("", "")
        handed_in_twice = len(receipts) > 1 and (moment, what) == ("after", "accept")
        assert all(found[each] >= 1 for each in RECIPIENTS if not each.startswith("bad@"))
        assert reports
        more = {each for each, count in found.items() if count > 1}
        if handed_in_twice:
            assert set(found.values()) <= {0, 2}, "it was stored, and sent again because its 250 was never heard"
            assert len(reports) == 2
        elif (moment, what) == ("before", "settle"):
            assert len(more) + (len(reports) - 1) <= 1, "the one whose attempt was over and not written down"
        else:
            assert not more
            assert len(reports) == 1


class ForgetfulSpool(MemorySpool):
    """What a spool without fsync is when the power goes: as it was before."""

    def crash(self) -> MemorySpool:
        lost: Any = super().crash()
        return ForgetfulSpool(0, clock=lost._clock, reactor=lost._reactor, commit_seconds=lost._commit_seconds)


def test_a_spool_that_forgets_is_found_out() -> None:
    house = SimulatedHouse(seed=3)
    try:
        spool = ForgetfulSpool(0, clock=house.clock.now)
        hub = house.txmta("hub.test", spool=spool)
        house.peer("mx.example.net").down()
        house.dns.mx("example.net", 10, "mx.example.net")
        identifier = hub.submit(LOGIN[0], ["alice@example.net"])
        hub.crash()
        hub.start()
        house.advance(minutes=10)
        with pytest.raises(AssertionError, match=f"{identifier} was acknowledged and is lost"):
            house.check()
    finally:
        house.close()


@pytest.mark.parametrize("early", [False, True])
def test_a_250_before_its_commit_is_found_out(early: bool) -> None:
    house = SimulatedHouse(seed=3)
    try:
        hub = house.txmta("hub.test", spool=house.disk(5.0), test_only={"reply_before_commit": early})
        receipt = hub.hand_in(LOGIN[0], ["other@hub.test"], login=LOGIN)
        house.advance(seconds=4)
        assert receipt.taken is early
        hub.crash()
        hub.start()
        house.advance(minutes=10)
        if early:
            with pytest.raises(AssertionError, match="was acknowledged and is lost"):
                house.check()
        else:
            house.check()
    finally:
        house.close()


def test_a_node_that_crashes_again_and_again_still_delivers() -> None:
    with SimulatedHouse(seed=9) as house:
        hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
        house.dns.mx("example.net", 10, "mx.example.net")
        receipts = []
        for number in range(30):
            receipts.append(hub.hand_in(LOGIN[0], [f"user{number}@example.net"], login=LOGIN))
            house.advance(seconds=house.network.random.random())
            hub.crash()
            hub.start()
        house.advance(hours=3)
        for receipt in receipts:
            if receipt.taken:
                assert peer.taken_for(receipt.recipients[0])
        assert hub.queue() == []


def test_an_orderly_end_loses_nothing_and_doubles_nothing() -> None:
    with SimulatedHouse(seed=9) as house:
        hub, peer = house.txmta("hub.test"), house.peer("mx.example.net")
        house.dns.mx("example.net", 10, "mx.example.net")
        receipts = []
        for number in range(20):
            receipts.append(hub.hand_in(LOGIN[0], [f"user{number}@example.net"], login=LOGIN))
            house.advance(seconds=house.network.random.random())
            hub.restart()
        house.advance(hours=3)
        assert [len(peer.taken_for(each.letter.recipients[0])) for each in receipts] == [
            1 if each.taken else 0 for each in receipts
        ]
