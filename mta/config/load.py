"""From a file to a snapshot: read, parse, validate, check; whatever is wrong is told at once, with its place.

Relative paths in the file are taken from the directory that holds the file, wherever the daemon was started.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mta.config.complaints import complain
from mta.config.findings import Findings
from mta.config.model import Configuration
from mta.config.positions import Positions, index_positions
from mta.config.problem import ConfigurationError, Problem, has_errors, in_order
from mta.config.salvage import holds, salvage
from mta.config.settings import Settings

DEFAULT_PATH = Path("/etc/mta/mta.toml")
SIZE_LIMIT_OCTETS = 4 << 20  # a configuration of more was a mistake in the file's name
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def find_configuration(option: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The file to read: what --config names, else MTA_CONFIG, else /etc/mta/mta.toml."""
    return Path(option or environment.get("MTA_CONFIG") or DEFAULT_PATH)


def load_settings(path: Path, generation: int = 1, *, checks: bool = True) -> Settings:
    """The file as an immutable snapshot. Blocks while it reads. Raises ConfigurationError with all problems.

    `checks`: also hold it against the machine (files, certificates, users) and good practice; `Settings.warnings` then has
    what the file was taken with. Without, only the file itself is looked at: for commands that talk to a running daemon.
    """
    text = _read(path)
    raw = _parse(text, str(path))
    positions = index_positions(text, str(path))
    findings = Findings(positions)
    base = os.path.dirname(os.path.abspath(path))
    if "test_only" in raw and os.environ.get("MTA_TEST_ONLY") != "1":
        findings.add("E014", ("test_only",), "breaks promises on purpose and is refused outside tests", "take it out")
    configuration: Configuration | None = None
    try:
        configuration = Configuration.model_validate(raw, context={"base": base})
        problems = findings.problems + (_checked(configuration, positions) if checks else [])
    except ValidationError as error:
        wrong = complain(error, raw, findings)
        problems = findings.problems
        if checks:
            partly, damaged = salvage(raw, wrong, base)
            if partly is not None:
                further = _checked(partly, positions)
                problems = problems + [each for each in further if holds(each, damaged)]
    if configuration is None or has_errors(problems):
        raise ConfigurationError(problems)
    return Settings(configuration, generation, Path(os.path.abspath(path)), positions, tuple(in_order(problems)))


def _checked(configuration: Configuration, positions: Positions) -> list[Problem]:
    from mta.config.check import check  # noqa: PLC0415 - it loads cryptography, which `mta queue list` can do without

    return check(configuration, positions)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT_OCTETS + 1)
    except OSError as error:
        hint = "the file is named by --config, MTA_CONFIG, else /etc/mta/mta.toml"
        raise _refused(path, 0, "E001", f"can't be read: {error.strerror}", hint) from error
    if len(data) > SIZE_LIMIT_OCTETS:
        raise _refused(path, 0, "E001", f"is larger than {SIZE_LIMIT_OCTETS >> 20} MiB: this is no configuration")
    if data.startswith(b"\xef\xbb\xbf"):
        raise _refused(path, 1, "E002", "begins with a byte order mark", "save it as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused(
            path, line, "E002", f"octet 0x{data[error.start]:02x} is no UTF-8", "save it as UTF-8"
        ) from error


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _TOML_PLACE.search(message)
        line = int(place[1]) if place is not None and place[1] else text.count("\n") + (not text.endswith("\n"))
        told = _TOML_PLACE.sub("", message)
        column = f", at column {place[2]}" if place is not None and place[2] else ", at the end of the file"
        raise _refused(Path(file), line, "E003", f"is not TOML: {told}{column}", _toml_hint(told)) from error
    except RecursionError as error:
        raise _refused(Path(file), 0, "E003", "is nested too deeply") from error


def _toml_hint(message: str) -> str:
    if "overwrite" in message:
        return "the key is there twice"
    if "twice" in message:
        return "the table is there twice; a list of tables has double brackets: [[listener]]"
    if "Invalid value" in message:
        return 'a text needs quotes: key = "value"; true and false are written small'
    if "Invalid statement" in message or "Expected '=' after a key" in message:
        return "a line is key = value, [table] or [[list of tables]]"
    if r"'\n'" in message:
        return "a text in quotes ends on its own line; one of several lines has three quotes"
    if "escape" in message:
        return "in double quotes a backslash is doubled; in single quotes it stands for itself"
    return ""


def _refused(path: Path, line: int, code: str, message: str, hint: str = "") -> ConfigurationError:
    return ConfigurationError([Problem(str(path), line, "", message, hint, code)])
