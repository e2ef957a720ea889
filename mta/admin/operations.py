"""The verbs by name: what the control socket, the command and later the web have in common.

Each is `async (house, caller, arguments) -> dict` of JSON-able values, and raises VerbError for what whoever asked can mend.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from mta.admin import queue, send
from mta.admin.arguments import Arguments
from mta.admin.destinations import destinations
from mta.admin.house import Caller, House
from mta.admin.reload import reload
from mta.admin.status import status
from mta.admin.why import why

Operation = Callable[[House, Caller, Arguments], Coroutine[Deferred[Any], Any, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Verb:
    operation: Operation
    reads: bool  # changes nothing: works on a stopped daemon too


VERBS: dict[str, Verb] = {
    "status": Verb(status, reads=True),
    "queue.list": Verb(queue.list_rows, reads=True),
    "queue.count": Verb(queue.count_rows, reads=True),
    "queue.show": Verb(queue.show, reads=True),
    "queue.alter": Verb(queue.alter, reads=False),
    "queue.flush": Verb(queue.flush, reads=False),
    "queue.destinations": Verb(destinations, reads=True),
    "why": Verb(why, reads=True),
    "config.reload": Verb(reload, reads=False),
    "send.begin": Verb(send.begin, reads=False),
    "send.block": Verb(send.block, reads=False),
    "send.end": Verb(send.end, reads=False),
}
