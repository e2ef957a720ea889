"""What the checks write their complaints into: it knows where each key stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mta.config.positions import KeyPath, Positions
from mta.config.problem import CODES, Problem


@dataclass(frozen=True, slots=True)
class Findings:
    positions: Positions
    problems: list[Problem] = field(default_factory=list)

    def add(self, code: str, key: KeyPath, message: str, hint: str = "") -> None:
        """A complaint about `key`; it is placed there, or at the table around it where the key is not written."""
        if code not in CODES:
            raise KeyError(code)
        line = self.positions.line(*key)
        self.problems.append(Problem(self.positions.file, line, dotted(key), message, hint, code))

    def take(self, problem: Problem | None, key: KeyPath) -> bool:
        """A complaint made elsewhere, moved to the key that caused it. Was there one?"""
        if problem is None:
            return False
        line = self.positions.line(*key)
        self.problems.append(replace(problem, file=self.positions.file, line=line, key=dotted(key)))
        return True


def dotted(key: KeyPath) -> str:
    return ".".join(str(part) for part in key)
