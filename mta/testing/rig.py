"""The crash rig: a daemon with a mailbox, a next hop that keeps books, a mixture of mail for both, and the verdict.

    with Sink(tmp_path / "taken", refuse=REFUSED) as sink:
        rig = Rig(tmp_path, sink)
        load = rig.load(rate=200)
        for _ in range(30):
            rig.start(); ...; rig.daemon.kill()
        ledger = load.stop()
        rig.start()
        rig.drain()
        verdict = rig.verdict(ledger)

Mail for dev.test is delivered to maildirs, all other is relayed to the sink, and what the sink refuses comes back to the sender,
who has a mailbox too: so acceptance, both ways out, partial outcomes and reports are under the same blow.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from mta.testing.daemon import Daemon
from mta.testing.ledger import Copy, Ledger, Owed, Verdict, copy_of, judge_copies, repeated, returned_by
from mta.testing.load import Load
from mta.testing.processes import wait_for
from mta.testing.sink import Sink

MAILBOX, SENDER = "bob", "sender"  # at dev.test
REFUSED = "refused"  # the beginning of names that the sink is to refuse
QUICK = '\n[queue]\nretry_min = "1s"\nretry_max = "2s"\n'
_LOCAL, _FAR = f"{MAILBOX}@dev.test", ("ann@far.example", "ben@far.example", "cat@far.example")
_MIXTURE: tuple[tuple[str, ...], ...] = (
    (_LOCAL,),
    _FAR[:1],
    (_LOCAL, _FAR[0]),
    _FAR,
    (f"{REFUSED}@far.example", _FAR[1]),
    _FAR[1:2],
    (_LOCAL,),
)
LARGE_OCTETS = 150 << 10  # beyond 128 KiB a body has a file of its own


def recipients_of(number: int) -> Sequence[str]:
    """One local, one remote, both, several in one transaction, one of two refused: in turn."""
    return _MIXTURE[number % len(_MIXTURE)]


def octets_of(number: int) -> int:
    return LARGE_OCTETS if number % 25 == 0 else 300 + number % 5 * 2500


class Rig:
    """`extra` (TOML), `prefix` and `store` are the daemon's."""

    def __init__(
        self,
        directory: Path,
        sink: Sink,
        *,
        extra: str = QUICK,
        prefix: Sequence[str] = (),
        store: Path | None = None,
        recipients: Callable[[int], Sequence[str]] = recipients_of,
    ) -> None:
        self.sink, self.recipients = sink, recipients
        routes = (
            f'[[route]]\ndomains = ["dev.test"]\nvia = "maildir:{store or directory}/mail/{{domain}}/{{local}}"\n'
            f'[[route]]\ndomains = ["*"]\nvia = "smtp:[127.0.0.1]:{sink.port}"\n'
        )
        self.daemon = Daemon(
            directory, routes=routes, extra=extra, relay_networks=["127.0.0.0/8"], prefix=prefix, store=store
        )
        self.starts: list[float] = []  # wall time

    def start(self, *, wait: bool = True) -> None:
        self.starts.append(time.time())
        self.daemon.start(wait=wait)

    def load(self, *, rate: float, name: str = "load", sessions: int = 8) -> Load:
        """Started; it finds the daemon whenever it is up."""
        load = Load(
            self.daemon.mx,
            self.recipients,
            name=name,
            sender=f"{SENDER}@dev.test",
            sessions=sessions,
            rate=rate,
            octets=octets_of,
            chunking=lambda number: number % 4 == 0,
        )
        return load.start()

    def drain(self, seconds: float = 90.0) -> None:
        """Until nothing is queued, reports that were made meanwhile included."""

        def empty() -> bool:
            self.daemon.mta("queue", "release", "--all", check=False)
            self.daemon.mta("queue", "retry", "--all", check=False)
            return not self.daemon.query("queue", "list", "--limit", "1")

        wait_for("an empty queue", empty, seconds, every=0.2)

    def copies(self) -> list[Copy]:
        """All that arrived. The daemon runs: a disk of its own is seen through it."""
        local = [copy_of(file.read_bytes(), _LOCAL, file.stat().st_mtime) for file in self._files(MAILBOX)]
        return local + self.sink.copies()

    def returned(self) -> set[Owed]:
        return returned_by(file.read_bytes() for file in self._files(SENDER))

    def verdict(self, ledger: Ledger) -> Verdict:
        return judge_copies(ledger, self.copies(), returned=self.returned())

    def repeated(self) -> tuple[list[Copy], Counter[tuple[int, str]]]:
        """As `ledger.repeated`; the ways out are the mailbox and the next hop."""
        return repeated(self.copies(), self.starts, lambda copy: "maildir" if copy.recipient == _LOCAL else "smtp")

    def _files(self, local: str) -> list[Path]:
        folder = Path(f"/proc/{self.daemon.pid}/root{self.daemon.mail}/dev.test/{local}/new")
        return sorted(folder.iterdir()) if folder.is_dir() else []
