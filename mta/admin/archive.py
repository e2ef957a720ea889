"""Finished mail and refusals for `mta why`: the history's days and the refusals' files, searched in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from mta.admin.house import Sought, Story
from mta.spool.history import History
from mta.spool.refusals import search_refusals

# Runs a blocking function elsewhere: deferToThread in the daemon, at once in the command.
InThread = Callable[[Callable[[], Any]], Deferred[Any]]


class FileArchive:
    """mta.admin.house.Archive on the folders of a spool. Its Deferreds fail with SpoolError."""

    def __init__(self, history: History, refusals: Path, in_thread: InThread) -> None:
        self._history = history
        self._refusals = refusals
        self._in_thread = in_thread

    def stories(self, sought: Sought) -> Deferred[list[Story]]:
        return self._in_thread(lambda: self._stories(sought))

    def _stories(self, sought: Sought) -> list[Story]:
        if sought.message:
            told = self._history.message(sought.message)
            found = [told] if told is not None else []
        else:
            found = self._history.search(sought.address or sought.message_id or sought.word, sought.limit)
        return [Story(message, recipients, tuple(journal)) for message, recipients, journal in found]

    def refusals(self, sought: Sought) -> Deferred[list[Mapping[str, object]]]:
        return self._in_thread(lambda: self._notes(sought))

    def _notes(self, sought: Sought) -> list[dict[str, object]]:
        text = sought.address or sought.word
        return search_refusals(self._refusals, text, sought.limit) if text else []
