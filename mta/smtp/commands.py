"""The arguments of commands, parsed (RFC 5321 section 4.1.1). Every fault is a CommandError with its reply."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from mta.mail import reply
from mta.mail.address import Address, AddressError, parse_path
from mta.mail.reply import Reply
from mta.smtp.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    ParameterError,
    RcptParameters,
    declares_smtputf8,
    parse_mail_parameters,
    parse_rcpt_parameters,
)

_CHUNK = re.compile(r"(\d{1,19})(?: +(LAST))?", re.IGNORECASE | re.ASCII)
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# C1 controls, line separators and the bidi controls: lawful UTF-8, but they only ever deceive a reader of a log or a listing.
_DECEPTIVE = re.compile("[\u0080-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class CommandError(ValueError):
    """The command can't be taken as it stands; `reply` is the answer."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(str(answer))
        self.reply = answer


def decode_argument(argument: bytes) -> str:
    """ASCII, or UTF-8 where SMTPUTF8 may allow it. Raises CommandError."""
    try:
        text = argument.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(reply.BAD_ARGUMENT) from error
    if not text.isascii() and _DECEPTIVE.search(text):
        raise CommandError(reply.BAD_ARGUMENT)
    return text


def parse_mail(text: str, session: Callable[[], tuple[frozenset[str], bool]]) -> tuple[Address, MailParameters]:
    """What follows `MAIL `. Raises CommandError.

    `session` tells the extensions announced and whether TLS is on; it is asked only when there are parameters.
    """
    path = _after_keyword(text, "FROM:")
    try:
        if path[-1] == ">":
            reverse_path, rest = parse_path(path)
        else:
            reverse_path, rest = parse_path(path, utf8=declares_smtputf8(path))
        if not rest:
            return reverse_path, NO_MAIL_PARAMETERS
        offered, over_tls = session()
        parameters = parse_mail_parameters(rest, over_tls=over_tls, offered=offered)
        if not parameters.smtputf8 and not path.isascii():  # the word stood in the path, not among the parameters
            raise CommandError(reply.NON_ASCII_NEEDS_SMTPUTF8)
        return reverse_path, parameters
    except AddressError as error:
        raise CommandError(_bad_path("5.1.7", error, path)) from error
    except ParameterError as error:
        raise CommandError(error.reply) from error


def parse_rcpt(text: str, *, utf8: bool) -> tuple[Address, str, RcptParameters]:
    """What follows `RCPT `: the address, its text as given, the parameters. Raises CommandError.

    `utf8`: the transaction declared SMTPUTF8.
    """
    path = _after_keyword(text, "TO:")
    if not utf8 and not path.isascii():
        raise CommandError(reply.NON_ASCII_NEEDS_SMTPUTF8)
    try:
        address, rest = parse_path(path, utf8=utf8)
        parameters = parse_rcpt_parameters(rest) if rest else NO_RCPT_PARAMETERS
    except AddressError as error:
        raise CommandError(_bad_path("5.1.3", error, path)) from error
    except ParameterError as error:
        raise CommandError(error.reply) from error
    if not address:
        raise CommandError(Reply(501, "5.1.3", "The null path is no recipient"))
    return address, path[1 : len(path) - len(rest) - 1], parameters


def parse_chunk(text: str) -> tuple[int, bool]:
    """What follows `BDAT `: octets, and whether it is the last (RFC 3030 section 2). Raises CommandError."""
    hit = _CHUNK.fullmatch(text.strip(" "))
    if hit is None:
        raise CommandError(reply.BAD_CHUNK_SIZE)
    return int(hit[1]), hit[2] is not None


def parse_auth(text: str) -> tuple[str, bytes | None]:
    """What follows `AUTH `: the mechanism and the initial response; `=` is an empty one (RFC 4954 section 4)."""
    mechanism, _, initial = text.strip(" ").partition(" ")
    if not mechanism:
        raise CommandError(reply.BAD_SYNTAX)
    if not initial:
        return mechanism.upper(), None
    return mechanism.upper(), b"" if initial == "=" else decode_base64(initial.encode("utf-8"))


def decode_base64(text: bytes) -> bytes:
    """Strictly (RFC 4954 section 4). Raises CommandError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CommandError(reply.BAD_BASE64) from error


def _after_keyword(text: str, keyword: str) -> str:
    """What follows FROM: or TO:, a space forgiven (many clients put one there)."""
    head = text[: len(keyword)]
    path = text[len(keyword) :].strip(" ")
    if (head != keyword and head.upper() != keyword) or not path:
        raise CommandError(reply.BAD_SYNTAX)
    return path


def _bad_path(status: str, error: AddressError, path: str) -> Reply:
    if not path.isascii() and "SMTPUTF8" in str(error):
        return reply.NON_ASCII_NEEDS_SMTPUTF8
    return Reply(501, status, f"Bad address syntax: {error}")
