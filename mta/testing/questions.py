"""What a test asks of a node, simulated or real, in the words of `mta`; and all that a spool knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from mta.admin.house import Story
from mta.mail.envelope import State
from mta.spool.contract import Page, Selection
from mta.spool.day import Told

_ATTEMPTS = frozenset({"delivered", "relayed", "deferred", "failed"})
_SCAN_ROWS = 1000


class Questions(ABC):
    """`mail`: the folder of its mailboxes."""

    mail: Path

    @abstractmethod
    def ask(self, verb: str, **arguments: object) -> Any:
        """A verb of mta.admin.operations, answered as the control socket does. Raises for what can't be answered."""

    def why(self, what: str) -> dict[str, Any]:
        """What `mta why --json` tells of one message: message, recipients, entries."""
        answer: dict[str, Any] = self.ask("why", what=what)["messages"][0]
        return answer

    def queue(self) -> list[dict[str, Any]]:
        """What `mta queue list --json` shows."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.ask("queue.list", cursor=cursor)
            rows += page["rows"]
            cursor = page["cursor"]
            if not cursor:
                return rows

    def states(self, identifier: str) -> dict[str, str]:
        """Each recipient of a message, and where it is."""
        return {each["recipient"]: each["state"] for each in self.why(identifier)["recipients"]}

    def attempts(self, identifier: str) -> list[float]:
        """When a recipient of a message was tried, wall time, once for each."""
        return [each["at"] for each in self.why(identifier)["entries"] if each["kind"] in _ATTEMPTS]

    def hosts(self, identifier: str) -> list[str]:
        """Those that were tried, in their order."""
        tries = [each["data"].get("tries", ()) for each in self.why(identifier)["entries"]]
        return [each["host"] for attempt in tries for each in attempt]

    def mailbox(self, address: str) -> list[bytes]:
        """What lies in a mailbox, oldest first, with CRLF."""
        local, _, domain = address.rpartition("@")
        folder = self.mail / domain / local / "new"
        files = sorted(folder.glob("*"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [path.read_bytes().replace(b"\n", b"\r\n") for path in files]


def stories_of(spool: Any, finished: Mapping[int, Told], wait: Callable[[Deferred[Any]], Any]) -> list[Story]:
    """All mail that a shard ever took and still knows of, oldest first; the spool's word goes before the history's."""
    found = {number: Story(told[0], told[1], tuple(told[2])) for number, told in finished.items()}
    numbers: dict[int, None] = {}
    cursor = 0
    while True:
        page: Page = wait(spool.select(Selection(states=tuple(State)), _SCAN_ROWS, cursor))
        numbers.update(dict.fromkeys(row.message.id for row in page.rows))
        cursor = page.cursor
        if not cursor:
            break
    for number in numbers:
        record = wait(spool.message(number))
        if record is not None:
            found[number] = Story(record[0], record[1], tuple(wait(spool.events(number))))
    return [found[number] for number in sorted(found)]
