"""The agent for `maildir:TEMPLATE`: final delivery into mailboxes of this host.

What it decides (loop, names, rendition) is decided in the reactor thread; the file work goes to a few threads. Whatever comes
while all of them work waits and then goes together: under load one hop between threads, and one sync of a mailbox's
directory, serve many messages; alone, a message waits for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from mta.delivery.agent import Attempt, Job, same_for_all
from mta.delivery.mailbox_path import mailbox_path
from mta.delivery.maildir_files import Delivery, MaildirFiles
from mta.delivery.rendition import FINAL, final_header, was_delivered_to
from mta.mail.address import Address
from mta.mail.envelope import BodyFile, Message
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome

THREADS = 4  # syncs wait for the disk, and its journal takes several at once; more gain nothing on two cores
BATCH_LIMIT = 32  # deliveries of one hop; two descriptors are open for each
_log = Logger()

Results = list[Delivered | Deferred]
BodyPath = Callable[[Message, BodyFile], Path]
"""Where the file of a large body lies (the spool of the message's shard knows)."""


class Threads(Protocol):
    """Runs `work` elsewhere and calls `done` in the reactor thread with its result, or with None when it raised."""

    def run(self, work: Callable[[], Results], done: Callable[[Results | None], None]) -> None: ...

    def stop(self) -> None: ...


class ReactorThreads:
    """A small pool of its own: slow disks must not starve those who share the reactor's. Started at the first work."""

    def __init__(self, reactor: IReactorFromThreads, threads: int = THREADS, name: str = "maildir") -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, name)

    def run(self, work: Callable[[], Results], done: Callable[[Results | None], None]) -> None:
        if not self._pool.started:
            self._pool.start()

        def finished(success: bool, result: object) -> None:
            if not success:
                _log.error("file work failed: {failure}", failure=result)
            self._reactor.callFromThread(done, result if success else None)

        self._pool.callInThreadWithCallback(finished, work)

    def stop(self) -> None:
        if self._pool.started:
            self._pool.stop()


@dataclass(slots=True, eq=False)
class _Pending:
    """A job whose copies are on their way. `recipients` have the order of `deliveries`."""

    recipients: list[int]
    deliveries: list[Delivery]
    outcomes: dict[int, Outcome]
    result: defer.Deferred[Attempt]


class MaildirAgent:
    """A DeliveryAgent. `files` does the work, `threads` says where."""

    def __init__(
        self, files: MaildirFiles, threads: Threads, body_path: BodyPath, *, concurrency: int = THREADS
    ) -> None:
        self._files = files
        self._threads = threads
        self._body_path = body_path
        self._free = concurrency
        self._concurrency = concurrency
        self._waiting: deque[_Pending] = deque()
        self._stopping: defer.Deferred[None] | None = None

    def deliver(self, job: Job) -> defer.Deferred[Attempt]:
        if self._stopping is not None:
            return defer.succeed(same_for_all(job, Deferred(0, "4.3.2", "shutting down")))
        pending = self._prepare(job)
        if not pending.deliveries:
            return defer.succeed(Attempt(pending.outcomes, (), FINAL))
        self._waiting.append(pending)
        self._go_on()
        return pending.result

    def stop(self) -> defer.Deferred[None]:
        """What began is finished; it takes as long as the disk takes."""
        if self._stopping is None:
            self._stopping = defer.Deferred()
            self._end_if_idle()
        return self._stopping

    def _prepare(self, job: Job) -> _Pending:
        """One copy for each mailbox: two recipients that mean the same one (tags, case) get one each, as addressed."""
        template = job.destination.partition(":")[2]
        content, message = job.content, job.message
        pending = _Pending([], [], {}, defer.Deferred())
        in_file = content.body if isinstance(content.body, BodyFile) else None
        tail = b"\r\n" if isinstance(content.body, BodyFile) else b"\r\n" + content.body
        for recipient in job.recipients:
            mailbox: Address = recipient.address
            if was_delivered_to(content.header, mailbox):
                text = f"mail forwarding loop: this message was in the mailbox of {mailbox} before"
                pending.outcomes[recipient.id] = Failed(554, "5.4.6", text)
                continue
            reverse_path = message.reverse_path if recipient.reverse_path is None else recipient.reverse_path
            head = final_header(content.header, reverse_path, mailbox) + tail
            path = mailbox_path(template, mailbox)
            if in_file is None:
                pending.deliveries.append(Delivery(path, head))
            else:
                pending.deliveries.append(Delivery(path, head, self._body_path(message, in_file), in_file.size))
            pending.recipients.append(recipient.id)
        return pending

    def _go_on(self) -> None:
        while self._free and self._waiting:
            batch: list[_Pending] = []
            count = 0
            while self._waiting and (not batch or count + len(self._waiting[0].deliveries) <= BATCH_LIMIT):
                batch.append(self._waiting.popleft())
                count += len(batch[-1].deliveries)
            self._free -= 1
            deliveries = [delivery for pending in batch for delivery in pending.deliveries]
            self._threads.run(
                lambda deliveries=deliveries: self._files.deliver(deliveries),  # type: ignore[misc]
                lambda results, batch=batch: self._done(batch, results),  # type: ignore[misc]
            )

    def _done(self, batch: list[_Pending], results: Results | None) -> None:
        self._free += 1
        self._go_on()
        position = 0
        for pending in batch:
            for recipient in pending.recipients:
                pending.outcomes[recipient] = (
                    results[position] if results is not None else Deferred(0, "4.3.0", "internal error", True)
                )
                position += 1
            pending.result.callback(Attempt(pending.outcomes, (), FINAL))
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._stopping is not None and not self._stopping.called and self._free == self._concurrency:
            self._threads.stop()
            self._stopping.callback(None)
