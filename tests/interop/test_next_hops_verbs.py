"""Next hops on a running daemon: a dead one is suspended and seen, over a restart too; a flush sends it its mail when it lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta.testing.daemon import Daemon
from mta.testing.load import Client
from mta.testing.processes import free_port, wait_for
from mta.testing.sink import Sink

pytestmark = pytest.mark.real

LETTER = b"From: a@client.example\r\nSubject: letter\r\n\r\nbody\r\n"
MESSAGES = 12


def _send(daemon: Daemon, number: int) -> None:
    client = Client(daemon.mx)
    try:
        assert client.send("a@client.example", [f"user{number}@far.example"], LETTER).startswith(b"250 ")
    finally:
        client.close()


def _hop(daemon: Daemon) -> dict[str, Any]:
    rows: list[dict[str, Any]] = daemon.query("queue", "destinations")
    return next((row for row in rows if row["destination"].startswith("smtp:")), {})


def test_a_dead_next_hop_is_suspended_over_a_restart_and_flushed_when_it_lives(tmp_path: Path) -> None:
    port = free_port()
    routes = f'[[route]]\ndomains = ["*"]\nvia = "smtp:[127.0.0.1]:{port}"\n'
    with Daemon(tmp_path / "mta", routes=routes, relay_networks=["127.0.0.0/8"]) as daemon:
        for number in range(MESSAGES):
            _send(daemon, number)
        hop = wait_for("the suspension", lambda: _hop(daemon) if _hop(daemon).get("suspended_until") else None)
        assert (hop["limit"], hop["suspensions"]) == (1, 1)
        assert "refused" in hop["last_reply"]
        assert "suspended until" in daemon.mta("queue", "destinations").stdout
        (untried, *_) = [row for row in daemon.query("queue", "list") if not row["attempts"]]
        assert "is suspended until" in daemon.mta("why", untried["id"]).stdout
        wait_for("all claims to be given back", lambda: _hop(daemon)["waiting"] == MESSAGES)

        daemon.stop()
        (stopped,) = daemon.query("queue", "destinations")
        assert stopped["waiting"] == MESSAGES
        assert abs(stopped["suspended_until"] - hop["suspended_until"]) < 1
        assert "is suspended until" in daemon.mta("why", untried["id"]).stdout
        daemon.start()
        assert abs(_hop(daemon)["suspended_until"] - hop["suspended_until"]) < 5

        with Sink(tmp_path / "taken", port=port) as sink:
            said = daemon.mta("queue", "flush", hop["destination"]).stdout
            assert said.endswith("due now, 1 destination no longer suspended\n")
            wait_for("all of it", lambda: sink.count() == MESSAGES)
            wait_for("the books to be closed", lambda: not daemon.query("queue", "list"))
            recipients = [copy.recipient for copy in sink.copies()]
            assert len(recipients) == len(set(recipients)) == MESSAGES
        assert _hop(daemon)["suspended_until"] == 0
        assert daemon.events("destination-suspended")
        assert daemon.events("destination-resumed")
