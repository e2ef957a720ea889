"""What waits behind a suspended destination and is never attempted: its sender is told of the delay all the same, and it expires.

Once a minute the spool is walked through in small steps (Spool.claim_overdue); what it finds is settled with what was last heard of
the destination. Whatever goes wrong, the claims go back and the next pass tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.mail.envelope import Content, Recipient
from mta.mail.outcome import Deferred
from mta.scheduler.destinations import FAILURES_BEFORE_SUSPENSION
from mta.scheduler.heads import Heads
from mta.scheduler.settlement import SettlementPolicy, settle_waiting
from mta.scheduler.work import Work, grouped
from mta.spool.contract import Patience, Settled, Settlement, Spool, SpoolError

SETTLED_TOGETHER = 20  # messages: each waits for its content and for a commit
_UNKNOWN = Deferred(0, "4.4.1", "the destination is suspended")
_log = Logger()


class Desk(Protocol):
    """What the sweep needs of the scheduler."""

    def policy(self) -> SettlementPolicy: ...

    def may_expire(self) -> bool: ...

    def return_claims(self, recipients: Sequence[Recipient]) -> None: ...

    def told(self, work: Work, settlement: Settlement, result: Settled) -> None:
        """It is durable."""


class Sweep:
    """One for each scheduler. `look` begins a pass, unless one is under way."""

    def __init__(
        self, spool: Spool, now: Callable[[], float], owner: int, lease_seconds: float, heads: Heads, desk: Desk
    ) -> None:
        self._spool = spool
        self._now = now
        self._owner = owner
        self._lease = lease_seconds
        self._heads = heads
        self._desk = desk
        self._passing = False
        self._stopped = False
        self._ended: list[defer.Deferred[None]] = []

    def look(self) -> None:
        if self._passing or self._stopped or not self._desk.may_expire():
            return
        self._passing = True
        defer.ensureDeferred(self._pass()).addBoth(self._passed)

    def stop(self) -> defer.Deferred[None]:
        """No new step. Fires when the one under way has ended, with its settlements, or its claims given back."""
        self._stopped = True
        ended: defer.Deferred[None] = defer.Deferred()
        self._ended.append(ended)
        if not self._passing:
            self._tell_ended()
        return ended

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, []
        for each in ended:
            each.callback(None)

    def _passed(self, result: object) -> None:
        self._passing = False
        if isinstance(result, Failure):
            _log.failure("what waits for suspended destinations can't be looked through; trying again", result)
        if self._stopped:
            self._tell_ended()

    async def _pass(self) -> None:
        cursor = 0
        while not self._stopped:
            now, after = self._now(), self._desk.policy().delay_report_after
            patience = Patience(now, now - after if after else 0.0)
            found = await self._spool.claim_overdue(patience, self._owner, now + self._lease, cursor)
            works = list(grouped([(row.message, row.recipient) for row in found.rows]))
            for first in range(0, len(works), SETTLED_TOGETHER):
                some = works[first : first + SETTLED_TOGETHER]
                await defer.gatherResults([defer.ensureDeferred(self._settle(work)) for work in some])
            cursor = found.cursor
            if not cursor:
                return

    async def _settle(self, work: Work) -> None:
        """Never fails."""
        try:
            unsettled = await self._settled(work)
        except SpoolError:
            unsettled = work.recipients
        except Exception:  # noqa: BLE001 - a bug of ours must not end the pass
            _log.failure("what waits for {destination} could not be settled", destination=work.destination)
            unsettled = work.recipients
        if unsettled:
            self._desk.return_claims(unsettled)

    async def _settled(self, work: Work) -> Sequence[Recipient]:
        """Those of its rows that are still claimed."""
        if self._stopped:
            return work.recipients
        try:
            content = await self._spool.content(work.message.id)
        except (KeyError, SpoolError):
            content = Content(b"", b"")  # it is reported without it
        destination = self._heads.destinations.get(work.destination)
        outcome = destination.outcome if destination is not None and destination.outcome is not None else _UNKNOWN
        failures = max(destination.failures if destination is not None else 0, FAILURES_BEFORE_SUSPENSION)
        settlement = settle_waiting(
            work.job(content), outcome, self._now(), self._desk.policy(), destination_attempts=failures
        )
        if settlement is None:
            return work.recipients
        (result,) = await self._spool.settle((settlement,))
        if result.stale:
            return work.recipients
        changed = {change.recipient for change in settlement.changes}
        rest = [each for each in work.recipients if each.id not in changed]
        work.recipients = tuple(each for each in work.recipients if each.id in changed)
        self._desk.told(work, settlement, result)
        return rest
