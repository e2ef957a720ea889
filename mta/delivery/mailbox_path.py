"""Where a mailbox lies: the template of a route, filled with an address that strangers chose (SAFETY 3.6).

Pure. The part of the template before its first placeholder is the administrator's and taken as it is; below it each component is
a name of its own, which no address can make into `..`, a hidden name, or two names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from mta.mail.address import Address
from mta.routing.tables import fold

SUBADDRESS_SEPARATOR = "+"
_UNSAFE = re.compile(rb"[^A-Za-z0-9._+=-]|^\.")


@dataclass(frozen=True, slots=True)
class MailboxPath:
    """`root` exists or is made; each of `below` is one directory, entered without following links."""

    root: str
    below: tuple[str, ...]

    @property
    def relative(self) -> str:
        return "/".join(self.below)


def safe_name(text: str) -> str:
    """`text` as one file name: everything but [A-Za-z0-9._+=-], and a dot in front, as %XX. Different texts stay different."""
    return _UNSAFE.sub(lambda hit: b"%%%02X" % hit[0][0], text.encode("utf-8", "surrogateescape")).decode("ascii")


def mailbox_name(local: str) -> str:
    """The local part of the mailbox: folded as routing folds it, without the subaddress (`user+tag` is `user`)."""
    user = fold(local).partition(SUBADDRESS_SEPARATOR)[0]
    return user or fold(local)  # "+tag" alone is a name of its own


@lru_cache(maxsize=4096)
def mailbox_path(template: str, address: Address) -> MailboxPath:
    """The maildir of `address`. `template`: "/var/mail/{domain}/{local}"."""
    start = template.find("{")
    if start < 0:
        return MailboxPath(template.rstrip("/") or "/", ())
    cut = template.rfind("/", 0, start) + 1
    domain, local = safe_name(address.domain), safe_name(mailbox_name(address.local))
    names = (
        part.replace("{domain}", "\0").replace("{local}", local).replace("\0", domain)
        for part in template[cut:].split("/")
    )
    root = (template[: cut - 1] or "/") if cut else "."
    return MailboxPath(root, tuple(name for name in names if name))
