"""The configuration held against the machine and against good practice: what `mta config check` says beyond the model.

Nothing is opened for writing, made or mended here. Every check runs, whatever the others found.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
from contextlib import suppress
from datetime import UTC, datetime

from mta.config.certificates import check_certificates
from mta.config.credentials import check_credentials
from mta.config.files import (
    DAEMON_USER,
    check_directory,
    check_local,
    check_parent,
    check_readable,
    check_secret,
    check_socket,
)
from mta.config.findings import Findings
from mta.config.listening import check_endpoints, check_listeners
from mta.config.model import Configuration
from mta.config.name_server import parse_name_server
from mta.config.positions import KeyPath, Positions
from mta.config.problem import Problem
from mta.config.ways import check_routes

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_WIDEST_PREFIX = {4: 8, 6: 16}  # no organisation relays for more
_IN_ORDER = (  # each pair: the first, where it is written, must not be larger
    ("limits", "header_field_size", "header_size"),
    ("limits", "header_size", "message_size"),
    ("limits", "soft_errors", "hard_errors"),
    ("limits", "stress_timeout", "command_timeout"),
    ("limits", "command_timeout", "session_timeout"),
    ("queue", "retry_min", "retry_max"),
    ("queue", "retry_max", "lifetime"),
    ("queue", "delay_report_after", "lifetime"),
)
_ASKED_FOR = (
    ("limits", "command_timeout", 300, "seconds, the least that RFC 5321 section 4.5.3.2.7 asks for"),
    ("limits", "message_size", 65536, "octets, the least that RFC 5321 section 4.5.3.1.7 asks for"),
    ("queue", "lifetime", 86400, "seconds, a day: a host that is down over night would lose its mail"),
)


def check(configuration: Configuration, positions: Positions, *, now: datetime | None = None) -> list[Problem]:
    """All problems, in no order. `now` (with a time zone) is what certificates are held against; default: the clock's."""
    findings = Findings(positions)
    owners = _trusted_owners(configuration)
    bound = check_endpoints(configuration, findings)
    check_listeners(configuration, findings)
    check_certificates(configuration, findings, now or datetime.now(UTC), owners)
    _check_logins(configuration, findings, owners)
    check_routes(configuration, bound, findings)
    check_credentials(configuration, findings, owners)
    _check_relaying(configuration, findings)
    _check_name_servers(configuration, findings)
    _check_numbers(configuration, findings)
    _check_places(configuration, findings)
    return findings.problems


def _trusted_owners(configuration: Configuration) -> frozenset[int]:
    """Who may own a secret beside root and this process: seen by root, the user of the daemon and the spool's owner."""
    if os.geteuid() != 0:
        return frozenset()
    owners = set()
    with suppress(KeyError):
        owners.add(pwd.getpwnam(DAEMON_USER).pw_uid)
    with suppress(OSError):
        owners.add(configuration.spool.path.stat().st_uid)
    return frozenset(owners)


def _check_logins(configuration: Configuration, findings: Findings, owners: frozenset[int]) -> None:
    auth = configuration.auth
    if not auth.backend and "mechanisms" in auth.model_fields_set and auth.mechanisms:
        hint = 'add [[auth.backend]] with kind = "users" and a path'
        findings.add("E401", ("auth", "mechanisms"), "there is no password store that could check a login", hint)
    for index, name in enumerate(auth.mechanisms):
        if name in auth.mechanisms[:index]:
            findings.add("W405", ("auth", "mechanisms", index), f"{name} is named twice")
    for index, backend in enumerate(auth.backend):
        key: KeyPath = ("auth", "backend", index, "path")
        if backend.path in [each.path for each in auth.backend[:index]]:
            findings.add("W405", key, f"{backend.path} is named twice")
        if os.path.isdir(backend.path):
            findings.add("E306", key, f"{backend.path} is a directory", "name a file in it")
        elif not os.path.lexists(backend.path):
            findings.add("W404", key, f"{backend.path} does not exist: nobody can log in yet", "mta user add NAME")
        else:
            findings.take(check_secret(backend.path, owners=owners), key)
            findings.take(check_readable(backend.path), key)
    for index, admin in enumerate(configuration.control.admins):
        if isinstance(admin, str):
            try:
                pwd.getpwnam(admin)
            except (KeyError, ValueError):
                findings.add("E406", ("control", "admins", index), f"{admin!r} is no user of this system")


def _check_relaying(configuration: Configuration, findings: Findings) -> None:
    for index, network in enumerate(configuration.relay_networks):
        key: KeyPath = ("relay_networks", index)
        if network.prefixlen < _WIDEST_PREFIX[network.version]:
            message = f"{network} is the internet or much of it: strangers may relay through this host"
            findings.add("W601", key, message, "name your own networks")
        elif any(network.version == own.version and network.overlaps(own) for own in _LOOPBACK):
            message = f"{network} holds loopback: who comes through a proxy or tunnel on this machine may relay"
            findings.add("W602", key, message, "leave it out where stunnel, ssh or a web server can be made to connect")


def _check_name_servers(configuration: Configuration, findings: Findings) -> None:
    table = configuration.dns
    servers = [parse_name_server(text) for text in table.servers]
    addresses = [ipaddress.ip_address(address.partition("%")[0]) for address, _ in servers]
    for index, server in enumerate(servers):
        if server in servers[:index]:
            findings.add("W902", ("dns", "servers", index), f"{table.servers[index]} is named twice")
    for index, network in enumerate(table.trusted):
        key: KeyPath = ("dns", "trusted", index)
        if network.prefixlen < _WIDEST_PREFIX[network.version]:
            message = f"{network} is the internet or much of it: anybody may vouch for forged answers"
            findings.add("W901", key, message, "name your own name servers")
        elif servers and not any(each.version == network.version and each in network for each in addresses):
            findings.add("W902", key, f"none of dns.servers is in {network}: without effect")


def _check_numbers(configuration: Configuration, findings: Findings) -> None:
    for table, smaller, larger in _IN_ORDER:
        section = getattr(configuration, table)
        low, high = getattr(section, smaller), getattr(section, larger)
        if low > high and smaller in section.model_fields_set:
            findings.add("E701", (table, smaller), f"{low:.15g} is larger than {larger}, which is {high:.15g}")
    for table, name, least, reason in _ASKED_FOR:
        value = getattr(getattr(configuration, table), name)
        if value < least:
            findings.add("W702", (table, name), f"{value:.15g} is below {least} {reason}")


def _check_places(configuration: Configuration, findings: Findings) -> None:
    spool = configuration.spool.path
    if not findings.take(check_directory(spool), ("spool", "path")):
        findings.take(check_local(spool), ("spool", "path"))
    socket = configuration.control.socket
    if not findings.take(check_socket(socket), ("control", "socket")):
        findings.take(check_parent(socket), ("control", "socket"))
    if not isinstance(configuration.log.path, str):
        if os.path.isdir(configuration.log.path):
            findings.add("E306", ("log", "path"), f"{configuration.log.path} is a directory", "name a file in it")
        else:
            findings.take(check_parent(configuration.log.path), ("log", "path"))
