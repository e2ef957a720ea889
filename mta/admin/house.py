"""What the verbs see of a house: of a running daemon, or of a spool whose daemon is stopped (then nothing can be changed).

service.py fills it for the daemon, mta.cli.offline for a stopped one. Values that a reload changes are asked for, not kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from mta.config.settings import Settings
from mta.inbound.reception import Reception
from mta.mail.envelope import Content, Message, Recipient
from mta.mail.identifiers import shard_of
from mta.spool.contract import (
    Altered,
    Change,
    DestinationRecord,
    DestinationWaiting,
    JournalEntry,
    Page,
    Selection,
    Spool,
    SpoolStatus,
)
from mta.telemetry.eventlog import EventLog, NullLog


class ReadableSpool(Protocol):
    """The part of a Spool that changes nothing; what a reader of a stopped daemon's shard has too."""

    shard: int

    def message(self, message: int) -> Deferred[tuple[Message, tuple[Recipient, ...]] | None]: ...

    def select(self, selection: Selection, limit: int, cursor: int = 0) -> Deferred[Page]: ...

    def events(self, message: int) -> Deferred[list[JournalEntry]]: ...

    def content(self, message: int) -> Deferred[Content]: ...

    def destinations(self) -> Deferred[list[DestinationRecord]]: ...

    def waiting(self) -> Deferred[list[DestinationWaiting]]: ...

    def status(self) -> Deferred[SpoolStatus]: ...


class SchedulerFace(Protocol):
    """What the verbs need of mta.scheduler.scheduler.Scheduler."""

    shard: int

    def altered(self, change: Change, altered: Altered) -> None: ...

    def flush(self, destinations: Collection[str] | None = None) -> int: ...

    def known(self) -> list[str]: ...

    def busy(self, keys: Iterable[str]) -> list[tuple[int, str]]: ...

    def destinations(self, keys: Iterable[str]) -> list[dict[str, Any]]: ...

    def status(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Sought:
    """What `mta why` looks for; one of the first four is given."""

    message: int = 0
    address: str = ""  # exact, or "@domain"
    message_id: str = ""  # with its angle brackets
    word: str = ""  # a client's IP address, a login, a next hop's queue ID
    limit: int = 20


@dataclass(frozen=True, slots=True)
class Story:
    """A message with its recipients and its journal, from the spool or from the history."""

    message: Message
    recipients: tuple[Recipient, ...]
    journal: tuple[JournalEntry, ...]


class Archive(Protocol):
    """Finished mail and refusals (mta.admin.archive)."""

    def stories(self, sought: Sought) -> Deferred[list[Story]]:
        """The newest `limit` finished messages that fit."""

    def refusals(self, sought: Sought) -> Deferred[list[Mapping[str, object]]]:
        """The newest `limit` notes of refused mail that fit, as the session wrote them."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload did. With `problems` it did nothing: the old settings stay in force."""

    generation: int
    restart: tuple[str, ...] = ()  # keys that changed and take effect only after a restart
    problems: tuple[str, ...] = ()  # "mta.toml:12: [listener] ..."


@dataclass(slots=True)
class House:
    settings: Callable[[], Settings]
    spools: Sequence[Spool] = ()
    readers: Sequence[ReadableSpool] = ()  # in place of `spools` when the daemon is stopped
    archive: Archive | None = None
    schedulers: Sequence[SchedulerFace] = ()
    reception: Reception | None = None  # None: nothing is accepted
    log: EventLog = field(default_factory=NullLog)
    reload: Callable[[], Deferred[Reloaded]] | None = None
    now: Callable[[], float] = time.time
    started_at: float = 0.0
    boot: int = 0
    running: bool = True
    pause: Callable[[], Deferred[None]] = lambda: succeed(None)  # until the reactor's next turn
    parts: Mapping[str, Callable[[], object]] = field(default_factory=dict)  # further sections of `mta status`
    pid: int = field(default_factory=os.getpid)

    @property
    def shards(self) -> Sequence[ReadableSpool]:
        return self.spools or self.readers

    def shard_of(self, message: int) -> ReadableSpool | None:
        """The shard that the ID names, when this house has it."""
        number = shard_of(message)
        return next((spool for spool in self.shards if spool.shard == number), None)

    def scheduler_of(self, shard: int) -> SchedulerFace | None:
        return next((each for each in self.schedulers if each.shard == shard), None)


class Abortable(Protocol):
    def abort(self) -> None: ...


@dataclass(slots=True)
class Caller:
    """Who asks: by the peer credentials of the socket, or the user of the command itself on a stopped daemon."""

    uid: int
    name: str
    upload: Abortable | None = None  # a message of `mta send` on its way (mta.admin.send)

    def drop_upload(self) -> None:
        """The connection ended, or another message begins: what was not finished is not sent."""
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.abort()
