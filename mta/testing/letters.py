"""Messages, recipients and jobs for tests, made of little."""

from __future__ import annotations

from typing import Any

from mta.delivery.agent import Job
from mta.mail.address import NULL_PATH, parse_address
from mta.mail.envelope import BodyFile, Content, Kind, Message, Notify, Recipient, State

HEADER = b"From: <sender@example.org>\r\nSubject: hello\r\n"
BODY = b"A line.\r\n.dots.\r\nThe end.\r\n"


def message(sender: str = "sender@example.org", **fields: Any) -> Message:
    """`sender` "" is the null reverse-path."""
    path = parse_address(sender, utf8=True) if sender else NULL_PATH
    given: dict[str, Any] = {
        "id": 1,
        "kind": Kind.RELAY,
        "received_at": 0.0,
        "expires_at": 5 * 86400.0,
        "size": 0,
    } | fields
    return Message(reverse_path=path, **given)


def recipient(number: int, address: str, destination: str = "", **fields: Any) -> Recipient:
    given: dict[str, Any] = {
        "message": 1, "parent": 0, "original": address, "orcpt": "", "notify": Notify.UNSET, "reverse_path": None,
        "state": State.QUEUED, "held": False, "uncertain": False, "priority": 0, "route_generation": 1,
        "next_attempt": 0.0, "attempts": 0, "delay_reported_at": 0.0, "last_code": 0, "last_status": "", "last_text": "",
        "owner": 1, "lease_until": 0.0, "token": 1,
    }  # fmt: skip
    return Recipient(id=number, address=parse_address(address, utf8=True), destination=destination, **(given | fields))


def job(
    destination: str,
    *addresses: str,
    sender: str = "sender@example.org",
    header: bytes = HEADER,
    body: bytes | BodyFile = BODY,
    **fields: Any,
) -> Job:
    """Recipients have the IDs 1, 2, ... in the order given. `fields` are the message's."""
    content = Content(header, body)
    recipients = tuple(recipient(number, address, destination) for number, address in enumerate(addresses, 1))
    return Job(message(sender, size=content.size, **fields), recipients, content, destination)
