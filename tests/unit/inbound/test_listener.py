"""What a listener's section of the configuration means for its sessions."""

from __future__ import annotations

from typing import Any

import pytest

from mta.inbound.listener import Listener, make_listener
from mta.testing.house import house_configuration

TLS: Any = object()


class Logins:
    def offered(self, *, tls: bool) -> tuple[str, ...]:
        return ("PLAIN",) if tls else ("SCRAM-SHA-256",)


LOGINS: Any = Logins()


def listener(section: dict[str, Any], *, tls: Any = TLS, logins: Any = LOGINS, **limits: Any) -> Listener:
    configuration = house_configuration(
        {"listener": [{"name": "x", "endpoints": ["tcp:25"], **section}], "limits": limits}
    )
    return make_listener(configuration.listener[0], configuration, authenticator=logins, tls=tls)


def test_mx_is_for_strangers() -> None:
    made = listener({"kind": "mx"})
    assert not made.submission
    assert not made.profile.auth
    assert made.mechanisms(over_tls=True) == ()
    assert made.profile.starttls
    assert made.profile.text_line_limit == 65535
    assert made.greeting.wire == b"220 mail.dev.test ESMTP\r\n"
    assert made.helo_reply.wire == b"250 mail.dev.test\r\n"


def test_submission_offers_logins() -> None:
    made = listener({"kind": "submission"})
    assert made.submission
    assert made.profile.auth
    assert made.mechanisms(over_tls=True) == ("PLAIN",)
    assert made.mechanisms(over_tls=False) == ("SCRAM-SHA-256",)
    assert made.profile.text_line_limit == 998


@pytest.mark.parametrize(
    ("section", "logins", "offered"),
    [
        ({"kind": "mx", "auth": True}, LOGINS, True),
        ({"kind": "submission", "auth": False}, LOGINS, False),
        ({"kind": "submission"}, None, False),
    ],
)
def test_logins_can_be_asked_for_and_declined(section: dict[str, Any], logins: Any, offered: bool) -> None:
    made = listener(section, logins=logins)
    assert made.profile.auth is offered
    assert bool(made.mechanisms(over_tls=True)) is offered


@pytest.mark.parametrize(
    ("tls", "context", "starttls", "implicit"),
    [
        ("starttls", TLS, True, False),
        ("starttls", None, False, False),
        ("implicit", TLS, False, True),
        ("none", TLS, False, False),
    ],
)
def test_tls(tls: str, context: Any, starttls: bool, implicit: bool) -> None:
    made = listener({"kind": "mx", "tls": tls}, tls=context)
    assert (made.profile.starttls, made.implicit_tls) == (starttls, implicit)
    assert (made.tls is not None) is (starttls or implicit)


def test_limits_come_from_the_configuration() -> None:
    made = listener(
        {"kind": "mx", "size_limit": "1KiB", "bare_newline": "normalize"},
        message_size=5000, recipients=123, messages=7, soft_errors=3, hard_errors=4, junk_commands=5, command_line=600,
    )  # fmt: skip
    profile = made.profile
    assert profile.size_limit == 1024
    assert (profile.recipients_limit, profile.messages_limit) == (123, 7)
    assert (profile.soft_errors, profile.hard_errors, profile.junk_limit) == (3, 4, 5)
    assert profile.command_line_limit == 600
    assert profile.normalize
    assert listener({"kind": "mx"}, message_size=5000).profile.size_limit == 5000
