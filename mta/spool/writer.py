"""The writer thread of a shard: group commit.

It takes everything that waits - acceptances, settlements, operators' verbs -, commits once, and wakes the reactor once for all of
them. While a commit is on its way to the disk, the next batch gathers. A lone work is committed at once; where several come together
(this time or the last) the writer gives others 0.8 ms to join: fewer commits, syncs and wake-ups of the reactor. Settlements, which nobody waits for, join the next commit, at most 5 ms late.

After a commit that failed for want of space each work of its batch is tried alone, so that a settlement that still fits goes
on. After an I/O error nothing is tried again and believed: the batch is refused, the database closed, opened anew and verified
(reopening.py); until that succeeds the shard refuses everything, and it tries again now and then.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

import apsw
from twisted.python.failure import Failure

from mta.spool.contract import SpoolError, SpoolFailed, SpoolFull, SpoolUnfit
from mta.spool.database import BUSY_MS, open_writer
from mta.spool.lane import Reactor
from mta.spool.reopening import reopen
from mta.spool.settling import settle_all
from mta.spool.transaction import Claimant, Claims, Transaction
from mta.spool.works import Accept, Work
from mta.telemetry.metrics import SECONDS, counters, histograms

SETTLEMENT_WAIT_SECONDS = 0.005
# Measured with 20 sessions, accepting alone, in turn: 0.3 ms costs more commits than it saves time; with 0.6 to 0.8 ms 4 % more messages a
# second than with 1.5, which makes larger commits but keeps clients waiting that wait for nothing else.
COMPANY_WAIT_SECONDS = 0.0008
COMPANY_ENOUGH_WORKS = 16
COMPANY_PAUSE_BATCHES = 7  # nobody came: all who write are in the batch already. So no wait for 1, 3, 7, 7 ... batches
BATCH_LIMIT_WORKS = 256
# A checkpoint costs 0.010 ms CPU a message of 10 KB, whether it is made each 125, 250, 500, 1,000 or 4,000 pages of 8 KiB: what it
# copies is content, that is written once. But it stands before the next commit for 2, 3, 5, 11 and 41 ms. So: small ones.
CHECKPOINT_PAGES = 250  # when nobody waits for a commit
CHECKPOINT_PAGES_MAX = 1000  # when somebody always does
CHECKPOINT_IDLE_SECONDS = 0.5
WAL_LIMIT_OCTETS = 64 << 20  # then readers are asked to leave for a moment, so that the log can begin anew
FORCED_CHECKPOINT_WAIT_MS = 250  # for readers to leave
WAL_BUSY_STEP_OCTETS = 8 << 20  # a reader held on to the log: try again when it has grown by this
REOPEN_SECONDS = 5.0  # SAFETY: accepts again at most 10 s after space is back
HIGH_WATER_BLOCK = 10_000 << 22  # ten seconds of IDs (mta.mail.identifiers: 22 low bits)

# What the disk did, as against what was asked of it.
FAULTS = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.ProtocolError)

COMMIT_WORKS = histograms(
    "mta_spool_commit_works", "Acceptances, settlements and verbs in one commit", "shard",
    bounds=(1, 2, 3, 5, 8, 12, 20, 35, 60, 100, 256),
)  # fmt: skip
COMMIT_SECONDS = histograms("mta_spool_commit_seconds", "Time of one commit, in the writer", "shard", bounds=SECONDS)
COMMIT_FAULTS = counters("mta_spool_faults_total", "Commits that failed", "shard", "cause")


class Writer:
    """Owns the writing connection, the claims and the counts. `submit` is called in the reactor thread; works end there.

    `last_id` tells the greatest ID given so far; `next_seq` gives journal numbers.
    Attributes are written by the thread and only read by others.
    """

    def __init__(
        self,
        path: Path,
        shard: int,
        reactor: Reactor,
        next_seq: Callable[[], int],
        last_id: Callable[[], int],
        vfs: str | None = None,
    ) -> None:
        """Opens the database. Raises SpoolUnusable, apsw.Error."""
        self._path, self._vfs, self._shard, self._reactor = path, vfs, str(shard), reactor
        self._next_seq, self._last_id = next_seq, last_id
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self.claims = Claims()
        self.finished: set[int] = set()  # messages to look at for the history; taken and refilled under the lock
        self.finished_lock = threading.Lock()
        self.commits = self.messages = self.accepted = 0
        self.failing = ""
        self._ghosts: list[int] = []  # messages that were refused, but are perhaps in the log
        self._doubtful: set[int] = set()  # recipients whose claims are: nobody knows that they have them
        self._claiming: dict[int, Claimant | None] = {}  # by the transaction under way
        self._reopen_at = 0.0
        self._wal_pages = self._wal_checkpointed = 0
        self._wal_copied = (
            0  # pages of the log that the database has; 0 again at each commit, which may begin the log anew
        )
        self._wal_forced_at = WAL_LIMIT_OCTETS
        self._reserved = 0
        self._last_batch = 1
        self._company_pause = self._company_skips = 0  # batches
        self._connection = open_writer(path, vfs)
        self._adopt(self._connection)
        self._works = COMMIT_WORKS.bound(self._shard)
        self._seconds = COMMIT_SECONDS.bound(self._shard)
        self._thread = threading.Thread(target=self._run, name=f"spool-{shard}-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, work: Work) -> None:
        self._queue.put(work)

    @property
    def owed_octets(self) -> int:
        """What the database may still grow by: the log holds it already, and a checkpoint must find room for it."""
        return int(max(0, self._wal_pages - self._wal_copied) * self._page_octets)

    def stop(self) -> None:
        """End the thread behind what was submitted before: checkpoint, close."""
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch, ended = self._gather()
            if batch and not ended:
                ended = self._wait_for_company(batch)
            if batch:
                seconds = time.perf_counter()
                self._commit(batch)
                self._reactor.callFromThread(self._tell, batch, time.perf_counter() - seconds)
            if ended:
                self._close()
                return
            self._look_after_log(idle=not batch)

    def _gather(self) -> tuple[list[Work], bool]:
        """What waits; nothing, after a pause with something left to do. True: stop."""
        queue = self._queue
        try:
            work = queue.get(timeout=self._patience())
        except Empty:
            return [], False
        batch: list[Work] = []
        deadline = 0.0
        while True:
            if work is None:
                return batch, True
            batch.append(work)
            urgent = work.urgent
            while not queue.empty() and len(batch) < BATCH_LIMIT_WORKS:
                work = queue.get()
                if work is None:
                    return batch, True
                batch.append(work)
                urgent = urgent or work.urgent
            if urgent or len(batch) >= BATCH_LIMIT_WORKS:
                return batch, False
            now = time.monotonic()
            deadline = deadline or now + SETTLEMENT_WAIT_SECONDS
            if now >= deadline:
                return batch, False
            try:
                work = queue.get(timeout=deadline - now)
            except Empty:
                return batch, False

    def _wait_for_company(self, batch: list[Work]) -> bool:
        """Where works come in company, let more of them join. True: stop."""
        alone = len(batch) == 1 and self._last_batch == 1
        if self._company_skips:
            self._company_skips -= 1
        elif not alone and len(batch) < COMPANY_ENOUGH_WORKS:
            time.sleep(COMPANY_WAIT_SECONDS)
            if self._queue.empty():
                self._company_pause = min(2 * self._company_pause + 1, COMPANY_PAUSE_BATCHES)
                self._company_skips = self._company_pause
            else:
                self._company_pause = 0
            while not self._queue.empty() and len(batch) < BATCH_LIMIT_WORKS:
                work = self._queue.get()
                if work is None:
                    return True
                batch.append(work)
        self._last_batch = len(batch)
        return False

    def _patience(self) -> float | None:
        """How long to wait for work. None: for ever, so that an idle shard wakes nobody."""
        if self.failing:
            return REOPEN_SECONDS
        return CHECKPOINT_IDLE_SECONDS if self._wal_pages > self._wal_checkpointed else None

    def _tell(self, batch: list[Work], seconds: float) -> None:
        """In the reactor."""
        self._works.observe(len(batch))
        self._seconds.observe(seconds)
        for work in batch:
            if work.deferred.called:  # cancelled by who asked
                continue
            if work.failure is None:
                work.deferred.callback(work.result)
            else:
                work.deferred.errback(work.failure)

    # --- a commit -------------------------------------------------------------------------------------------------

    def _commit(self, batch: list[Work]) -> None:
        if self.failing and (time.monotonic() < self._reopen_at or not self._reopen([])):
            refuse(batch, SpoolFailed(self.failing))
            return
        try:
            self._transact(batch)
        except FAULTS as error:
            self._broken(batch, error)
        except apsw.BusyError:  # another program's transaction; to try each alone would wait as long for each
            self._count("busy")
            refuse(batch, SpoolError("another program has locked the spool database"))
        except Exception as error:  # noqa: BLE001 - no space, or a value that can't be stored: whose is it?
            try:
                self._roll_back()
            except apsw.Error as worse:
                self._broken(batch, worse)
                return
            if len(batch) == 1:
                refuse(batch, _in_plain_words(error))
                self._count("full" if isinstance(error, apsw.FullError) else "refused")
                return
            for work in batch:
                self._commit([work])

    def _transact(self, batch: list[Work]) -> None:
        connection = self._connection
        transaction = Transaction(connection, connection.cursor(), self._next_seq, settle_all)
        self._claiming = transaction.claims
        transaction.cursor.execute("BEGIN IMMEDIATE")
        for work in batch:
            if work.looks:
                transaction.flush()
            work.apply(transaction)
        transaction.flush()
        reserved = self._reserve(transaction)
        transaction.cursor.execute("COMMIT")
        # Durable: from here on nothing may call the batch a failure.
        self._reserved = reserved
        self.commits += 1
        self._apply(transaction)
        for work in batch:
            try:
                work.conclude()
            except Exception:  # noqa: BLE001 - a row that can't be read as a value; who asked gets it
                work.failure = Failure()

    def _reserve(self, transaction: Transaction) -> int:
        """Every ID that a commit makes durable is below the mark that is durable with it, or was before."""
        last = self._last_id()
        if last <= self._reserved - HIGH_WATER_BLOCK // 2:
            return self._reserved
        transaction.cursor.execute("UPDATE meta SET high_water = ?", (last + HIGH_WATER_BLOCK,))
        return last + HIGH_WATER_BLOCK

    def _apply(self, transaction: Transaction) -> None:
        self.claims.apply(transaction)
        self.accepted += transaction.accepted
        self.messages += transaction.accepted - transaction.dropped
        if transaction.finished:
            with self.finished_lock:
                self.finished.update(transaction.finished)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # --- faults ---------------------------------------------------------------------------------------------------

    def _broken(self, batch: list[Work], error: Exception) -> None:
        self.failing = f"{type(error).__name__}: {error}"
        self._count("fault")
        refuse(batch, SpoolFailed(self.failing))
        if batch:
            self._doubtful.update([recipient for recipient, claimant in self._claiming.items() if claimant is not None])
        self._reopen([number for work in batch if isinstance(work, Accept) for number in work.numbers()])

    def _reopen(self, refused: list[int]) -> bool:
        """True: the shard serves again. `refused`: messages that nobody must find, should their commit have come through."""
        self._ghosts += refused
        with contextlib.suppress(apsw.Error):
            self._connection.close(True)
        try:
            connection = reopen(self._path, self._ghosts, self._doubtful, self._vfs)
            self._adopt(connection)
        except (apsw.Error, SpoolError, OSError) as error:
            self.failing = f"{type(error).__name__}: {error}"
            self._reopen_at = time.monotonic() + REOPEN_SECONDS
            return False
        self._connection, self._ghosts, self._doubtful, self.failing = connection, [], set(), ""
        return True

    def _adopt(self, connection: apsw.Connection) -> None:
        """Learn what is claimed and what is finished: the indexes that the hot path doesn't pay for."""
        connection.set_wal_hook(self._note_log)
        self._page_octets = connection.pragma("page_size")
        self._wal_pages = self._wal_checkpointed = self._wal_copied = 0
        self._reserved = connection.execute("SELECT high_water FROM meta").get
        claimed: list[tuple[int, int, float]] = []
        finished: set[int] = set()
        for row in connection.execute(
            "SELECT id, owner, lease_until, message, state FROM recipient WHERE owner <> 0 OR state <> 0"
        ):
            if row[4]:
                finished.add(row[3])
            else:
                claimed.append(row[:3])
        self.claims.load(iter(claimed))
        with self.finished_lock:
            self.finished.update(finished)
        self.messages = connection.execute("SELECT count(DISTINCT message) FROM recipient").get

    def _count(self, cause: str) -> None:
        self._reactor.callFromThread(_add_one, self._shard, cause)

    # --- the log --------------------------------------------------------------------------------------------------

    def _note_log(self, connection: apsw.Connection, name: str, pages: int) -> int:
        if pages < self._wal_pages:  # it was begun anew
            self._wal_checkpointed, self._wal_forced_at = 0, WAL_LIMIT_OCTETS
        self._wal_pages, self._wal_copied = pages, 0
        return apsw.SQLITE_OK

    def _look_after_log(self, *, idle: bool) -> None:
        """Checkpoints, after a commit was told: when nobody waits, or the log has grown too long."""
        if self.failing:
            if idle:
                self._reopen([])
            return
        pages = self._wal_pages - self._wal_checkpointed
        if idle or pages >= CHECKPOINT_PAGES_MAX or (pages >= CHECKPOINT_PAGES and self._queue.empty()):
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
        elif self._wal_pages * self._page_octets >= self._wal_forced_at:
            # A reader was always in the way of beginning it anew: wait for it, a little.
            self._wal_forced_at = self._wal_pages * self._page_octets + WAL_BUSY_STEP_OCTETS
            self._connection.set_busy_timeout(FORCED_CHECKPOINT_WAIT_MS)
            self._checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
            self._connection.set_busy_timeout(BUSY_MS)

    def _checkpoint(self, mode: int) -> None:
        self._wal_checkpointed = self._wal_pages
        try:
            _, self._wal_copied = self._connection.wal_checkpoint(mode=mode)
        except FAULTS as error:
            self._broken([], error)
        except apsw.Error:  # a long reader, or no space for the database to grow: the log keeps it all
            return

    def _close(self) -> None:
        # What can't be done here is done at the next start: every commit is durable.
        with contextlib.suppress(apsw.Error):
            if not self.failing:
                self._connection.execute("UPDATE meta SET high_water = ?", (self._last_id(),))
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with contextlib.suppress(apsw.Error):
            self._connection.close(True)


def refuse(batch: list[Work], error: SpoolError) -> None:
    for work in batch:
        work.failure = Failure(error)


def _in_plain_words(error: Exception) -> SpoolError:
    if isinstance(error, apsw.FullError):
        return SpoolFull("no space left for the spool")
    if isinstance(error, SpoolError):
        return error
    return SpoolUnfit(f"the spool could not store it: {type(error).__name__}: {error}")


def _add_one(shard: str, cause: str) -> None:
    COMMIT_FAULTS.bound(shard, cause).value += 1
