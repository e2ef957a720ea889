"""A name server as people write it: 192.0.2.53, 192.0.2.53:5353, 2001:db8::53, [2001:db8::53]:5353."""

from __future__ import annotations

import ipaddress
import re

DNS_PORT = 53
_WITH_PORT = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(\d{1,5}))?")


def parse_name_server(text: str) -> tuple[str, int]:
    """Address and port. A zone (fe80::1%eth0) is kept. Raises ValueError."""
    hit = _WITH_PORT.fullmatch(text)
    address, port = (hit[1] or hit[2], int(hit[3] or DNS_PORT)) if hit is not None else (text, DNS_PORT)
    bare, percent, zone = address.partition("%")
    try:
        shown = str(ipaddress.ip_address(bare))
    except ValueError:
        shown = ""
    if not shown or not 0 < port < 65536 or (percent and (":" not in bare or not zone.isalnum())):
        raise ValueError(f"{text!r} is no name server; write one as 192.0.2.53, 2001:db8::53 or [2001:db8::53]:5353")
    return (f"{shown}%{zone}" if zone else shown), port
