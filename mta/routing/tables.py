"""Tables of who exists: text files, read whole into memory when a router is built, never later (law: resolve does no I/O).

One address or local part a line; `#` at the start of a line or behind white space begins a comment (within a word it is a
lawful character of a local part). A local part alone counts in every domain of its route, an address only in its own domain.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from mta.mail.address import Address, AddressError, parse_address

TABLE_LIMIT_OCTETS = 256 << 20  # it is held in memory: a larger one wants another kind of store
_COMMENT = re.compile(r"(?:^|\s)#.*")


class TableError(ValueError):
    """The table can't be read or has a line that means nothing; the text names file and line."""


def fold(local: str) -> str:
    """A local part as our own mailboxes are looked up: NFC, lower case.

    RFC 5321 section 2.4 leaves the case of a local part to the host that owns the mailbox; that is us.
    """
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", local).lower()


@dataclass(frozen=True, slots=True)
class Table:
    """Folded local parts that exist in every domain, and folded addresses that exist in one."""

    locals: frozenset[str]
    addresses: frozenset[tuple[str, str]]

    def __contains__(self, address: Address) -> bool:
        local = fold(address.local)
        return local in self.locals or (local, address.domain) in self.addresses


def load_table(path: Path) -> Table:
    """Raises TableError."""
    try:
        if path.stat().st_size > TABLE_LIMIT_OCTETS:
            raise TableError(f"{path}: larger than {TABLE_LIMIT_OCTETS >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8") from error
    return parse_table(text, str(path))


def parse_table(text: str, name: str) -> Table:
    """`name` is what errors call it. Raises TableError."""
    local_parts: set[str] = set()
    addresses: set[tuple[str, str]] = set()
    for number, raw in enumerate(text.split("\n"), 1):
        line = _COMMENT.sub("", raw).strip()
        if not line:
            continue
        try:
            # A bare local part is checked by the one parser too, in a domain that stands for any.
            bare = "@" not in line
            address = parse_address(line + "@any.invalid" if bare else line, utf8=True)
        except AddressError as error:
            raise TableError(f"{name}:{number}: {line!r} is no address or local part: {error}") from error
        if bare:
            local_parts.add(fold(address.local))
        else:
            addresses.add((fold(address.local), address.domain))
    return Table(frozenset(local_parts), frozenset(addresses))
