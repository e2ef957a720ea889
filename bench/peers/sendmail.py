"""sendmail with Debian's build, and what it needs to relay everything to the sink."""

from __future__ import annotations

import subprocess

from mta.testing.processes import free_port
from peers import SINK_PORT, fresh
from peers.unpacked import Unpacked

# Load averages and Listen: at the defaults it refuses or queues under the load that is to be measured. The rest makes it a relay without DNS.
MACROS = """divert(-1)
include(`{cf}m4/cf.m4')
divert(0)
OSTYPE(`linux')
define(`_CF_DIR_', `{cf}')
define(`ALIAS_FILE', `')
define(`QUEUE_DIR', `{at}/spool')
define(`STATUS_FILE', `{at}/statistics')
define(`HELP_FILE', `{at}/helpfile')
define(`confPID_FILE', `{at}/sendmail.pid')
define(`confCW_FILE', `-o {at}/local-host-names')
define(`confDEF_USER_ID', `smmta:smmta')
define(`confDOMAIN_NAME', `bench.example')
define(`confTO_IDENT', `0')
define(`confDONT_BLAME_SENDMAIL', `TrustStickyBit')
define(`confQUEUE_LA', `5000')
define(`confREFUSE_LA', `5000')
define(`confDELAY_LA', `0')
define(`confDELIVERY_MODE', `{mode}')
define(`SMART_HOST', `relay:[127.0.0.1]')
define(`RELAY_MAILER_ARGS', `TCP $h {sink}')
FEATURE(`nocanonify')
FEATURE(`promiscuous_relay')
FEATURE(`accept_unresolvable_domains')
FEATURE(`accept_unqualified_senders')
FEATURE(`no_default_msa')
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port={port}, Family=inet, Listen=4096')
MAILER(`smtp')
"""


class Sendmail(Unpacked):
    name = "sendmail"
    share = 0.4
    sessions: int | None = None
    packages = ("sendmail-bin", "sendmail-base", "sendmail-cf")
    libraries = {"libwrap.so.0": "libwrap0", "liblockfile.so.1": "liblockfile1", "m4": "m4"}  # noqa: RUF012
    users = {"smmta": 61002, "smmsp": 61003}  # noqa: RUF012

    def start(self, *, hold: bool) -> None:
        fresh(self.at)
        self.port = free_port()
        (self.at / "spool").mkdir(mode=0o700)
        macros = MACROS.format(
            cf=f"{self.root}/usr/share/sendmail/cf/",
            at=self.at,
            port=self.port,
            sink=SINK_PORT,
            mode="queueonly" if hold else "background",
        )
        config = self.at / "sendmail.cf"
        config.write_bytes(subprocess.run(["m4"], input=macros.encode(), capture_output=True, check=True).stdout)
        daemon = [str(self.root / "usr/libexec/sendmail/sendmail"), f"-C{config}", "-bD"]
        self.run(daemon if hold else [*daemon, "-q1m"])

    def queued(self) -> int:
        return sum(1 for _ in (self.at / "spool").rglob("qf*"))
