"""The configuration and the people of the houses that tests build: the same for the engine alone, in memory, and real.

Domain dev.test with its users, everything else by MX; the listeners mx, submission and submissions; nobody relays by network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mta.config.model import Configuration

HOSTNAME = "mail.dev.test"
USERS: Mapping[str, str] = {
    "demo@dev.test": "demo-password",
    "weldon@dev.test": "w3ld0n",  # of the founding documents: AUTH PLAIN, AHdlbGRvbgB3M2xkMG4=
    "other@dev.test": "other-password",
}


def house_configuration(settings: Mapping[str, Any] | None = None) -> Configuration:
    """`settings`: tables laid over the defaults, key by key."""
    tables: dict[str, Any] = {
        "hostname": HOSTNAME,
        "postmaster": "postmaster@dev.test",
        "spool": {"path": "/nonexistent/spool"},
        "tls": {"certificate": "/nonexistent/cert.pem", "private_key": "/nonexistent/key.pem"},
        "listener": [
            {"name": "mx", "endpoints": ["tcp:25"], "kind": "mx"},
            {"name": "submission", "endpoints": ["tcp:587"], "kind": "submission"},
            {"name": "submissions", "endpoints": ["tcp:465"], "kind": "submission", "tls": "implicit"},
            {"name": "normalizing", "endpoints": ["tcp:26"], "kind": "mx", "bare_newline": "normalize"},
            {"name": "plain", "endpoints": ["tcp:27"], "kind": "mx", "tls": "none"},
        ],
        "auth": {
            "mechanisms": ["SCRAM-SHA-256", "PLAIN", "LOGIN"],
            "backend": [{"kind": "users", "path": "/nonexistent/users.db"}],
        },
        "route": [
            {"domains": ["dev.test"], "recipients": "users", "via": "maildir:/nonexistent/mail/{domain}/{local}"},
            {"domains": ["*"], "via": "mx"},
        ],
    }
    _lay(tables, settings or {})
    return Configuration.model_validate(tables)


def _lay(tables: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(tables.get(key), dict):
            _lay(tables[key], value)
        else:
            tables[key] = value
