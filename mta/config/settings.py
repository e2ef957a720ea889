"""The configuration as the daemon holds it: an immutable snapshot with a generation; a reload makes the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mta.config.model import Configuration, Listener
from mta.config.positions import Positions
from mta.config.problem import Problem

# Names that are written into what already exists (sockets, spool, identifiers), so a new value needs a new process.
# `hostname` is not among them: a session takes it when it begins.
FIXED = (
    ("spool", "path"),
    ("spool", "shards"),
    ("control", "socket"),
    ("log", "path"),
    ("log", "format"),
    ("metrics", "endpoint"),
)
FIXED_OF_LISTENER = ("endpoints", "tls")


@dataclass(frozen=True, slots=True)
class Settings:
    """A loaded configuration. `generation` counts the loads of this process; `warnings` are what it was taken with."""

    configuration: Configuration
    generation: int
    path: Path
    positions: Positions = field(default_factory=Positions, repr=False)
    warnings: tuple[Problem, ...] = ()


def restart_keys(old: Settings, new: Settings) -> list[str]:
    """The keys whose new value needs a restart; everything else takes effect with the reload. Listeners go by name."""
    return [*_changed(old.configuration, new.configuration), *_changed_listeners(old.configuration, new.configuration)]


def _changed(old: Configuration, new: Configuration) -> Iterator[str]:
    for table, key in FIXED:
        if getattr(getattr(old, table), key) != getattr(getattr(new, table), key):
            yield f"{table}.{key}"


def _changed_listeners(old: Configuration, new: Configuration) -> Iterator[str]:
    before, after = _by_name(old), _by_name(new)
    for name in dict.fromkeys((*before, *after)):
        if name not in before or name not in after:
            yield f"listener.{name}"
            continue
        for key in FIXED_OF_LISTENER:
            if getattr(before[name], key) != getattr(after[name], key):
                yield f"listener.{name}.{key}"


def _by_name(configuration: Configuration) -> dict[str, Listener]:
    return {listener.name: listener for listener in configuration.listener}
