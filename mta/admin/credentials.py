"""Who is at the other end of a UNIX socket, and whether they may administer. The kernel says it; nobody can claim it."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Iterable
from functools import lru_cache

_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process that connected (SO_PEERCRED: as of its connect). Raises OSError."""
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    """For the journal's "by": the name, or `uid 1234`."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def administrators(configured: Iterable[int | str]) -> frozenset[int]:
    """Uids that may use all verbs: root, our own, and those of [control] admins. A name that no user has counts for nobody."""
    found = {0, os.getuid()}
    for each in configured:
        if isinstance(each, int):
            found.add(each)
            continue
        try:
            found.add(pwd.getpwnam(each).pw_uid)
        except KeyError:
            continue
    return frozenset(found)
