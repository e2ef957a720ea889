"""What a listener announces to EHLO (RFC 5321 section 4.1.1.1), made once for each TLS state and set of mechanisms.

BINARYMIME is not among them: it needs a transcoder for hops that lack it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mta.mail.reply import Reply


@dataclass(frozen=True, slots=True, eq=False)
class ServerProfile:
    """What one listener's sessions have in common: limits in octets and counts, and what is announced. Shared, immutable.

    Two profiles are equal only when they are one: its hash is taken for each EHLO.
    """

    hostname: str
    size_limit: int = 25 << 20
    header_limit: int = 1 << 20
    command_line_limit: int = 2048
    auth_line_limit: int = 12288  # RFC 4954 section 4
    text_line_limit: int = 65535
    recipients_limit: int = 1000
    messages_limit: int = 1000
    soft_errors: int = 10
    hard_errors: int = 20
    junk_limit: int = 100
    normalize: bool = False  # bare CR and LF in content are mended, not refused
    starttls: bool = False  # can be offered: a certificate exists and TLS is not implicit
    auth: bool = False
    lmtp: bool = False
    etrn: bool = False
    content_window: int = 256 * 1024  # octets of content given on before the adapter grants more


@lru_cache(maxsize=256)
def offered_extensions(profile: ServerProfile, over_tls: bool, mechanisms: tuple[str, ...]) -> frozenset[str]:
    """Their keywords."""
    return frozenset(line.split(" ", 1)[0] for line in _lines(profile, over_tls, mechanisms))


@lru_cache(maxsize=256)
def ehlo_reply(profile: ServerProfile, over_tls: bool, mechanisms: tuple[str, ...]) -> Reply:
    """The whole answer to EHLO."""
    return Reply(250, "", "\n".join([profile.hostname, *_lines(profile, over_tls, mechanisms)]))


def _lines(profile: ServerProfile, over_tls: bool, mechanisms: tuple[str, ...]) -> list[str]:
    lines = [
        "PIPELINING",  # RFC 2920
        f"SIZE {profile.size_limit}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "SMTPUTF8",  # RFC 6531
        "CHUNKING",  # RFC 3030
        "DSN",  # RFC 3461
        "ENHANCEDSTATUSCODES",  # RFC 2034
    ]
    if profile.starttls and not over_tls:
        lines.append("STARTTLS")  # RFC 3207
    if mechanisms:
        lines.append("AUTH " + " ".join(mechanisms))  # RFC 4954
    if over_tls:
        lines.append("REQUIRETLS")  # RFC 8689 section 4: only inside TLS
    if profile.etrn:
        lines.append("ETRN")  # RFC 1985
    # RFC 9422
    lines.append(f"LIMITS MAILMAX={profile.messages_limit} RCPTMAX={profile.recipients_limit}")
    lines.append("HELP")
    return lines
