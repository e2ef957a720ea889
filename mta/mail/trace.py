"""The Received field (RFC 5321 section 4.4) and the date of RFC 5322, made from facts alone.

What the client called itself is its word: it is shown only when it is a lawful domain or literal, never anything else.
"""

from __future__ import annotations

import time
from functools import lru_cache

from mta.mail.address import AddressError, parse_domain

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=4)
def format_date(at: int) -> str:
    """RFC 5322 section 3.3, in UTC. `at` in whole seconds since the epoch."""
    year, month, day, hour, minute, second, weekday = time.gmtime(at)[:7]
    month_name = _MONTHS[month - 1]
    return f"{_DAYS[weekday]}, {day:02d} {month_name} {year} {hour:02d}:{minute:02d}:{second:02d} +0000"


@lru_cache(maxsize=1024)
def trustworthy_hello(name: str) -> str:
    """The hello as it may stand in a header: a domain or a literal; "" for anything else."""
    try:
        return parse_domain(name)
    except AddressError:
        return ""


def protocol_keyword(*, esmtp: bool, tls: bool, authenticated: bool, utf8: bool, lmtp: bool = False) -> str:
    """The `with` keyword: RFC 3848 section 2, RFC 6531 section 4.3."""
    if not esmtp:
        return "SMTP"
    base = "LMTP" if lmtp else "SMTP"
    return ("UTF8" + base if utf8 else "LMTP" if lmtp else "ESMTP") + "S" * tls + "A" * authenticated


def literal(client_ip: str) -> str:
    return f"[IPv6:{client_ip}]" if ":" in client_ip else f"[{client_ip}]"


def received_field(
    *,
    hello: str,
    client_ip: str,
    hostname: str,
    protocol: str,
    tls: str,
    identifier: str,
    recipient: str,
    at: float,
) -> bytes:
    """`tls` is "TLSv1.3 CIPHER" or ""; `recipient` is given only when there is one (nobody learns of a Bcc from it)."""
    name = trustworthy_hello(hello)
    if not client_ip:
        source = name or "localhost"
    elif name:
        source = f"{name} ({literal(client_ip)})"
    else:
        source = literal(client_ip)
    version, _, cipher = tls.partition(" ")
    using = f"\r\n\t(using {version} with cipher {cipher})" if tls else ""
    receiver = f"\r\n\tfor <{recipient}>" if recipient else ""
    date = format_date(int(at))
    text = (
        f"Received: from {source}{using}\r\n\tby {hostname} with {protocol} id {identifier}{receiver};\r\n\t{date}\r\n"
    )
    return text.encode("utf-8")


def count_received(header: bytes) -> int:
    """How many hops a message has behind it."""
    folded = header.lower()
    return folded.count(b"\nreceived:") + folded.startswith(b"received:")
