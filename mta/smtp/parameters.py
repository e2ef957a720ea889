"""Parameters of MAIL and RCPT (RFC 5321 section 4.1.2; RFC 1870, 6152, 6531, 3461, 4954, 8689)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.mail.address import AddressError, parse_address
from mta.mail.envelope import Notify
from mta.mail.reply import BAD_SYNTAX, BINARYMIME_NEEDS_BDAT, UNKNOWN_PARAMETER, Reply
from mta.smtp.xtext import decode_xtext, encode_utf8_xtext

ENVID_LIMIT_OCTETS = 100  # RFC 3461 section 4.4
ORCPT_LIMIT_OCTETS = 500  # RFC 3461 section 4.2
_SIZE_DIGITS = 20  # RFC 1870 section 4
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,50}")
_UNICODE_ESCAPE = re.compile(r"\\x\{([0-9A-F]{2,6})\}")  # RFC 6533 section 3
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_NOTIFY = {"SUCCESS": Notify.SUCCESS, "FAILURE": Notify.FAILURE, "DELAY": Notify.DELAY}


class ParameterError(ValueError):
    """A parameter is wrong; `reply` is the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class MailParameters:
    size: int = 0  # declared; 0: not declared
    body: str = ""  # "7BIT", "8BITMIME"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    auth: str | None = None  # decoded AUTH=; "<>" or an address; None: not given
    requiretls: bool = False


@dataclass(frozen=True, slots=True)
class RcptParameters:
    notify: Notify = Notify.UNSET
    orcpt: str = ""


NO_MAIL_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()


def _bad(text: str) -> ParameterError:
    return ParameterError(Reply(501, "5.5.4", text))


def _split(text: str) -> dict[str, str | None]:
    if text[0] not in " ":
        raise ParameterError(BAD_SYNTAX)
    found: dict[str, str | None] = {}
    for word in text.split(" "):  # not at the white space that Unicode has beside it
        if not word:
            continue
        name, equals, value = word.partition("=")
        name = name.upper()
        if not _WORD.fullmatch(name) or (equals and not value):
            raise ParameterError(BAD_SYNTAX)
        if name in found:
            raise _bad(f"Parameter {name} given twice")
        found[name] = value if equals else None
    return found


def declares_smtputf8(text: str) -> bool:
    """Does a parameter list name SMTPUTF8? It must be known before the path is parsed."""
    return "SMTPUTF8" in text.upper().split(" ")


def parse_mail_parameters(text: str, *, over_tls: bool, offered: frozenset[str]) -> MailParameters:
    """What follows the reverse-path. Raises ParameterError. `offered`: the extensions announced to this client."""
    if not text or text.isspace():
        return NO_MAIL_PARAMETERS
    given = _split(text)
    size, body, ret, envid, auth = 0, "", "", "", None
    for name, value in given.items():
        if name == "SIZE" and value is not None:
            if not value.isdecimal() or len(value) > _SIZE_DIGITS or not value.isascii():
                raise _bad("Malformed SIZE")
            size = int(value)
        elif name == "BODY" and value is not None:
            body = value.upper()
            if body == "BINARYMIME":
                raise ParameterError(BINARYMIME_NEEDS_BDAT if "BINARYMIME" in offered else UNKNOWN_PARAMETER)
            if body not in {"7BIT", "8BITMIME"}:
                raise _bad("BODY is 7BIT or 8BITMIME")
        elif name == "SMTPUTF8" and value is None:
            pass
        elif name == "RET" and value is not None:
            ret = value.upper()
            if ret not in {"FULL", "HDRS"}:
                raise _bad("RET is FULL or HDRS")
        elif name == "ENVID" and value is not None:
            if len(value) > ENVID_LIMIT_OCTETS:
                raise _bad("ENVID is too long")
            envid = _xtext(value, "ENVID")
        elif name == "AUTH" and value is not None and "AUTH" in offered:
            auth = _auth(value)
        elif name == "REQUIRETLS" and value is None and "REQUIRETLS" in offered:
            if not over_tls:
                raise ParameterError(Reply(530, "5.7.10", "REQUIRETLS needs TLS"))  # RFC 8689 section 4.1
        else:
            raise ParameterError(UNKNOWN_PARAMETER)
    return MailParameters(size, body, "SMTPUTF8" in given, ret, envid, auth, "REQUIRETLS" in given)


def parse_rcpt_parameters(text: str) -> RcptParameters:
    """What follows the forward-path. Raises ParameterError."""
    if not text or text.isspace():
        return NO_RCPT_PARAMETERS
    notify, orcpt = Notify.UNSET, ""
    for name, value in _split(text).items():
        if name == "NOTIFY" and value is not None:
            notify = _notify(value)
        elif name == "ORCPT" and value is not None:
            orcpt = _orcpt(value)
        else:
            raise ParameterError(UNKNOWN_PARAMETER)
    return RcptParameters(notify, orcpt)


def _xtext(value: str, name: str) -> str:
    try:
        return decode_xtext(value)
    except ValueError as error:
        raise _bad(f"{name}: {error}") from error


def _notify(value: str) -> Notify:
    if value.upper() == "NEVER":
        return Notify.NEVER
    notify = Notify.UNSET
    for word in value.upper().split(","):
        if word not in _NOTIFY:
            raise _bad("NOTIFY is NEVER, or of SUCCESS, FAILURE, DELAY")
        notify |= _NOTIFY[word]
    return notify


def _orcpt(value: str) -> str:
    kind, semicolon, text = value.partition(";")
    if not semicolon or not text or not _ADDRESS_TYPE.fullmatch(kind) or len(value) > ORCPT_LIMIT_OCTETS:
        raise _bad("Malformed ORCPT")
    if kind.lower() == "utf-8":  # RFC 6533 section 3: utf-8-addr-xtext, or utf-8-addr-unitext under SMTPUTF8
        decoded = text if not text.isascii() else _xtext(text, "ORCPT")
        if _UNICODE_ESCAPE.sub("", decoded).count("\\x{"):
            raise _bad("Malformed ORCPT")
        # Kept in the 7-bit form, so that it can be passed on to every hop that speaks DSN.
        return f"utf-8;{_ascii_form(decoded)}"
    if not text.isascii():
        raise _bad("Malformed ORCPT")
    return f"{kind.lower()};{_xtext(text, 'ORCPT')}"


def _ascii_form(text: str) -> str:
    """Of utf-8-addr-unitext, whose escapes stand for themselves."""
    return _BEYOND_ASCII.sub(lambda hit: encode_utf8_xtext(hit[0]), text)


def _auth(value: str) -> str:
    """RFC 4954 section 5: `<>` or an xtext mailbox."""
    decoded = _xtext(value, "AUTH")
    if decoded == "<>":
        return decoded
    try:
        return str(parse_address(decoded.strip("<>")))
    except AddressError as error:
        raise _bad(f"AUTH: {error}") from error
