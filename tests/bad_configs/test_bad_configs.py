"""A broken configuration each, with all that must be said of it: nothing less, nothing more, each at its line.

The head of a file lists what is expected: `# expect: LINE KEY: CODE message -> hint`. Three dots stand for any text (the directory
that the file is copied into). Beside it lie `file`, some file, and `table`, an empty one.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from mta.config import files
from mta.config.load import load_settings
from mta.config.problem import CODES, ConfigurationError, Problem, has_errors

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*.toml"))
BUILT_ELSEWHERE = {  # codes that need more than a text: tests/unit/config has their tests
    "E001": "no file", "E002": "octets that are no UTF-8", "E202": "files", "E204": "files", "E205": "files", "E206": "files",
    "W207": "files", "E209": "files", "W208": "files", "E210": "files", "E301": "modes", "E302": "owners", "E303": "modes",
    "W304": "owners", "E305": "modes", "W308": "mounts", "W309": "modes",
}  # fmt: skip


def told(problem: Problem) -> str:
    hint = f" -> {problem.hint}" if problem.hint else ""
    return f"{problem.line} {problem.key}: {problem.code} {problem.message}{hint}"


def expectations(text: str) -> list[str]:
    return re.findall(r"^# expect: (.*)$", text, re.MULTILINE)


def fits(expected: str, said: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in expected.split("...")), said) is not None


def problems_of(case: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Problem], bool]:
    """What is said of it, and was it refused?"""
    monkeypatch.delenv("MTA_TEST_ONLY", raising=False)
    monkeypatch.setattr(files, "DAEMON_USER", "not-on-this-machine")  # who could not look into pytest's directory
    path = directory / case.name
    shutil.copy(case, path)
    (directory / "table").touch()
    (directory / "file").touch(mode=0o600)
    try:
        return list(load_settings(path).warnings), False
    except ConfigurationError as error:
        return error.problems, True


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_all_that_is_wrong_is_said_at_its_line(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems, refused = problems_of(case, tmp_path, monkeypatch)
    expected, said = expectations(case.read_text()), [told(each) for each in problems]
    assert expected, "a case without expectations proves nothing"
    matches = len(expected) == len(said) and all(map(fits, expected, said))
    assert matches, "\n".join(["", *said])
    assert has_errors(problems) == refused
    assert {str(tmp_path / case.name)} == {each.file for each in problems}


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_case(code: str) -> None:
    written = any(f": {code} " in line for case in CASES for line in expectations(case.read_text()))
    assert written != (code in BUILT_ELSEWHERE)


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_a_line_of_a_complaint_is_the_line_of_its_key(case: Path) -> None:
    """The expectations themselves: what is written on the line names the key, or the table that should have it."""
    lines = case.read_text().split("\n")
    for expected in expectations(case.read_text()):
        number, key = re.match(r"(\d+) ([^ ]*):", expected).groups()  # type: ignore[union-attr]
        names = [part for part in key.split(".") if not part.isdecimal()]
        if int(number) and names:
            near = lines[int(number) - 1]
            assert names[-1] in near or names[0] in near or near.strip().endswith((",", "]")), expected


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "mta.toml")
    assert [each.code for each in caught.value.problems] == ["E001"]
    assert str(tmp_path / "mta.toml") in str(caught.value)
    assert os.strerror(2) in str(caught.value)


@pytest.mark.parametrize(
    ("octets", "line", "text"),
    [
        (b"\n\nhostname = '\xe4'", 3, "0xe4"),
        (b"\xff\xfeh\x00", 1, "0xff"),
        (b"\xef\xbb\xbfx = 1", 1, "byte order mark"),
    ],
)
def test_what_is_not_utf8_is_told_with_its_line(octets: bytes, line: int, text: str, tmp_path: Path) -> None:
    path = tmp_path / "mta.toml"
    path.write_bytes(octets)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    [problem] = caught.value.problems
    assert (line, "E002") == (problem.line, problem.code)
    assert text in problem.message
