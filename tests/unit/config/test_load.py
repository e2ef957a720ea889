"""From the file to the snapshot."""

from __future__ import annotations

import copy
import ipaddress
import json
import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.config.documentation import example
from mta.config.load import find_configuration, load_settings
from mta.config.problem import ConfigurationError, Problem, format_problems

Write = Callable[..., Path]


def test_a_good_file_is_loaded_without_a_word(write: Write) -> None:
    loaded = load_settings(write())
    assert (loaded.generation, loaded.warnings) == (1, ())
    assert loaded.configuration.hostname == "mail.example.org"
    assert load_settings(write(), 7).generation == 7


def test_paths_are_taken_from_the_directory_of_the_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = '[log]\npath = "../log"\n[tls]\ncertificate = "/c"\nprivate_key = "k"\n[[auth.backend]]\nkind = "users"\npath = "u.db"\n'
    more += '[[route]]\ndomains = ["a.example"]\nrecipients = "table:t"\nvia = "maildir:mail/{domain}/{local}/"\n'
    more += '[[listener]]\nname = "local"\nendpoints = ["unix:mx.sock"]\nkind = "mx"\n'
    write(more)
    monkeypatch.chdir(tmp_path.parent)
    loaded = load_settings(Path(tmp_path.name) / "mta.toml", checks=False)
    made = loaded.configuration
    assert tmp_path / "mta.toml" == loaded.path
    assert tmp_path / "spool" == made.spool.path
    assert tmp_path.parent / "log" == made.log.path
    assert (Path("/c"), tmp_path / "k") == (made.tls.certificate, made.tls.private_key)
    assert tmp_path / "u.db" == made.auth.backend[0].path
    assert made.route[1].recipients == f"table:{tmp_path}/t"
    assert made.route[1].via == f"maildir:{tmp_path}/mail/{{domain}}/{{local}}"
    assert made.listener[1].endpoints == [f"unix:{tmp_path}/mx.sock"]


def test_a_problem_names_the_file_as_it_was_named(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("x = 1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^mta\.toml:15: error E010: route\.x: is unknown here"):
        load_settings(Path("mta.toml"))


def test_the_place_of_a_route_is_known(write: Write) -> None:
    assert load_settings(write()).positions.place_of("route.0") == "mta.toml:12"


def test_without_checks_the_machine_is_not_asked(write: Write) -> None:
    missing = '[tls]\ncertificate = "no.pem"\nprivate_key = "no.key"\n'
    assert load_settings(write(missing), checks=False).warnings == ()
    with pytest.raises(ConfigurationError):
        load_settings(write(missing))


def test_switches_for_tests_need_the_environment_to_say_so(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("[test_only]\nmx_port = 2600\n")
    monkeypatch.setenv("MTA_TEST_ONLY", "1")
    assert load_settings(path).configuration.test_only.mx_port == 2600
    for value in ("0", "", "yes"):
        monkeypatch.setenv("MTA_TEST_ONLY", value)
        with pytest.raises(ConfigurationError, match="E014"):
            load_settings(path)


def test_warnings_come_with_the_snapshot_in_the_order_of_the_file(write: Write) -> None:
    text = write().read_text().replace('["*"]', '["example.org"]')
    loaded = load_settings(write("[limits]\nmessage_size = 1000\n", 'relay_networks = ["127.0.0.0/8"]\n' + text))
    assert [each.code for each in loaded.warnings] == ["W602", "W506", "W702"]
    assert loaded.configuration.relay_networks == [ipaddress.ip_network("127.0.0.0/8")]


def test_the_file_is_found_by_option_environment_and_place() -> None:
    assert find_configuration("a.toml", {"MTA_CONFIG": "b.toml"}) == Path("a.toml")
    assert find_configuration(None, {"MTA_CONFIG": "b.toml"}) == Path("b.toml")
    assert find_configuration(None, {"MTA_CONFIG": ""}) == Path("/etc/mta/mta.toml")
    assert find_configuration(None, {}) == Path("/etc/mta/mta.toml")


def test_problems_are_told_to_people_and_to_programs() -> None:
    problems = [
        Problem("mta.toml", 3, "route.0.via", "no", "try mx", "E501"),
        Problem("mta.toml", 0, "hostname", "is missing", "", "E011"),
        Problem("mta.toml", 5, "limits.hops", "few", "", "W702"),
    ]
    assert format_problems(problems).split("\n") == [
        "mta.toml:3: error E501: route.via: no",
        "    try mx",
        "mta.toml: error E011: hostname: is missing",
        "mta.toml:5: warning W702: limits.hops: few",
    ]
    told = json.loads(format_problems(problems, json=True))
    assert told[0] == {
        "file": "mta.toml", "line": 3, "key": "route.0.via", "message": "no", "hint": "try mx", "code": "E501", "severity": "error",
    }  # fmt: skip
    assert (format_problems([]), json.loads(format_problems([], json=True))) == ("", [])


def test_a_file_with_every_key_and_a_thousand_routes_loads_in_a_moment(write: Write) -> None:
    routes = "".join(
        f'[[route]]\ndomains = ["d{n}.example.org"]\nvia = "smtp:[10.0.0.{n % 250}]:25"\n' for n in range(1000)
    )
    path = write(routes)
    load_settings(path)
    begun = time.process_time()
    loaded = load_settings(path)
    assert time.process_time() - begun < 1
    begun = time.process_time()
    load_settings(write())
    assert time.process_time() - begun < 0.05
    assert len(loaded.configuration.route) == 1001


# --- whatever is broken, the answer is a list of problems, each at a line that exists -----------------------------------------------


def written(value: object) -> str:
    """A value as TOML, tables inline."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {written(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(written, value)) + "]"
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value)
    return repr(value)


JUNK: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["", "x", "mx", "*", "25M", "-5d", "tcp:25", "\x00", "users", "../x", "é" * 200]),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.booleans(),
    st.just([]),
    st.just({}),
    st.just([{}]),
    st.just([[1], "x", {"name": {"x": []}}]),
    st.just({"name": 1, "x": {"y": 2}}),
)


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    """The file with every key, with some values replaced, taken out or added."""
    document = tomllib.loads(example())
    for _ in range(draw(st.integers(1, 4))):
        at: Any = document
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = (
                draw(st.sampled_from([*keys, "new"] if isinstance(at, dict) else keys))
                if keys or isinstance(at, dict)
                else None
            )
            if key is None:
                break
            below = at.get(key) if isinstance(at, dict) else at[key]
            if isinstance(below, dict | list) and below and draw(st.booleans()):
                at = below
                continue
            if draw(st.integers(0, 3)) == 0 and key in keys:
                del at[key]
            else:
                at[key] = copy.deepcopy(draw(JUNK))
            break
    return document


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken())
def test_whatever_is_broken_is_told_and_nothing_else_is_raised(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("\n".join(f"{json.dumps(key)} = {written(value)}" for key, value in document.items()) + "\n")
    try:
        problems = list(load_settings(path).warnings)
    except ConfigurationError as error:
        problems = error.problems
        assert any(each.severity == "error" for each in problems)
    lines = path.read_text().count("\n")
    for each in problems:
        assert each.message
        assert each.code
        assert 0 <= each.line <= lines
        assert os.linesep not in each.message
