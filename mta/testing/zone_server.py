"""A name server in a process of its own for many domains: each has one MX, `mx.` and its name, at an address.

    with ZoneServer(tmp_path / "zone", {"d1.example": "127.1.0.1"}) as names:
        ...                                    # [dns] servers = ["127.0.0.1:{names.port}"]

    python -m mta.testing.zone_server --zone FILE --port PORT

What it does not know does not exist (NXDOMAIN); a name that it knows has no other records than MX or A (NODATA). UDP alone.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from twisted.names import dns

from mta.testing.processes import free_port, stop, wait_for
from mta.testing.scripted_name_servers import Asked, a, mx, respond, soa, understood

NXDOMAIN = 3
BUFFER_OCTETS = 4 << 20  # a thousand destinations ask at once


def answer(asked: Asked, zone: Mapping[str, str]) -> bytes:
    """`zone`: domain → address of its only mail host."""
    name = asked.name.decode("ascii", "replace").lower()
    nothing = [soa("example", 60)]
    if name in zone:
        records = [mx(name, 10, f"mx.{name}")] if asked.kind == dns.MX else []
    elif (domain := name.removeprefix("mx.")) in zone:
        records = [a(name, zone[domain])] if asked.kind == dns.A else []
    else:
        return respond(asked, rcode=NXDOMAIN, authority=nothing)
    return respond(asked, *records, authority=[] if records else nothing)


class ZoneServer:
    """The process; `zone` is kept in `file`."""

    def __init__(self, file: Path, zone: Mapping[str, str]) -> None:
        self.file, self.zone, self.port = file, dict(zone), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ZoneServer:
        self.file.write_text(json.dumps(self.zone))
        command = [sys.executable, "-m", "mta.testing.zone_server", "--zone", str(self.file), "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_for("the name server's answer", self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            stop(self._process)

    def _answers(self) -> bool:
        question = dns.Message(id=1)
        question.addQuery(b"example", dns.SOA)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.2)
            try:
                asking.connect(("127.0.0.1", self.port))
                asking.send(question.toStr())
                return bool(asking.recv(512))
            except OSError:
                return False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--zone", required=True, type=Path, help="JSON: domain and address")
    parser.add_argument("--port", required=True, type=int)
    options = parser.parse_args()
    zone = json.loads(options.zone.read_text())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
        server.bind(("127.0.0.1", options.port))
        while True:
            octets, client = server.recvfrom(4096)
            server.sendto(answer(understood(octets, "127.0.0.1", options.port, "udp"), zone), client)


if __name__ == "__main__":
    main()
