"""Brings what attempts have made to the spool, whatever the spool does: nothing that was learned is lost while this process lives.

- A spool that fails: the attempt is kept and settled again until the spool is back. Meanwhile `blocked` is true and no new attempt may
  begin, because what it makes could not be stored.
- A stale token (an operator changed the row during the attempt): rows that are still queued here are settled as they are now, so
  that a message which was held in flight is not delivered twice; rows that are gone are left alone.
- An exception in our own code while settling (a report that can't be made, text that can't be stored) turns failures into deferrals,
  or the text into plain ASCII; deliveries stay deliveries (law 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.delivery.agent import Attempt
from mta.dsn.fields import wire_text
from mta.mail.envelope import Recipient, State
from mta.mail.outcome import Deferred, Delivered, Failed, Relayed
from mta.scheduler.settlement import SettlementPolicy, settle_attempt
from mta.scheduler.work import Work, claims_of
from mta.spool.contract import Settled, Settlement, Spool, SpoolError, SpoolFailed, SpoolUnfit
from mta.telemetry.metrics import counter

RETRY_SECONDS = 1.0  # first wait for a failing spool; doubles
RETRY_MAX_SECONDS = 30.0
YOUNG_SECONDS = 60.0
UNSETTLED_MAX = (
    2000  # attempts on their way to the spool; beyond it no new ones begin: a slow disk must not fill the memory
)

TOGETHER_MAX = 50  # settlements in one call: each costs some 0.01 ms of a turn (law 13)

Pair = tuple[Work, Attempt]

_RETRIES = counter(
    "mta_settlements_retried_total", "Settlements that the spool could not take and that were kept for later"
)
_STALE = counter(
    "mta_settlements_stale_total", "Settlements that found a row changed by an operator during the attempt"
)
_log = Logger()


class Scene(Protocol):
    """What settling needs of the scheduler."""

    def policy(self) -> SettlementPolicy: ...

    def may_expire(self) -> bool: ...

    def settled(self, work: Work, attempt: Attempt, settlement: Settlement, result: Settled) -> None:
        """It is durable."""

    def dropped(self, work: Work, attempt: Attempt, recipients: Sequence[Recipient]) -> None:
        """These rows are no longer ours to settle."""

    def given_back(self) -> None:
        """Claims were returned: the rows can be loaded again."""

    def unblocked(self) -> None:
        """There is room for new attempts again."""


class Settler:
    """One for each scheduler. All methods are called in the reactor thread and never raise."""

    def __init__(self, spool: Spool, clock: IReactorTime, now: Callable[[], float], owner: int, scene: Scene) -> None:
        self._spool = spool
        self._clock = clock
        self._now = now
        self._owner = owner
        self._scene = scene
        self._ready: list[Pair] = []  # attempts that go with the next submit
        self._kept: list[Pair] = []  # attempts that wait for the spool to come back
        self._returns: list[tuple[int, int]] = []  # claims to give back, with the next call
        self._return_call: IDelayedCall | None = None
        self._retry_call: IDelayedCall | None = None
        self._retry_seconds = RETRY_SECONDS
        self._failing = False
        self.unsettled = 0  # attempts that are not durable yet, the kept ones too
        self._idle: list[defer.Deferred[None]] = []
        self._stopped = False

    @property
    def blocked(self) -> bool:
        return self._failing or self.unsettled >= UNSETTLED_MAX

    @property
    def kept(self) -> int:
        return len(self._kept)

    # --- attempts -------------------------------------------------------------------------------------------------

    def settle(self, work: Work, attempt: Attempt) -> None:
        """Make durable what became of `work`, with the next `submit`; `work.content` is at hand."""
        self.unsettled += 1
        self._ready.append((work, attempt))

    def submit(self) -> None:
        """Once a turn: attempts that ended in one turn of the reactor go to the spool together."""
        while self._ready:
            some, self._ready = self._ready[:TOGETHER_MAX], self._ready[TOGETHER_MAX:]
            self._submit(some)

    def _submit(self, pairs: list[Pair]) -> None:
        try:
            settlements = tuple([self._settlement(work, attempt) for work, attempt in pairs])
            deferred = self._spool.settle(settlements)
        except Exception:  # noqa: BLE001 - a closed spool, or a bug of ours: the attempts are kept
            self._failed(Failure(), pairs)
            return
        deferred.addCallbacks(self._stored, self._failed, callbackArgs=(pairs, settlements), errbackArgs=(pairs,))
        deferred.addErrback(self._our_fault)

    def _settlement(self, work: Work, attempt: Attempt) -> Settlement:
        scene, now = self._scene, self._now()
        content = work.content
        assert content is not None
        job = work.job(content)
        # What is young neither expires nor is reported as delayed: for it nobody asks whether the clock is right.
        may_expire = now < work.message.received_at + YOUNG_SECONDS or scene.may_expire()
        try:
            return settle_attempt(
                job, attempt, now, scene.policy(), may_expire=may_expire, destination_attempts=work.failures
            )
        except Exception:  # noqa: BLE001 - nobody is bounced because of a bug of ours
            _log.failure("settling an attempt failed; its failures become deferrals")
            return settle_attempt(job, _without_failures(attempt), now, scene.policy(), may_expire=False, notices=False)

    def _stored(self, results: list[Settled], pairs: list[Pair], settlements: tuple[Settlement, ...]) -> None:
        was_blocked = self.blocked
        settled = self._scene.settled
        for result, (work, attempt), settlement in zip(results, pairs, settlements, strict=True):
            if result.stale:
                _STALE.value += 1
                self._settle_what_is_left(work, attempt)
                continue
            self.unsettled -= 1
            try:
                settled(work, attempt, settlement, result)
            except Exception:  # noqa: BLE001 - it is durable; the others of this commit must hear of theirs
                self._our_fault(Failure())
        if was_blocked:
            self._spool_answered()
        if self._idle:
            self._tell_idle()

    def _failed(self, failure: Failure, pairs: list[Pair]) -> None:
        if len(pairs) > 1 and failure.check(SpoolFailed) is None:
            for pair in pairs:  # whose fault is it? And what fits on a full disk goes on
                self._submit([pair])
            return
        _RETRIES.value += len(pairs)
        if failure.check(SpoolError) is None or failure.check(SpoolUnfit) is not None:
            _log.failure("a settlement could not be stored", failure)
            self._kept += [(work, _in_plain_words(attempt)) for work, attempt in pairs]
            self._come_back()  # the spool is well: nobody else waits for it
            return
        self._kept += pairs
        self._spool_failed()

    def _spool_failed(self) -> None:
        self._failing = True
        self._come_back()

    def _come_back(self) -> None:
        if self._retry_call is None and not self._stopped:
            self._retry_call = self._clock.callLater(self._retry_seconds, self._retry)
            self._retry_seconds = min(self._retry_seconds * 2, RETRY_MAX_SECONDS)

    def _spool_answered(self) -> None:
        self._failing = False
        self._retry_seconds = RETRY_SECONDS
        if not self.blocked:
            self._scene.unblocked()

    def _retry(self) -> None:
        self._retry_call = None
        kept, self._kept = self._kept, []
        for pair in kept:
            self._submit([pair])
        self.return_now()

    def _settle_what_is_left(self, work: Work, attempt: Attempt) -> None:
        try:
            deferred = self._spool.message(work.message.id)
        except Exception:  # noqa: BLE001 - as in _submit
            self._failed(Failure(), [(work, attempt)])
            return
        deferred.addCallbacks(
            self._compare, self._failed, callbackArgs=(work, attempt), errbackArgs=([(work, attempt)],)
        )
        deferred.addErrback(self._our_fault)

    def _compare(self, found: tuple[object, tuple[Recipient, ...]] | None, work: Work, attempt: Attempt) -> None:
        rows = {row.id: row for row in found[1]} if found is not None else {}
        ours, gone = [], []
        for recipient in work.recipients:
            row = rows.get(recipient.id)
            if row is not None and row.state is State.QUEUED and row.owner in {0, self._owner}:
                ours.append(row)
            else:
                gone.append(recipient)
        if gone:
            self._scene.dropped(work, attempt, gone)
        work.recipients = tuple(ours)
        if ours:
            self._submit([(work, attempt)])
        else:
            self.unsettled -= 1
            self._tell_idle()

    # --- claims ---------------------------------------------------------------------------------------------------

    def give_back(self, recipients: Sequence[Recipient]) -> None:
        """Return claims unworked; those of one turn of the reactor go together."""
        self._returns += claims_of(recipients)
        if self._stopped:
            self.return_now()
        elif self._return_call is None:
            self._return_call = self._clock.callLater(0, self.return_now)

    def return_now(self) -> None:
        """Give back at once what waits for the end of the turn."""
        if self._return_call is not None and self._return_call.active():
            self._return_call.cancel()
        self._return_call = None
        returns, self._returns = self._returns, []
        if not returns:
            return
        try:
            deferred = self._spool.unclaim(returns)
        except Exception:  # noqa: BLE001 - as in _submit
            self._not_returned(Failure(), returns)
            return
        deferred.addCallbacks(self._returned, self._not_returned, errbackArgs=(returns,))
        deferred.addErrback(self._our_fault)

    def _returned(self, _: None) -> None:
        if self._failing:
            self._spool_answered()
        self._scene.given_back()

    def _not_returned(self, failure: Failure, returns: list[tuple[int, int]]) -> None:
        if failure.check(SpoolError) is None:
            _log.failure("claims could not be given back", failure)
        self._returns += returns
        self._spool_failed()

    # --- the end --------------------------------------------------------------------------------------------------

    def idle(self) -> defer.Deferred[None]:
        """Fires when every attempt is durable."""
        done: defer.Deferred[None] = defer.Deferred()
        self._idle.append(done)
        self._tell_idle()
        return done

    def _tell_idle(self) -> None:
        if not self.unsettled and self._idle:
            waiting, self._idle = self._idle, []
            for each in waiting:
                each.callback(None)

    def flush(self) -> defer.Deferred[None]:
        """Give back what waits to be given back, now; fires when the spool has answered. For the end."""
        if self._return_call is not None and self._return_call.active():
            self._return_call.cancel()
        self._return_call = None
        returns, self._returns = self._returns, []
        if not returns:
            return defer.succeed(None)
        deferred: defer.Deferred[None] = defer.maybeDeferred(self._spool.unclaim, returns)
        # Rows that stay claimed come back at the next start, by `recover`.
        return deferred.addErrback(lambda failure: _log.failure("claims could not be given back", failure))

    def stop(self) -> None:
        """No timer of ours remains, and none begins."""
        self._stopped = True
        for call in (self._return_call, self._retry_call):
            if call is not None and call.active():
                call.cancel()
        self._return_call = self._retry_call = None

    def _our_fault(self, failure: Failure) -> None:
        _log.failure("a fault of ours while settling", failure)


def _without_failures(attempt: Attempt) -> Attempt:
    return replace(
        attempt,
        outcomes={
            key: Deferred(0, "4.3.0", "internal error") if isinstance(outcome, Failed) else outcome
            for key, outcome in attempt.outcomes.items()
        },
    )


def _in_plain_words(attempt: Attempt) -> Attempt:
    """The same outcomes, with nothing in them that a store could choke on."""
    outcomes = {
        key: replace(outcome, text=wire_text(outcome.text))
        for key, outcome in attempt.outcomes.items()
        if isinstance(outcome, Delivered | Relayed | Deferred | Failed)
    }
    return Attempt(outcomes, (), "")
