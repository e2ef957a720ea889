"""Furniture of the scheduler's tests: a configuration, messages, rows."""

from __future__ import annotations

from typing import Any

import pytest

from mta.mail.address import parse_address
from mta.mail.envelope import Content, Kind, Message, Notify, Recipient, State
from mta.scheduler.settlement import SettlementPolicy
from mta.testing.scheduling import scheduled_configuration, scheduled_router

NOW = 1_767_225_600.0
CONTENT = Content(b"From: sender@example.org\r\nSubject: hello\r\n", b"Hi\r\n")


def make_policy(**changes: Any) -> SettlementPolicy:
    identifiers = iter(range(900, 10_000))
    values: dict[str, Any] = {
        "retry_min": 300.0,
        "retry_max": 4000.0,
        "report_lifetime": 172800.0,
        "hold_reports": False,
        "concurrency": 20,
        "hostname": "mail.example.org",
        "postmaster": parse_address("admin@example.org"),
        "generation": 5,
        "router": scheduled_router(),
        "new_id": lambda: next(identifiers),
        "random": lambda: 0.5,
        "owner": 77,
        "lease_seconds": 1000.0,
    }
    return SettlementPolicy(**(values | changes))


def make_message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": 100,
        "kind": Kind.SUBMISSION,
        "reverse_path": parse_address("sender@example.org"),
        "received_at": NOW - 60,
        "expires_at": NOW + 5 * 86400,
        "size": CONTENT.size,
    }
    return Message(**(values | changes))


def make_recipient(identifier: int = 1, **changes: Any) -> Recipient:
    values: dict[str, Any] = {
        "id": identifier,
        "message": 100,
        "parent": 0,
        "address": parse_address(f"r{identifier}@example.net"),
        "original": f"r{identifier}@example.net",
        "orcpt": "",
        "notify": Notify.UNSET,
        "reverse_path": None,
        "state": State.QUEUED,
        "held": False,
        "uncertain": False,
        "priority": 0,
        "destination": "mx:example.net",
        "route_generation": 1,
        "next_attempt": 0.0,
        "attempts": 0,
        "delay_reported_at": 0.0,
        "last_code": 0,
        "last_status": "",
        "last_text": "",
        "owner": 77,
        "lease_until": NOW + 1e9,
        "token": 10 + identifier,
    }
    return Recipient(**(values | changes))


class Make:
    """The makers, for tests (conftest can't be imported by name)."""

    now = NOW
    content = CONTENT
    configuration = staticmethod(scheduled_configuration)
    router = staticmethod(scheduled_router)
    policy = staticmethod(make_policy)
    message = staticmethod(make_message)
    recipient = staticmethod(make_recipient)


@pytest.fixture
def make() -> type[Make]:
    return Make
