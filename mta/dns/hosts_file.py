"""/etc/hosts: names with addresses that come before what the DNS says."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from mta.dns.resolver import Answer
from mta.dns.watched_file import WatchedFile


class HostsFile:
    """`seconds`: a monotonic clock."""

    def __init__(self, path: str, seconds: Callable[[], float]) -> None:
        self._file = WatchedFile(path, parse_hosts, seconds)

    def look_up(self, host: str) -> Answer[str] | None:
        """The addresses of a host, IPv4 first."""
        return self._file.content.get(host.lower())


def parse_hosts(text: str) -> dict[str, Answer[str]]:
    """Lines of an address and names; what is none is passed over."""
    table: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            shown = str(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            continue
        for name in names:
            known = table.setdefault(name.lower(), [])
            if shown not in known:
                known.append(shown)
    return {name: Answer(tuple(sorted(found, key=lambda each: ":" in each))) for name, found in table.items()}
