"""The way out that a route names, its text understood: for the check of the file and for the router.

maildir:/var/mail/{domain}/{local}    final delivery; {domain} and {local} are filled in by the delivery agent
discard                               taken and thrown away, by the name of the route
smtp:[host]:port                      that host, no MX; port 25 when none is given; IPv6: smtp:[2001:db8::1]:25
smtps:[host]:port                     the same with TLS at once (RFC 8314); port 465 when none is given
mx                                    the MX of the recipient's domain
error:5.1.1 text                      refused at RCPT; 4.x.x for a temporary refusal
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass

from mta.mail.address import AddressError, parse_domain
from mta.mail.reply import Reply

TLS_MARK = ";tls="  # in the key of a next hop, before the level that its route asks for
_SMTP = re.compile(r"\[([^\[\]\s]+)\](?::(\d{1,5}))?")
_ERROR = re.compile(r"([45])\.(\d{1,3})\.(\d{1,3})(?:\s+(.*))?", re.DOTALL)
_SMTP_HINT = 'such as "smtp:[smart.example.org]:587"'
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class ViaError(ValueError):
    """The text names no way out; the message says why, `hint` what would do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Way(enum.Enum):
    MAILDIR = "maildir"
    DISCARD = "discard"
    SMTP = "smtp"  # smtps too
    MX = "mx"
    ERROR = "error"

    @property
    def is_local(self) -> bool:
        """The mail ends here: no further hop."""
        return self is Way.MAILDIR or self is Way.DISCARD


@dataclass(frozen=True, slots=True)
class Via:
    way: Way
    target: str = ""  # "maildir:..." or "smtp:[host]:port", complete: the key of the next hop
    suffix: str = ""  # of mx: what follows the domain in the key
    reply: Reply | None = None  # of error:


def parse_via(text: str, tls: str | None = None) -> Via:
    """`tls`: the level of the route, None for the default (may). Raises ViaError."""
    scheme, _, rest = text.partition(":")
    match scheme:
        case "maildir":
            return Via(Way.MAILDIR, f"maildir:{_template(rest)}")
        case "discard" if text == "discard":
            return Via(Way.DISCARD)
        case "mx" if text == "mx":
            return Via(Way.MX, suffix=_tls_suffix(tls, "may"))
        case "smtp":
            return Via(Way.SMTP, f"smtp:{_host_and_port(rest, 25)}{_tls_suffix(tls, 'may')}")
        case "smtps":
            return Via(Way.SMTP, f"smtps:{_host_and_port(rest, 465)}{_tls_suffix(tls, 'encrypt')}")
        case "error":
            return Via(Way.ERROR, reply=_refusal(rest))
    raise ViaError(f"{text!r} is no way out", "known are maildir:, smtp:[host]:port, smtps:, mx, discard and error:")


def _template(path: str) -> str:
    if not path:
        raise ViaError("maildir: needs a path", 'such as "maildir:/var/mail/{domain}/{local}"')
    for name in _PLACEHOLDER.findall(path):
        if name not in {"domain", "local"}:
            raise ViaError(f"{{{name}}} is unknown", "a path may hold {domain} and {local}")
    return path


def _tls_suffix(tls: str | None, default: str) -> str:
    """Keys are stored and compared: the default is never written."""
    return "" if tls is None or tls == default else f"{TLS_MARK}{tls}"


def _host_and_port(text: str, default: int) -> str:
    hit = _SMTP.fullmatch(text)
    if hit is None:
        raise ViaError("smtp: needs a host in brackets, and may have a port", _SMTP_HINT)
    port = int(hit[2] or default)
    if not 1 <= port <= 65535:
        raise ViaError(f"{hit[2]} is no port", _SMTP_HINT)
    return f"[{parse_host(hit[1])}]:{port}"


def parse_host(text: str) -> str:
    """A host name or an address, in the one form in which hosts are compared. Raises ViaError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return parse_domain(text, utf8=True)
    except AddressError as error:
        raise ViaError(f"{text!r} is no host: {error}", _SMTP_HINT) from error


def _refusal(text: str) -> Reply:
    hit = _ERROR.fullmatch(text.strip())
    if hit is None:
        hint = 'such as "error:5.1.1 No such user"'
        raise ViaError("error: needs a status code that begins with 4 or 5, and a text", hint)
    permanent = hit[1] == "5"
    words = " ".join((hit[4] or "").split()) or ("Refused" if permanent else "Try again later")
    # RFC 3463 says no more than the class; 550 and 450 speak of a mailbox (RFC 5321 section 4.2.3).
    return Reply(550 if permanent else 450, f"{hit[1]}.{hit[2]}.{hit[3]}", words)
