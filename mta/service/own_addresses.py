"""The addresses at which this host is reached, so that mail whose MX is one of them is known to go in a circle.

They are those of the machine's interfaces (asked of the kernel by rtnetlink(7), which needs no privilege) and those that listeners
name. What lies in front of the machine (NAT, a load balancer) can't be seen from here: outbound.own_addresses tells it.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator

from twisted.logger import Logger

from mta.config.endpoints import parse_endpoint
from mta.config.model import Configuration
from mta.mail.address import normalise_peer

LOOK_SECONDS = 60.0  # an address may come and go (DHCP, a failover)

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, interface
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_GET_ADDRESS, _NEW_ADDRESS, _ERROR, _DONE = 22, 20, 2, 3
_REQUEST_ALL = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_log = Logger()


class OwnAddresses:
    """Called, it gives the addresses there are now, normalised. `configuration` gives the one in force; `seconds` is monotonic."""

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        seconds: Callable[[], float],
        interfaces: Callable[[], frozenset[str]] | None = None,
    ) -> None:
        self._configuration = configuration
        self._seconds = seconds
        self._interfaces = interfaces or addresses_of_interfaces
        self._looked_at = float("-inf")
        self._warned = False
        self._of: Configuration | None = None
        self._found: frozenset[str] = frozenset()

    def __call__(self) -> frozenset[str]:
        configuration, now = self._configuration(), self._seconds()
        if configuration is not self._of or now - self._looked_at >= LOOK_SECONDS:
            self._of, self._looked_at = configuration, now
            try:
                self._found = self._interfaces() | addresses_of_listeners(configuration)
                self._warned = False
            except OSError as error:  # what was known is still the best guess
                self._found |= addresses_of_listeners(configuration)
                if not self._warned:
                    _log.warn("the addresses of this machine can't be asked for: {error}", error=error)
                self._warned = True
        return self._found


def addresses_of_listeners(configuration: Configuration) -> frozenset[str]:
    """Those that listeners bind to by name."""
    endpoints = [parse_endpoint(text) for listener in configuration.listener for text in listener.endpoints]
    return frozenset(normalise_peer(endpoint.host) for endpoint in endpoints if endpoint.host)


def addresses_of_interfaces() -> frozenset[str]:
    """Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(1.0)  # it answers in the call itself; a machine where it does not must not stop us
        size = _HEADER.size + _ADDRESS.size
        kernel.send(_HEADER.pack(size, _GET_ADDRESS, _REQUEST_ALL, 1, 0) + _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        found: set[str] = set()
        while True:
            for kind, body in _messages(kernel.recv(1 << 16)):
                if kind == _DONE:
                    return frozenset(found)
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", body)[0], "rtnetlink refuses")
                if kind == _NEW_ADDRESS:
                    found |= _own(body)


def _messages(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(octets):
        length, kind = _HEADER.unpack_from(octets, at)[:2]
        yield kind, octets[at + _HEADER.size : at + length]
        at += max(-(-length // 4) * 4, _HEADER.size)


def _own(message: bytes) -> set[str]:
    """The address of one message. On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours."""
    attributes: dict[int, bytes] = {}
    at = _ADDRESS.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        attributes[kind] = message[at + _ATTRIBUTE.size : at + length]
        at += max(-(-length // 4) * 4, _ATTRIBUTE.size)
    octets = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
    return {normalise_peer(str(ipaddress.ip_address(octets)))} if len(octets) in {4, 16} else set()
