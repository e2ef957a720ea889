"""A local delivery, seen from outside: on disk under tmp, renamed, its directory on disk, and only then settled in the spool."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mta.testing.daemon import Daemon
from mta.testing.load import Load
from mta.testing.processes import wait_for
from mta.testing.strace import calls_of, missing, traced, wait_until_written

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]

MESSAGES = 40
WRITES = {"pwrite64", "write", "writev"}
_NAMES = re.compile(r'"([^"]+)"')


def test_a_message_is_settled_after_it_lies_in_the_maildir_for_good(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls_wanted = "pwrite64,write,writev,fdatasync,fsync,rename,renameat,renameat2"
    with Daemon(tmp_path, prefix=traced(trace, calls_wanted)) as daemon:
        large = 150 << 10  # one in ten comes from a body's file
        load = Load(
            daemon.mx, "bob@dev.test", messages=MESSAGES, octets=lambda number: large if number % 10 == 0 else 600
        )
        load.start().join()
        wait_for("all messages in the maildir", lambda: len(daemon.mailbox("bob")) == MESSAGES)
        wait_for("an empty queue", lambda: not daemon.query("queue", "list"))
    wait_until_written(trace, daemon.pid)
    calls = calls_of(trace)

    new = tmp_path / "mail" / "dev.test" / "bob" / "new"
    renames = [call for call in calls if call.name.startswith("rename") and str(new) in call.text]
    assert len(renames) == MESSAGES
    for rename in renames:
        under_tmp, final = _NAMES.findall(rename.text)[-2:]
        file = f"{new.parent}/tmp/{under_tmp.rpartition('/')[2]}"
        final = final.rpartition("/")[2]
        assert (new / final).exists()
        written = max(call.ended for call in calls if call.name in WRITES and call.path == file)
        synced = [call for call in calls if call.name in {"fsync", "fdatasync"} and call.path == file]
        assert any(written < call.began and call.ended < rename.began for call in synced), f"{final}: renamed unsynced"
        named = [call for call in calls if call.name == "fsync" and call.path == str(new) and call.began > rename.ended]
        # The journal names the file: the first write to the spool's log that does is the settlement.
        settled = next(
            call
            for call in calls
            if call.name == "pwrite64" and call.path.endswith("spool.db-wal") and f"new/{final}" in call.text
        )
        assert named, f"{final}: its directory was never synced"
        assert named[0].ended < settled.began, f"{final}: settled before its name was on disk"
