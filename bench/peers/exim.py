"""Exim with Debian's build, and what it needs to relay everything to the sink."""

from __future__ import annotations

from mta.testing.processes import free_port
from peers import SINK_PORT, fresh
from peers.unpacked import Unpacked

# smtp_accept_max and the backlog: at its default of 20 it turns the load generator away. smtp_accept_queue_per_connection: at its default of
# 10 it leaves later messages of a connection to the next queue run. Split: what its manual advises for a busy spool.
CONFIG = """
exim_path = {root}/usr/sbin/exim4
spool_directory = {at}/spool
log_file_path = {at}/log/%slog
pid_file_path = {at}/exim.pid
primary_hostname = bench.example
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
keep_environment =
tls_advertise_hosts =
smtp_accept_max = 0
smtp_connect_backlog = 1000
smtp_accept_queue_per_connection = 0
split_spool_directory = true
acl_smtp_rcpt = taken
acl_smtp_data = taken
queue_only = {hold}
begin acl
taken:
  accept
begin routers
out:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  transport = out
  self = send
begin transports
out:
  driver = smtp
  port = {sink}
  hosts_avoid_tls = *
  allow_localhost
begin retry
* * F,2h,15m
"""


class Exim(Unpacked):
    name = "exim"
    share = 0.25
    sessions: int | None = 100  # at 20 it is held back by the time that each of its sessions waits at QUIT
    packages = ("exim4-daemon-light", "exim4-base")
    libraries = {"libidn.so.12": "libidn12"}  # noqa: RUF012
    users = {"Debian-exim": 61001}  # noqa: RUF012

    def start(self, *, hold: bool) -> None:
        fresh(self.at)
        self.port = free_port()
        for folder in ("spool", "log"):
            self.own(self.at / folder, "Debian-exim").chmod(0o750)
        config = self.at / "exim.conf"
        text = CONFIG.format(root=self.root, at=self.at, port=self.port, sink=SINK_PORT, hold=str(hold).lower())
        config.write_text(text)
        self.run([str(self.root / "usr/sbin/exim4"), "-C", str(config), "-bdf", "-q1m"])

    def queued(self) -> int:
        return sum(1 for _ in (self.at / "spool" / "input").rglob("*-H"))
