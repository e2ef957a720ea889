"""An error as the command ends with it: words on standard error, an exit code of sysexits.h. Light to import."""

from __future__ import annotations

from collections.abc import Mapping


class Trouble(Exception):
    """`code` as in mta.admin.errors; `details` are the answer's further fields."""

    def __init__(self, text: str, code: int, details: Mapping[str, object] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.details = details or {}


class NotRunning(Trouble):
    """No daemon answers on the control socket (69)."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 69)
