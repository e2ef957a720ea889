"""A small file of the system that is read again when it changed; looked at once a second, because every question asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

LOOK_SECONDS = 1.0
SIZE_LIMIT_OCTETS = 16 << 20

Content = TypeVar("Content")


class WatchedFile(Generic[Content]):
    """`content` is what `parse` made of the text, of "" when the file can't be read. `seconds`: a monotonic clock."""

    def __init__(self, path: str, parse: Callable[[str], Content], seconds: Callable[[], float]) -> None:
        self._path = path
        self._parse = parse
        self._seconds = seconds
        self._looked_at = float("-inf")
        self._version: tuple[int, int, int] | None = None
        self._content = parse("")

    @property
    def content(self) -> Content:
        now = self._seconds()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._look()
        return self._content

    def _look(self) -> None:
        try:
            facts = os.stat(self._path)
            version = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if version != self._version:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._content = self._parse(file.read(SIZE_LIMIT_OCTETS))
                self._version = version
        except OSError:
            self._content, self._version = self._parse(""), None
