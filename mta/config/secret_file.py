"""A file with secrets (private key, password store) that the wrong people can read is refused, with the chmod that mends it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

# What nobody but the owner may do. The group may read: that is how a key is shared on purpose (Debian's ssl-cert).
FORBIDDEN_MODE = 0o037


def exposure(path: Path) -> str:
    """What is wrong with the file's mode, and the command that mends it; "" when it is well kept. Raises OSError."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if not mode & FORBIDDEN_MODE:
        return ""
    return f"{path} holds secrets but has mode {mode:04o}; mend it with: chmod {mode & ~FORBIDDEN_MODE:04o} {path}"
