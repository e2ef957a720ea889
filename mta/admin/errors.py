"""Why a verb could not be done, with the exit code that its command ends with (sysexits.h)."""

from __future__ import annotations

NOT_FOUND = 1
USAGE = 64
DATA = 65
NO_INPUT = 66
NO_RECIPIENT = 67
UNAVAILABLE = 69  # the daemon isn't running
SOFTWARE = 70
TEMPORARY = 75
NOT_ALLOWED = 77
CONFIGURATION = 78


class VerbError(Exception):
    """`code` is one of the exit codes above; `details` go into the answer beside the text."""

    def __init__(self, text: str, code: int = USAGE, **details: object) -> None:
        super().__init__(text)
        self.code = code
        self.details = details
