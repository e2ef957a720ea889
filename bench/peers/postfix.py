"""A private Postfix with its defaults, logging as it does by default."""

from __future__ import annotations

from mta.testing.postfix import PrivatePostfix
from mta.testing.postfix import missing as postfix_missing
from peers import SINK_PORT, WORK, fresh


class Postfix:
    name = "postfix"
    kept = False
    share = 1.0
    sessions: int | None = None

    def __init__(self) -> None:
        self._running: PrivatePostfix | None = None
        self.port = self.pid = 0

    def missing(self) -> str:
        return postfix_missing()

    def start(self, *, hold: bool) -> None:
        settings = {
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_recipient_restrictions": "check_client_access static:HOLD, permit" if hold else "permit",
            "relayhost": f"[127.0.0.1]:{SINK_PORT}",
            "smtp_tls_security_level": "none",  # the sink has no TLS
        }
        self._running = PrivatePostfix(fresh(WORK / "postfix"), settings=settings)
        self._running.start()
        self.port, self.pid = self._running.port, self._running.pid

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()

    def queued(self) -> int:
        if self._running is None:
            return 0
        return sum(1 for path in (self._running.directory / "spool" / "hold").rglob("*") if path.is_file())
