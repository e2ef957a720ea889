"""The command as a whole: help, exit codes, a daemon that is not there, and the smaller commands."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mta.cli.main import COMMANDS

NOW = 1_767_225_600.0
STATUS = {
    "running": True, "pid": 7, "hostname": "mail.example.org", "configuration": "/etc/mta/mta.toml", "generation": 3,
    "started_at": NOW - 90, "boot": 1, "now": NOW, "sessions": 2, "log_lines_dropped": 0, "troubles": [], "new_part": {"x": 1.5},
    "schedulers": [{"in_flight": 3, "suspended": [{"destination": "mx:a", "seconds": 5}]}],
    "spools": [{
        "shard": 0, "messages": 4, "queued": 5, "held": 1, "claimed": 2, "oldest_received_at": NOW - 600, "accepted": 99,
        "database_octets": 1 << 20, "wal_octets": 0, "free_octets": 1 << 30, "free_share": 0.5, "failing": "", "commits": 9,
    }],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(mta: Any, name: str) -> None:
    ended = mta(name, "--help")
    assert ended.code == 0
    assert ended.out.startswith("Usage: ")


def test_help_lists_all_commands_without_importing_them(tmp_path: Path) -> None:
    script = "import sys\nfrom mta.cli.main import run\ntry: run(['--help'])\nfinally: print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    page, modules = ended.stdout.rsplit("\n", 2)[0], set(ended.stdout.rsplit("\n", 2)[1].split())
    assert all(f"  {name} " in page for name in COMMANDS)
    assert not modules & {"twisted", "pydantic", "rich", "apsw", "mta.cli.queue", "prometheus_client"}


def test_a_question_to_the_daemon_imports_nothing_heavy(daemon: Any, config: Path) -> None:
    daemon.answers["status"] = STATUS
    script = f"import sys\nfrom mta.cli.main import run\ntry: run(['--config', {str(config)!r}, 'status'])\nfinally: print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(ended.stdout.rsplit("\n", 2)[1].split()) & {"twisted", "pydantic", "rich", "apsw"}


def test_the_real_command_starts_fast() -> None:
    best = 9.0
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mta.cli.main", "--help"], capture_output=True, check=True)
        best = min(best, time.perf_counter() - begun)
    assert best < 0.5  # 0.1 s on an idle machine


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["queue", "list", "--no-such"], ["why"], ["send", "--from", "a@b"], ["queue", "hold"]]
)
def test_wrong_usage_ends_with_64(mta: Any, arguments: list[str]) -> None:
    assert mta(*arguments).code == 64


@pytest.mark.parametrize(
    "arguments", [["reload"], ["queue", "hold", "--all"], ["send", "--from", "a@b", "--to", "c@d"]]
)
def test_what_needs_a_daemon_says_that_none_runs(mta: Any, arguments: list[str]) -> None:
    ended = mta(*arguments, stdin="x")
    assert ended.code == 69
    assert "not running" in ended.err


def test_what_the_daemon_refuses_is_said_with_its_code(daemon: Any, mta: Any) -> None:
    daemon.refusals["status"] = {"error": "user eve may not administer this mail server", "code": 77}
    ended = mta("status")
    assert (ended.code, ended.err) == (77, "mta: user eve may not administer this mail server\n")


@pytest.mark.parametrize(("text", "code"), [(None, 78), ("this is no TOML", 78), ("[control]\nsocket = 5", 69)])
def test_a_configuration_that_cannot_be_read(mta: Any, config: Path, text: str | None, code: int) -> None:
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    assert mta("reload").code == code


def test_the_configuration_is_found_by_environment(daemon: Any, config: Path) -> None:
    daemon.answers["config.reload"] = {"generation": 2, "restart": []}
    environment = {**os.environ, "MTA_CONFIG": str(config)}
    command = [sys.executable, "-m", "mta.cli.main", "reload"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stdout) == (0, "generation 2 is in force\n")


def test_status_is_a_page(daemon: Any, mta: Any) -> None:
    daemon.answers["status"] = STATUS
    ended = mta("status")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("mail.example.org: running as process 7 since ")
    assert lines[1] == "configuration /etc/mta/mta.toml, generation 3"
    assert "    0         4       5     1       2  10 min        99  1.0 MiB  1.0 GiB (50%)" in lines
    assert "scheduler: in flight 3" in lines
    assert "new_part: x 1.5" in lines
    assert json.loads(mta("status", "--json").out) == STATUS


def test_status_of_a_spool_that_accepts_nothing_ends_with_75(daemon: Any, mta: Any) -> None:
    spool = {**STATUS["spools"][0], "failing": "No space left on device"}  # type: ignore[index]
    daemon.answers["status"] = {**STATUS, "spools": [spool], "troubles": ["spool shard 0: No space left on device"]}
    ended = mta("status")
    assert ended.code == 75
    assert "TROUBLE: spool shard 0: No space left on device" in ended.out


def test_why_tells_a_story(daemon: Any, mta: Any) -> None:
    message = {"id": "0000000000001", "sender": "a@example.org", "size": 10, "kind": "relay", "helo": "pc"}
    recipient = {"recipient_id": 7, "recipient": "b@example.net", "state": "queued", "held": True}
    entry = {"at": NOW, "kind": "accepted", "recipient_id": 0, "data": {"client_ip": "192.0.2.7", "size": 10}}
    data = {
        "messages": [{"message": message, "recipients": [recipient], "entries": [entry]}],
        "refusals": [
            {"at": NOW, "client": "192.0.2.8", "sender": "x", "recipient": "b@example.net", "reply": "550 no"}
        ],
        "more": True,
        "now": NOW,
    }
    daemon.answers["why"] = data
    ended = mta("why", "b@example.net")
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW))
    assert ended.out == (
        "0000000000001 from <a@example.org> to <b@example.net>, 10 B: held\n"
        f"  {clock}  accepted from 192.0.2.7 (hello pc) without login in clear text, 10 B\n"
        "  now                  held: waits for `mta queue release`\n"
        "\n"
        "refused at the door:\n"
        f"  {clock}  refused 192.0.2.8 from <x> to <b@example.net>: 550 no\n"
    )
    assert daemon.asked == [("why", {"what": "b@example.net", "limit": 20})]
    assert json.loads(mta("why", "b@example.net", "--json").out) == data


def test_reload_prints_the_problems(daemon: Any, mta: Any) -> None:
    daemon.refusals["config.reload"] = {
        "error": "the configuration has errors",
        "code": 78,
        "problems": ["mta.toml:3: x\x1b"],
    }
    ended = mta("reload")
    assert (ended.code, ended.err) == (78, "mta.toml:3: x\\x1b\nmta: the configuration has errors\n")
    daemon.refusals.clear()
    daemon.answers["config.reload"] = {"generation": 5, "restart": ["spool.path"]}
    assert mta("reload").out == "generation 5 is in force\n  spool.path takes effect after a restart\n"


def test_send_passes_the_octets_in_blocks(daemon: Any, mta: Any) -> None:
    daemon.answers |= {"send.begin": {"block": 10}, "send.block": {}, "send.end": {"id": "0000000000001"}}
    octets = b"Subject: \xff\n\n\0 odd octets too\n"
    ended = mta("send", "--from", "<>", "--to", "a@b.example", "--to", "c@d.example", stdin=octets)
    assert (ended.code, ended.out) == (0, "0000000000001\n")
    assert daemon.asked[0] == ("send.begin", {"from": "<>", "to": ["a@b.example", "c@d.example"]})
    blocks = [base64.b64decode(arguments["data"]) for verb, arguments in daemon.asked if verb == "send.block"]
    assert b"".join(blocks) == octets
    assert max(map(len, blocks)) == 10


def test_config_check_prints_all_problems_with_their_places(mta: Any, config: Path) -> None:
    config.write_text('hostname = 5\nnonsense = 1\n[[listener]]\nname = "mx"\nendpoints = ["tcp:25"]\nkind = "mx"\n')
    ended = mta("config", "check")
    assert ended.code == 78
    assert f"{config}:1: " in ended.err
    assert f"{config}:2: " in ended.err
    problems = json.loads(mta("config", "check", "--json").out)
    assert {"hostname", "nonsense"} <= {problem["key"] for problem in problems}


def test_config_schema_is_json(mta: Any) -> None:
    assert "hostname" in json.loads(mta("config", "schema").out)["properties"]


def test_version_names_what_it_runs_on(mta: Any) -> None:
    versions = json.loads(mta("version", "--json").out)
    assert set(versions) >= {"txmta", "python", "twisted", "apsw"}
    assert "python" in mta("version").out
