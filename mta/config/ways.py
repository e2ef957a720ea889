"""Routes, looked at before mail takes them: can `via` be understood, is each route reached, does one relay for the world?"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path

from mta.config.endpoints import Endpoint
from mta.config.findings import Findings
from mta.config.model import Configuration, Route
from mta.config.positions import KeyPath
from mta.config.via import ViaError, parse_via

_SMTP = re.compile(r"(smtps?):\[([^\[\]\s]+)\](?::(\d{1,5}))?")


def check_routes(configuration: Configuration, bound: list[Endpoint], findings: Findings) -> None:
    """`bound`: where this configuration listens."""
    for index, route in enumerate(configuration.route):
        key: KeyPath = ("route", index)
        try:
            parse_via(route.via)
        except ViaError as error:
            findings.add("E501", (*key, "via"), str(error), error.hint)
        else:
            _check_openness(route, key, findings)
            _check_tls(route, key, findings)
        _check_recipients(configuration, route, key, findings)
        _check_circle(configuration, route, key, bound, findings)
    _check_order(configuration.route, findings)


def _check_recipients(configuration: Configuration, route: Route, key: KeyPath, findings: Findings) -> None:
    if route.via.startswith("error:"):
        for name in sorted({"recipients", "accept"} & route.model_fields_set):
            findings.add("W510", (*key, name), f"{name} is without effect: the route refuses everybody")
        return
    if route.recipients == "users" and not any(backend.kind == "users" for backend in configuration.auth.backend):
        hint = 'add [[auth.backend]] with kind = "users" and a path'
        findings.add("E503", (*key, "recipients"), "there is no password store that knows users", hint)
    if route.recipients.startswith("table:"):
        path = Path(route.recipients.removeprefix("table:"))
        if not os.path.isfile(path):
            findings.add("E504", (*key, "recipients"), f"the table {path} is missing or no file")
        elif not os.access(path, os.R_OK, effective_ids=True):
            findings.add("E504", (*key, "recipients"), f"the table {path} can't be read by this user")


def _check_openness(route: Route, key: KeyPath, findings: Findings) -> None:
    is_relay = route.via == "mx" or route.via.startswith(("smtp:", "smtps:"))
    if route.accept == "all" and is_relay and "*" in route.domains and route.recipients == "any":
        hint = "leave accept out: then only the authenticated and relay_networks may use it"
        findings.add(
            "E505", (*key, "accept"), "everybody may send to everywhere through this host: an open relay", hint
        )
    if route.via.startswith("maildir:"):
        if "{local}" not in route.via:
            findings.add("E502", (*key, "via"), "the path holds no {local}: everybody's mail would lie in one box")
        elif route.recipients == "any" and route.accept != "authorized":
            message = "every local part is taken, so anybody can have any number of mailboxes made"
            findings.add("W508", (*key, "recipients"), message, 'say who exists: recipients = "users" or "table:/path"')


def _check_tls(route: Route, key: KeyPath, findings: Findings) -> None:
    if route.tls is None:
        return
    if route.via != "mx" and not route.via.startswith(("smtp:", "smtps:")):
        findings.add("W510", (*key, "tls"), "tls is without effect: the route has no next hop")
    elif route.via.startswith("smtps:") and route.tls in {"none", "may"}:
        message = f'tls = "{route.tls}" is without effect: smtps: always begins with TLS'
        findings.add(
            "W510", (*key, "tls"), message, 'encrypt (the default) or verify; for STARTTLS write "smtp:[host]:587"'
        )


def _check_circle(
    configuration: Configuration, route: Route, key: KeyPath, bound: list[Endpoint], findings: Findings
) -> None:
    hit = _SMTP.fullmatch(route.via)
    if hit is None:
        return
    host, port = hit[2].lower(), int(hit[3] or (465 if hit[1] == "smtps" else 25))
    for endpoint in bound:
        if endpoint.port == port and _is_here(host, endpoint, configuration.hostname):
            hint = "name the host behind this one"
            findings.add("E509", (*key, "via"), f"{host} port {port} is a listener of this configuration", hint)
            return


def _is_here(host: str, endpoint: Endpoint, hostname: str) -> bool:
    """Is `host` an address of this endpoint, as far as the configuration tells?"""
    if host in {hostname, "localhost"}:
        return not endpoint.host or host == hostname or endpoint.host in {"127.0.0.1", "::1"}
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    family = "tcp" if address.version == 4 else "tcp6"
    if endpoint.kind != family:
        return False
    return endpoint.host == str(address) or (not endpoint.host and address.is_loopback)


def _check_order(routes: list[Route], findings: Findings) -> None:
    """The first route that fits decides: what comes behind one that fits more is never reached."""
    seen: dict[str, int] = {}
    for index, route in enumerate(routes):
        for position, pattern in enumerate(route.domains):
            earlier = _covering(pattern, seen)
            if earlier is not None:
                key: KeyPath = ("route", index, "domains", position)
                message = f"{pattern} is never reached: {earlier} stands in route {seen[earlier] + 1}"
                findings.add("W507", key, message, "the first route that fits decides: put the narrower one first")
            seen.setdefault(pattern, index)
    if "*" not in seen:
        hint = 'for a relay or submission server add a last route with domains = ["*"] and via = "mx"'
        findings.add("W506", ("route",), 'no route has the domain "*": mail for elsewhere is refused', hint)


def _covering(pattern: str, seen: dict[str, int]) -> str | None:
    labels = pattern.lstrip(".").split(".")
    wider = ["." + ".".join(labels[start:]) for start in range(1, len(labels))]
    return next((each for each in (pattern, "*", *wider) if each in seen), None)
