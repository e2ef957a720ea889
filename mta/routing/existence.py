"""Who exists behind a route: `any`, `users`, `passwd`, `table:/path`. What needs a file is read once, when the router is built."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Iterable
from pathlib import Path

from mta.mail.address import Address
from mta.routing.tables import fold, load_table

Exists = Callable[[Address], bool]
"""Is there such a mailbox? It may raise: then nobody knows, and that is temporary (law 4)."""


def anybody(_: Address) -> bool:
    return True


def accounts_of_this_host() -> list[str]:
    return [entry.pw_name for entry in pwd.getpwall()]


def existence(recipients: str, *, users: Exists, accounts: Callable[[], Iterable[str]]) -> Exists:
    """The test for one route's `recipients` (checked by the configuration's model). Raises TableError."""
    if recipients == "any":
        return anybody
    if recipients == "users":
        return users
    if recipients == "passwd":
        names = frozenset(fold(name) for name in accounts())
        return lambda address: fold(address.local) in names
    return load_table(Path(recipients.removeprefix("table:"))).__contains__
