"""Private name servers: nsd with a signed zone, and unbound before it, which validates; on loopback, beside any other.

    with PrivateDns({"d.example": ZONE}, local_data=["plain.example. 60 IN MX 10 mx.d.example."]) as dns:
        options = DnsOptions((dns.resolver,))

`zones` go to nsd, signed; unbound has their keys as trust anchors. `local_data` unbound says itself, unsigned. The rest of the world
does not exist (NXDOMAIN). Needs the packages unbound, nsd and ldnsutils.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from mta.testing.processes import free_port, stop, wait_for

_HEAD = "$ORIGIN {zone}.\n$TTL 60\n@ IN SOA ns root 1 3600 900 86400 30\n@ IN NS ns\nns IN A 127.0.0.1\n"
_PROBE = bytes.fromhex("123401000001000000000000 07 76657273696f6e 04 62696e64 00 0010 0003".replace(" ", ""))


def missing() -> str:
    """The packages that are wanting for it, or ""; for pytest.skip."""
    wanted = {"unbound": "unbound", "nsd": "nsd", "ldns-signzone": "ldnsutils"}
    return " ".join(package for program, package in wanted.items() if _program(program) is None)


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class PrivateDns:
    """`resolver` is unbound's address and port, `authority` nsd's.

    `bogus`: owner names in the zones whose signatures fail. `lame`: zones that unbound asks nsd for, which refuses.
    """

    def __init__(
        self,
        zones: Mapping[str, str],
        *,
        local_data: Sequence[str] = (),
        bogus: Sequence[str] = (),
        lame: Sequence[str] = (),
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mta-dns-"))
        self.zones, self.local_data, self.bogus = dict(zones), tuple(local_data), tuple(bogus)
        self.lame = tuple(lame)
        self.resolver = ("127.0.0.1", free_port())
        self.authority = ("127.0.0.1", free_port())
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> PrivateDns:
        try:
            self._write()
            self.start("nsd")
            self.start("unbound")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._processes):
            self.stop(name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, name: str) -> None:
        """`nsd` or `unbound`, until it answers."""
        port = {"nsd": self.authority, "unbound": self.resolver}[name][1]
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = process = subprocess.Popen(
                [_program(name) or name, "-d", "-c", str(self.directory / f"{name}.conf")],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError((self.directory / f"{name}.log").read_text())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
                probe.settimeout(0.2)
                probe.connect(("127.0.0.1", port))
                probe.send(_PROBE)
                return bool(probe.recv(512))
            return False

        wait_for(f"{name}'s answer", answers)

    def stop(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            self.thaw(process)
            stop(process, seconds=5)

    def freeze(self, name: str) -> None:
        """It keeps its port and answers nothing."""
        os.killpg(self._processes[name].pid, signal.SIGSTOP)

    def thaw(self, name: str | subprocess.Popen[bytes]) -> None:
        process = self._processes[name] if isinstance(name, str) else name
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)

    def control(self, *arguments: str) -> None:
        """unbound-control: local_zone NAME TYPE, local_data RECORD, flush_zone NAME ..."""
        command = [_program("unbound-control") or "unbound-control", "-q", "-c", str(self.directory / "unbound.conf")]
        subprocess.run([*command, *arguments], check=True, timeout=10, stdout=subprocess.DEVNULL)

    # --- files --------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        here = self.directory
        keys = {zone: self._sign(zone, text) for zone, text in self.zones.items()}
        (here / "nsd.conf").write_text(
            f'server:\n ip-address: 127.0.0.1@{self.authority[1]}\n username: ""\n chroot: ""\n zonesdir: "{here}"\n'
            f' xfrdir: "{here}"\n xfrdfile: "{here}/xfrd.state"\n zonelistfile: "{here}/zone.list"\n'
            f' pidfile: "{here}/nsd.pid"\n database: ""\n server-count: 1\nremote-control:\n control-enable: no\n'
            + "".join(f"zone:\n name: {zone}\n zonefile: {zone}.signed\n" for zone in self.zones)
        )
        data = "".join(
            f' local-zone: "{_zone_of(record)}" typetransparent\n local-data: {_quoted(record)}\n'
            for record in self.local_data
        )
        (here / "unbound.conf").write_text(
            f'server:\n interface: 127.0.0.1@{self.resolver[1]}\n username: ""\n chroot: ""\n directory: "{here}"\n'
            f' pidfile: ""\n use-syslog: no\n logfile: ""\n do-ip6: no\n do-not-query-localhost: no\n'
            f' module-config: "validator iterator"\n ede: yes\n infra-host-ttl: 1\n'
            f' target-fetch-policy: "0 0 0 0 0"\n local-zone: "." static\n'
            + "".join(f' trust-anchor-file: "{here}/{key}.ds"\n' for key in keys.values())
            + "".join(f' local-zone: "{zone}." transparent\n' for zone in (*self.zones, *self.lame))
            + data
            + f'remote-control:\n control-enable: yes\n control-interface: "{here}/ub.sock"\n control-use-cert: no\n'
            + "".join(
                f"stub-zone:\n name: {zone}\n stub-addr: 127.0.0.1@{self.authority[1]}\n"
                for zone in (*self.zones, *self.lame)
            )
        )

    def _sign(self, zone: str, text: str) -> str:
        """The name of the zone's key."""
        here = self.directory
        (here / zone).write_text(_HEAD.format(zone=zone) + text)
        made = subprocess.run(
            ["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone], cwd=here, check=True, capture_output=True, text=True
        )
        key = made.stdout.strip()
        subprocess.run(["ldns-signzone", "-n", zone, key], cwd=here, check=True, capture_output=True)
        signed = here / f"{zone}.signed"
        lines = [
            line.replace("192.0.2.", "198.51.100.") if any(line.startswith(f"{name}.{zone}.") for name in self.bogus)
            and "\tA\t" in line else line
            for line in signed.read_text().splitlines()
        ]  # fmt: skip
        signed.write_text("\n".join(lines) + "\n")
        return key


def _zone_of(record: str) -> str:
    return record.split(maxsplit=1)[0]


def _quoted(record: str) -> str:
    return f"'{record}'" if '"' in record else f'"{record}"'
