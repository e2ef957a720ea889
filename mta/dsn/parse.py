"""Reads delivery status notifications, ours and others': RFC 3464, its UTF-8 forms (RFC 6533), and what real mailers make of them. Pure.

What comes from the wire is data: every text is printable, on one line and bounded; work is linear in LOOKED_AT_OCTETS. Raises NoReport and
nothing else. What a report says is somebody's claim: nothing here asks whether it is true.

Real ones that are read: fields of the message and of recipients in one group, groups without an empty line between, types left out,
addresses in angle brackets, comments, `message/delivery-status` in base64, reports wrapped in other multiparts, and those of mailers that
only name X-Failed-Recipients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from email.utils import mktime_tz, parsedate_tz
from itertools import islice

from mta.dsn.charset import decode
from mta.dsn.parts import Part, header_fields, leaves, split, top_fields, with_lf
from mta.dsn.report import Action
from mta.mail.envelope import value
from mta.smtp.xtext import decode_utf8_xtext

RECIPIENTS_MAX = 5_000
HUMAN_CHARACTERS_MAX = 20_000

_STATUS_PARTS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_WHOLE = frozenset({"message/rfc822", "message/global"})
_HEADERS = frozenset({"text/rfc822-headers", "message/global-headers"})
_OF_MESSAGE = frozenset(
    {"reporting-mta", "arrival-date", "received-from-mta", "original-envelope-id", "dsn-gateway"}
)  # RFC 3464 section 2.2
_OF_RECIPIENT = frozenset({"final-recipient", "original-recipient", "action", "status"})  # section 2.3
_STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])")
_TYPE = re.compile(r"\s*([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,50})\s*;\s*(.*)", re.DOTALL)
_ACTIONS = {action.value: action for action in Action}
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

Fields = tuple[tuple[str, str], ...]


class NoReport(ValueError):
    """It is no delivery status notification that could be read."""


@value
class Typed:
    """`type; text` of RFC 3464: an address, a host or a diagnostic. `kind` is lower case, "" when it was left out."""

    kind: str = ""
    text: str = ""


@value
class RecipientReport:
    """What is said of one recipient. Fields that were not there, or mean nothing, are empty; times are seconds, 0 for none."""

    final: Typed = Typed()
    original: Typed = Typed()
    action: Action | None = None
    status: str = ""  # RFC 3463
    remote_mta: Typed = Typed()
    diagnostic: Typed = Typed()
    last_attempt_at: float = 0.0
    will_retry_until: float = 0.0
    final_log_id: str = ""
    fields: Fields = ()  # all, as they came

    @property
    def address(self) -> str:
        """As the sender knows it, as far as the report tells."""
        return self.original.text or self.final.text


@value
class Report:
    """What a report says."""

    recipients: tuple[RecipientReport, ...]
    reporting_mta: Typed = Typed()
    received_from_mta: Typed = Typed()
    envelope_id: str = ""
    arrived_at: float = 0.0
    fields: Fields = ()  # of the message, as they came
    human: str = ""  # with LF ends of line
    returned: str = ""  # "message", "header", or "" when nothing came back
    original_header: bytes = b""  # of the message that is reported on, with CRLF; as much as came

    @property
    def original_message_id(self) -> str:
        return next((text for name, text in header_fields(with_lf(self.original_header)) if name == "message-id"), "")


def parse_report(octets: bytes) -> Report:
    """A whole message, as it was received. Raises NoReport."""
    text = with_lf(octets)
    parts = list(leaves(text))
    for index, part in enumerate(parts):
        if part.kind in _STATUS_PARTS:
            return _read(part.body(), parts[:index], parts[index + 1 :])
    return _without_status_part(top_fields(text), parts)


def _read(status: bytes, before: Sequence[Part], after: Sequence[Part]) -> Report:
    of_message: list[tuple[str, str]] = []
    recipients: list[RecipientReport] = []
    for fields in islice(_groups(status, of_message), RECIPIENTS_MAX):
        recipients.append(_recipient(fields))
    if not recipients:
        raise NoReport("it speaks of no recipient")
    returned, header = _returned(after)
    first = _firsts(of_message)
    return Report(
        recipients=tuple(recipients),
        reporting_mta=_typed(first.get("reporting-mta", "")),
        received_from_mta=_typed(first.get("received-from-mta", "")),
        envelope_id=first.get("original-envelope-id", ""),
        arrived_at=_time(first.get("arrival-date", "")),
        fields=tuple(of_message),
        human=_human(before),
        returned=returned,
        original_header=header,
    )


def _groups(status: bytes, of_message: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The fields of each recipient; those of the message go to `of_message`, wherever they stand."""
    for number, group in enumerate(re.split(rb"\n[ \t]*(?:\n[ \t]*)+", status.strip(b"\n"))):
        fields = header_fields(group)
        speaks_of_one = any(name in _OF_RECIPIENT for name, _ in fields)
        own: list[tuple[str, str]] = []
        for name, text in fields:
            if name in _OF_MESSAGE or (not number and not speaks_of_one):
                of_message.append((name, text))
                continue
            if name in _OF_RECIPIENT and any(name == each for each, _ in own):  # the empty line is missing
                yield own
                own = []
            own.append((name, text))
        if any(name in _OF_RECIPIENT for name, _ in own):
            yield own


def _recipient(fields: Sequence[tuple[str, str]]) -> RecipientReport:
    first = _firsts(fields)
    status = _STATUS.search(first.get("status", ""))
    return RecipientReport(
        final=_address(first.get("final-recipient", "")),
        original=_address(first.get("original-recipient", "")),
        action=_ACTIONS.get(re.split(r"[\s(;,]", first.get("action", "").lower(), maxsplit=1)[0]),
        status=status[0] if status is not None else "",
        remote_mta=_typed(first.get("remote-mta", "")),
        diagnostic=_typed(first.get("diagnostic-code", "")),
        last_attempt_at=_time(first.get("last-attempt-date", "")),
        will_retry_until=_time(first.get("will-retry-until", "")),
        final_log_id=first.get("final-log-id", ""),
        fields=tuple(fields),
    )


def _firsts(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    first: dict[str, str] = {}
    for name, text in fields:
        first.setdefault(name, text)
    return first


def _typed(text: str) -> Typed:
    hit = _TYPE.fullmatch(text)
    return Typed(hit[1].lower(), hit[2].strip()) if hit is not None else Typed("", text.strip())


def _address(text: str) -> Typed:
    typed = _typed(text)
    address = typed.text
    if address.startswith("<") and ">" in address:
        address = address[1 : address.rindex(">")]
    if typed.kind == "utf-8":  # RFC 6533 section 3
        address = _CONTROLS.sub(" ", decode_utf8_xtext(address))
    return Typed(typed.kind, address)


def _time(text: str) -> float:
    try:
        parsed = parsedate_tz(text[:100])
        return float(mktime_tz(parsed)) if parsed is not None else 0.0
    except (ValueError, OverflowError, TypeError, IndexError):  # a month 13, a year 10**9
        return 0.0


def _human(parts: Sequence[Part]) -> str:
    for part in parts:
        if part.kind == "text/plain":
            return _text(part)
    return ""


def _text(part: Part) -> str:
    return decode(part.body()[: 4 * HUMAN_CHARACTERS_MAX], part.charset)[:HUMAN_CHARACTERS_MAX]


def _returned(parts: Sequence[Part]) -> tuple[str, bytes]:
    for part in parts:
        if part.kind in _WHOLE or part.kind in _HEADERS:
            header = split(part.body())[0].replace(b"\n", b"\r\n")
            return ("message" if part.kind in _WHOLE else "header"), header
    return "", b""


def _without_status_part(fields: Fields, parts: Sequence[Part]) -> Report:
    """Of mailers that only name the addresses. Raises NoReport when none is named."""
    named = next((text for name, text in fields if name == "x-failed-recipients"), "")
    addresses = [each.strip() for each in named.split(",") if "@" in each][:RECIPIENTS_MAX]
    if not addresses:
        raise NoReport("it has no part that is a delivery status, and names no recipient that failed")
    returned, header = _returned(parts)
    recipients = tuple(RecipientReport(final=Typed("rfc822", each), action=Action.FAILED) for each in addresses)
    return Report(recipients, human=_human(parts), returned=returned, original_header=header)
