"""Law 1, seen from outside: strace watches the daemon, and every 250 must come after the fdatasync of all it promises.

The oracle reads nothing but system calls: the first write to the spool's log that carries a message's mark, the sync of the log
that began after it, and only then the octets `queued as ID` to the client. Inside TLS the octets can't be read; there one client goes in step, and the last record that it was sent
before it spoke again is its 250. For a body in a file of its own: its last write, its
fdatasync, and an fsync of the directory that holds its name, all before that same reply. Mail that goes on to a next hop is
looked at like mail for a mailbox; a report of ours must be in the log before the sync that makes the failure durable (law 3).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from mta.testing.daemon import Daemon
from mta.testing.load import Ledger, Load
from mta.testing.processes import wait_for
from mta.testing.rig import REFUSED
from mta.testing.sink import Sink
from mta.testing.strace import Call, calls_of, missing, traced, wait_until_written

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]

MESSAGES = 1000 if os.environ.get("MTA_SOAK") else 300
TLS_MESSAGES = 30
REPORTS = 40
LARGE_OCTETS = 200 << 10  # beyond 128 KiB a body has a file of its own
CALLS = (
    "openat,pwrite64,pwritev,write,writev,recvfrom,sendto,sendmsg,fdatasync,fsync,rename,renameat,renameat2,link,linkat"
)
WRITES = {"pwrite64", "pwritev", "write", "writev"}
SENDS = {"sendto", "sendmsg", "write", "writev"}
SYNCS = {"fdatasync", "fsync"}
TLS_RECORD = r', "\27\3\3'  # application data, at the beginning of what was read
_QUEUED_AS = re.compile(r"250 2\.0\.0 Ok: queued as ([0-9A-Z]{13})")
_BODY_MARK = re.compile(r"([a-z]+-\d{7}-x) begins")
_HEADER_MARK = re.compile(r"X-(?:ID|Again|And-Again): ([a-z]+-\d{7}-x)\\r")
_CREATED = re.compile(r'"([^"]+)"')


class Oracle:
    """What the trace proves about each message of the ledger."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.replies: dict[str, Call] = {}  # by queue ID
        self.sends: list[Call] = []
        self.hearings: list[Call] = []  # a client said something inside TLS; next hops are spoken to in the clear here
        self.logged: dict[str, Call] = {}  # by mark: the first write to the log that carries it
        self.log_syncs: list[Call] = []
        self.bodies: dict[str, str] = {}  # by mark: the file
        self.names: dict[str, int] = {}  # by path: where its name was last made
        self.last_write: dict[str, Call] = {}  # by path
        self.syncs: dict[str, list[Call]] = {}  # by path
        for call in calls:
            if call.result >= 0:
                self._take(call)

    def _take(self, call: Call) -> None:
        if call.name == "recvfrom" and call.result > 0:
            if TLS_RECORD in call.text:
                self.hearings.append(call)
        elif call.name in SENDS and call.path.startswith("socket:"):
            self.sends.append(call)
            for identifier in _QUEUED_AS.findall(call.text):
                self.replies.setdefault(identifier, call)
        elif call.name in WRITES and call.path.endswith("spool.db-wal"):
            for mark in _HEADER_MARK.findall(call.text):
                self.logged.setdefault(mark, call)
        elif call.name in WRITES and "/body/" in call.path:
            self.last_write[call.path] = call
            for mark in _BODY_MARK.findall(call.text):
                self.bodies.setdefault(mark, call.path)
        elif call.name in SYNCS:
            self.syncs.setdefault(call.path, []).append(call)
            if call.path.endswith("spool.db-wal"):
                self.log_syncs.append(call)
        elif (call.name == "openat" and "O_CREAT" in call.text) or call.name.startswith(("rename", "link")):
            self.names[_CREATED.findall(call.text)[-1]] = call.ended

    def objections(self, ledger: Ledger) -> list[str]:
        """Acknowledged messages for which the trace does not show that they were durable first."""
        return [
            f"{mark}: {why}"
            for mark, sent in sorted(ledger.sent.items())
            if sent.outcome == "acknowledged" and (why := self._objection(mark, sent.queue_id))
        ]

    def _objection(self, mark: str, queue_id: str) -> str:
        logged = self.logged.get(mark)
        if logged is None:
            return "the log does not have it"
        reply = self._inside_tls(logged) if mark.startswith("tls") else self.replies.get(queue_id)
        if reply is None:
            return f"its 250 (queued as {queue_id}) is not in the trace"
        if not _between(self.log_syncs, logged.ended, reply.began):
            return "250 before the log was synced"
        return self._objection_to_body(self.bodies[mark], reply) if mark in self.bodies else ""

    def _inside_tls(self, logged: Call) -> Call | None:
        """The reply that made the client speak again after its message was written to the log."""
        heard = next((call for call in self.hearings if call.began > logged.ended), None)
        if heard is None:
            return None
        sent = [call for call in self.sends if call.path == heard.path and call.ended < heard.began]
        return sent[-1] if sent else None

    def _objection_to_body(self, path: str, reply: Call) -> str:
        if not _between(self.syncs.get(path, []), self.last_write[path].ended, reply.began):
            return "250 before its body's file was synced"
        folder, _, name = path.rpartition("/")
        named = max((at for made, at in self.names.items() if made in {path, name}), default=-1)
        if named < 0:
            return f"the making of {name} is not in the trace"
        if not _between(self.syncs.get(folder, []), named, reply.began):
            return "250 before the directory of its body was synced"
        return ""


def _between(syncs: Sequence[Call], after: int, before: int) -> bool:
    return any(after < sync.began and sync.ended < before for sync in syncs)


def _routes(directory: Path, sink: Sink) -> str:
    return (
        f'[[route]]\ndomains = ["dev.test"]\nvia = "maildir:{directory}/mail/{{domain}}/{{local}}"\n'
        f'[[route]]\ndomains = ["*"]\nvia = "smtp:[127.0.0.1]:{sink.port}"\n'
    )


def _accept(directory: Path, extra: str = "") -> tuple[Oracle, Ledger]:
    """300 messages, small and large, by DATA and BDAT, for a mailbox and for a next hop, into a daemon under strace."""
    trace = directory / "trace"
    users = {"demo@dev.test": "demo-password"}
    with (
        Sink(directory / "taken") as sink,
        Daemon(
            directory,
            prefix=traced(trace, CALLS),
            users=users,
            routes=_routes(directory, sink),
            extra=extra,
            relay_networks=["127.0.0.0/8"],
        ) as daemon,
    ):
        load = Load(
            daemon.mx,
            lambda number: ["bob@dev.test"] if number % 2 else ["ann@far.example"],
            messages=MESSAGES,
            octets=lambda number: LARGE_OCTETS if number % 10 == 0 else 200 + number % 7 * 3000,
            chunking=lambda number: number % 3 == 0,
        )
        ledger = load.start().join(120)
        login = ("demo@dev.test", "demo-password")
        inside = Load(daemon.submission, "bob@dev.test", name="tls", messages=TLS_MESSAGES, sessions=1, login=login)
        ledger.merge(inside.start().join())
        assert {sent.outcome for sent in ledger.sent.values()} == {"acknowledged"}
        assert len(ledger.sent) == MESSAGES + TLS_MESSAGES
    wait_until_written(trace, daemon.pid)
    return Oracle(calls_of(trace)), ledger


def test_every_250_is_sent_after_the_sync_of_all_that_it_promises(tmp_path: Path) -> None:
    oracle, ledger = _accept(tmp_path)
    assert oracle.objections(ledger) == []
    assert len(oracle.bodies) == MESSAGES // 10, "large bodies were to have files of their own"
    assert len(oracle.log_syncs) >= 1

    # The oracle can see: without the syncs of the log, of a body, of its directory, it objects.
    synced, oracle.log_syncs = oracle.log_syncs, []
    assert len(oracle.objections(ledger)) == MESSAGES + TLS_MESSAGES
    oracle.log_syncs = synced
    for paths in (set(oracle.bodies.values()), {path.rpartition("/")[0] for path in oracle.bodies.values()}):
        blind = {path: calls for path, calls in oracle.syncs.items() if path not in paths}
        whole, oracle.syncs = oracle.syncs, blind
        assert len(oracle.objections(ledger)) == MESSAGES // 10
        oracle.syncs = whole


def test_control_a_daemon_that_replies_before_the_commit_is_found_out(tmp_path: Path) -> None:
    oracle, ledger = _accept(tmp_path, "\n[test_only]\nreply_before_commit = true\n")
    assert any("before the log was synced" in objection for objection in oracle.objections(ledger))


def test_a_failure_is_never_durable_before_the_report_of_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    names = [f"{REFUSED}-{number:04d}@far.example" for number in range(1, REPORTS + 1)]
    with (
        Sink(tmp_path / "taken", refuse=REFUSED) as sink,
        Daemon(
            tmp_path,
            prefix=traced(trace, "pwrite64,fdatasync"),
            routes=_routes(tmp_path, sink),
            relay_networks=["127.0.0.0/8"],
        ) as daemon,
    ):
        load = Load(daemon.mx, lambda number: [names[number - 1]], sender="sender@dev.test", messages=REPORTS)
        assert len(load.start().join().acknowledged) == REPORTS
        wait_for("all reports", lambda: len(daemon.mailbox("sender")) == REPORTS)
    wait_until_written(trace, daemon.pid)
    log = [call for call in calls_of(trace) if call.path.endswith("spool.db-wal")]
    writes = [call for call in log if call.name == "pwrite64"]
    syncs = [call for call in log if call.name == "fdatasync"]
    for name in names:
        refused = next(call for call in writes if f"<{name}>: nobody of that name" in call.text)
        # One of the two stands whole on a page.
        fields = (f"Final-Recipient: rfc822; {name}", f"Diagnostic-Code: smtp; 550 5.1.1 <{name}>")
        report = next(call for call in writes if any(each in call.text for each in fields))
        assert not _between(syncs, refused.ended, report.began), f"{name}: failed in one commit, reported in another"
    assert len(syncs) > 1
