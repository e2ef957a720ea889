"""Delivery status notifications as the sender's mail program reads them: by Python's email package, which is not ours."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import EmailMessage
from typing import cast


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """One group of message/delivery-status (RFC 3464 section 2.3)."""

    address: str
    action: str  # failed, delayed, delivered, relayed, expanded
    status: str
    diagnostic: str
    original: str


@dataclass(frozen=True, slots=True)
class ReadReport:
    """`returned`: the content or the header that came back."""

    to: str
    message_id: str
    reporting: str
    envelope_id: str
    recipients: tuple[ReportedRecipient, ...]
    returned_type: str
    returned: bytes
    text: str
    raw: bytes

    @property
    def fates(self) -> dict[str, tuple[str, str]]:
        """Address → (action, status)."""
        return {each.address: (each.action, each.status) for each in self.recipients}


def read_report(octets: bytes) -> ReadReport | None:
    """None: it is none."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    if message.get_content_type() != "multipart/report" or message.get_param("report-type") != "delivery-status":
        return None
    parts = list(message.iter_parts())
    groups = cast(list[EmailMessage], parts[1].get_payload())
    return ReadReport(
        to=str(message["To"]),
        message_id=str(message["Message-ID"]),
        reporting=_value(groups[0], "Reporting-MTA"),
        envelope_id=str(groups[0].get("Original-Envelope-Id", "")),
        recipients=tuple(_recipient(group) for group in groups[1:] if "Action" in group),
        returned_type=parts[2].get_content_type() if len(parts) > 2 else "",
        returned=parts[2].as_bytes() if len(parts) > 2 else b"",
        text=parts[0].get_content(),
        raw=octets,
    )


def reports_in(mailbox: Iterable[bytes]) -> list[ReadReport]:
    """The reports among the messages of a mailbox, in its order."""
    return [report for report in map(read_report, mailbox) if report is not None]


def _recipient(group: EmailMessage) -> ReportedRecipient:
    return ReportedRecipient(
        address=_value(group, "Final-Recipient"),
        action=str(group["Action"]),
        status=str(group["Status"]).split()[0],
        diagnostic=_value(group, "Diagnostic-Code"),
        original=_value(group, "Original-Recipient"),
    )


def _value(group: EmailMessage, field: str) -> str:
    """Behind the type: "rfc822; alice@example.net"."""
    return " ".join(str(group.get(field, "")).partition(";")[2].split())
