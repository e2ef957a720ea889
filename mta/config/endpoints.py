"""Twisted's endpoint strings, understood without Twisted: what a listener binds to is known before a reactor exists.

Taken are those that fit a mail server: tcp, tcp6, unix, systemd. The syntax is Twisted's ("twisted.internet.endpoints"):
arguments between colons, `name=value` for named ones, a backslash before a colon that is meant as such.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_PIECE = re.compile(r"(?:[^:\\]|\\.)*", re.DOTALL)
_NAMED = re.compile(r"((?:[^=\\]|\\.)*)=(.*)", re.DOTALL)

_KNOWN = {  # the names of arguments that each kind takes, the one without a name first
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "interface", "backlog"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
_REFUSED = {
    "ssl": 'TLS is made here, not by the endpoint: write tcp: and tls = "implicit"',
    "tls": 'TLS is made here, not by the endpoint: write tcp: and tls = "implicit"',
    "haproxy": "it believes whatever address any client claims",
    "stdio": "a listener has no standard input",
}


class EndpointError(ValueError):
    """The text is no endpoint. `understood`: it is one, of a kind that can't be used."""

    def __init__(self, message: str, *, understood: bool = False) -> None:
        super().__init__(message)
        self.understood = understood


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to listen at. `host` is "" for every address; `target` is the path of a socket or systemd's name for one."""

    kind: str
    host: str = ""
    port: int = 0
    target: str = ""

    def collides(self, other: Endpoint) -> bool:
        """Can only one of both be bound? tcp6 is V6ONLY, so it never disputes a port with tcp; port 0 is any free one."""
        if self.kind != other.kind:
            return False
        if self.target or other.target:
            return self.target == other.target
        return self.port == other.port != 0 and (self.host == other.host or not self.host or not other.host)


def parse_endpoint(text: str) -> Endpoint:
    """Raises EndpointError."""
    pieces, named = _split(text)
    kind = pieces.pop(0) if pieces else ""
    if kind in _REFUSED:
        raise EndpointError(f"{kind}: endpoints can't be used: {_REFUSED[kind]}", understood=True)
    if kind not in _KNOWN:
        raise EndpointError(f"{text!r} is no endpoint; known are tcp:PORT, tcp6:PORT, unix:PATH and systemd:...")
    first = _KNOWN[kind][0]
    if pieces and kind != "systemd":
        if first in named:
            raise EndpointError(f"{text!r}: {first} is there twice")
        named[first] = pieces.pop(0)
    if pieces:
        raise EndpointError(f"{text!r}: {pieces[0]!r} has no name; {_example(kind)}")
    for name in named:
        if name not in _KNOWN[kind]:
            raise EndpointError(f"{text!r}: {name!r} is unknown; {kind}: takes {', '.join(_KNOWN[kind])}")
    for name in ("backlog", "index"):
        if name in named and not _is_number(named[name]):
            raise EndpointError(f"{text!r}: {name} must be a number")
    match kind:
        case "tcp" | "tcp6":
            return Endpoint(
                kind, _interface(kind, named.get("interface", ""), text), _port(named.get("port", ""), text)
            )
        case "unix":
            return Endpoint(kind, target=_socket_path(named, text))
    return Endpoint(kind, target=_activated(named, text))


def with_absolute_path(text: str, base: str) -> str:
    """A `unix:` endpoint with its path made absolute by `base`, a directory; any other text as it is."""
    kind, colon, rest = text.partition(":")
    hit = _PIECE.match(rest)
    if kind != "unix" or not hit or not hit[0] or hit[0].startswith("/") or _NAMED.fullmatch(hit[0]):
        return text
    return kind + colon + base.replace("\\", r"\\").replace(":", r"\:") + "/" + rest


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    positional: list[str] = []
    named: dict[str, str] = {}
    at = 0
    while True:
        hit = _PIECE.match(text, at)
        end = hit.end() if hit is not None else at
        piece = text[at:end]
        pair = _NAMED.fullmatch(piece)
        if pair is not None:
            named[_plain(pair[1])] = _plain(pair[2])
        else:
            positional.append(_plain(piece))
        if end >= len(text):
            return positional, named
        if text[end] != ":":
            raise EndpointError(f"{text!r} ends in a backslash")
        at = end + 1


def _plain(piece: str) -> str:
    return re.sub(r"\\(.)", r"\1", piece, flags=re.DOTALL)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _port(text: str, endpoint: str) -> int:
    if not _is_number(text) or int(text) > 65535:
        raise EndpointError(
            f"{endpoint!r}: {text!r} is no port (1 to 65535)" if text else f"{endpoint!r} names no port"
        )
    return int(text)


def _interface(kind: str, text: str, endpoint: str) -> str:
    if not text:
        return ""
    address = text.partition("%")[0]
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        raise EndpointError(f"{endpoint!r}: {text!r} is no address of an interface; {_example(kind)}") from None
    if version != (4 if kind == "tcp" else 6):
        raise EndpointError(
            f"{endpoint!r}: {text} is an address of IPv{version}; {_example('tcp6' if version == 6 else 'tcp')}"
        )
    host = str(ipaddress.ip_address(address)) + text[len(address) :]
    return "" if host in {"0.0.0.0", "::"} else host


def _example(kind: str) -> str:
    if kind == "tcp6":
        return r"an address of IPv6 has its colons escaped: 'tcp6:25:interface=2001\:db8\:\:1' (in single quotes)"
    return "write it as tcp:25:interface=192.0.2.1"


def _socket_path(named: dict[str, str], endpoint: str) -> str:
    if not named.get("address"):
        raise EndpointError(f"{endpoint!r} names no path")
    if "mode" in named and not re.fullmatch(r"[0-7]{3,4}", named["mode"]):
        raise EndpointError(f"{endpoint!r}: mode must be octal, such as 660")
    return named["address"]


def _activated(named: dict[str, str], endpoint: str) -> str:
    if named.get("domain") not in {"INET", "INET6", "UNIX"}:
        raise EndpointError(
            f"{endpoint!r}: domain must be INET, INET6 or UNIX; write it as systemd:domain=INET6:name=mx"
        )
    if ("index" in named) == ("name" in named):
        raise EndpointError(f"{endpoint!r}: names either index or name; write it as systemd:domain=INET6:name=mx")
    return f"name {named['name']}" if "name" in named else f"index {int(named['index'])}"
