"""Listeners, looked at before they listen: where they bind, whether two want one port, whether TLS and logins can work there."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from mta.config.endpoints import Endpoint, EndpointError, parse_endpoint
from mta.config.files import check_parent, check_socket
from mta.config.findings import Findings
from mta.config.model import Configuration, Listener
from mta.config.positions import KeyPath

PLAINTEXT_MECHANISMS = frozenset({"PLAIN", "LOGIN"})


def check_endpoints(configuration: Configuration, findings: Findings) -> list[Endpoint]:
    """What listeners bind to. Complains of texts that can't be understood and of ports taken twice."""
    written: list[tuple[KeyPath, str, str]] = [
        (("listener", index, "endpoints", position), text, f"listener {listener.name}")
        for index, listener in enumerate(configuration.listener)
        for position, text in enumerate(listener.endpoints)
    ]
    listeners = len(written)
    if configuration.metrics.endpoint:
        written.append((("metrics", "endpoint"), configuration.metrics.endpoint, "the metrics"))
    bound: list[tuple[Endpoint, str]] = []
    result = []
    for number, (key, text, who) in enumerate(written):
        try:
            endpoint = parse_endpoint(text)
        except EndpointError as error:
            findings.add("E105" if error.understood else "E101", key, str(error))
            continue
        taken = next((whose for other, whose in bound if endpoint.collides(other)), None)
        if taken is not None:
            findings.add("E103", key, f"{text} is taken already, by {taken}")
        if endpoint.kind == "unix":
            _check_unix(endpoint, key, findings)
        bound.append((endpoint, who))
        if number < listeners:
            result.append(endpoint)
        elif endpoint.kind in {"tcp", "tcp6"} and not _is_loopback(endpoint.host):
            hint = "let them stay on interface=127.0.0.1, or close the port to others"
            findings.add("W801", key, "the metrics can be read from other machines, without a password", hint)
    return result


def _check_unix(endpoint: Endpoint, key: KeyPath, findings: Findings) -> None:
    path = Path(endpoint.target)
    if not findings.take(check_socket(path), key):
        findings.take(check_parent(path), key)


def _is_loopback(host: str) -> bool:
    return bool(host) and ipaddress.ip_address(host.partition("%")[0]).is_loopback


def check_listeners(configuration: Configuration, findings: Findings) -> None:
    named: set[str] = set()
    for index, listener in enumerate(configuration.listener):
        key: KeyPath = ("listener", index)
        if listener.name in named:
            findings.add(
                "E102", (*key, "name"), f"there is a listener {listener.name} already", "names tell logs apart"
            )
        named.add(listener.name)
        if listener.tls != "none" and configuration.tls.certificate is None:
            hint = 'give [tls] certificate and private_key, or this listener tls = "none"'
            findings.add("E104", (*key, "tls"), f"tls is {listener.tls}, but there is no certificate", hint)
        if listener.bare_newline == "normalize" and listener.normalize_networks:
            message = 'normalize_networks is without effect: bare_newline = "normalize" holds for everybody'
            findings.add("W107", (*key, "normalize_networks"), message)
        _check_login(configuration, listener, key, findings)


def _check_login(configuration: Configuration, listener: Listener, key: KeyPath, findings: Findings) -> None:
    """Can somebody log in here who has to, and is it safe where it happens?"""
    submission = listener.kind == "submission"
    offered = submission if listener.auth is None else listener.auth
    if submission and listener.tls == "none":
        message = "submission without TLS: mail crosses the network in the clear"
        findings.add("W106", (*key, "tls"), message, 'tls = "starttls" or "implicit"')
    if submission and not offered:
        message = "submission needs a login, and auth is false: only relay_networks can send"
        findings.add("W402", (*key, "auth"), message, "leave auth out")
    if not offered:
        return
    if not configuration.auth.backend or not configuration.auth.mechanisms:
        message = f"listener {listener.name} asks for logins, but there is no password store that could check them"
        findings.add("W402", (*key, "auth"), message, 'add [[auth.backend]] with kind = "users" and a path')
    elif listener.tls == "none" and PLAINTEXT_MECHANISMS.issuperset(configuration.auth.mechanisms):
        message = "without TLS a password in the clear is never asked for, and no other mechanism is configured"
        findings.add("E403", (*key, "tls"), message, 'tls = "starttls", or add SCRAM-SHA-256 to auth.mechanisms')
