"""MAIL and RCPT as they are said to a next hop, and what it would have to offer first. Pure text.

Parameters go out only where the hop offers what they belong to: DSN's (RFC 3461 section 5.1) are dropped where it does not, and the
outcome says so (`Relayed.dsn_capable`), for then the report is our duty.
"""

from __future__ import annotations

from collections.abc import Mapping

from mta.mail.address import Address
from mta.mail.envelope import Message, Notify, Recipient
from mta.smtp.xtext import encode_xtext

_NOTIFY_WORDS = ((Notify.SUCCESS, "SUCCESS"), (Notify.FAILURE, "FAILURE"), (Notify.DELAY, "DELAY"))


def mail_command(
    message: Message, reverse_path: Address, size: int, offered: Mapping[str, str], *, utf8: bool, logged_in: bool
) -> str:
    """`size`: octets of the content as it will be given. `utf8`: SMTPUTF8 is needed."""
    command = f"MAIL FROM:<{reverse_path}>"
    if "SIZE" in offered:
        command += f" SIZE={size}"  # RFC 1870
    if (message.has_8bit or utf8) and "8BITMIME" in offered:
        command += " BODY=8BITMIME"  # RFC 6152
    if utf8:
        command += " SMTPUTF8"  # RFC 6531
    if message.requiretls:
        command += " REQUIRETLS"  # RFC 8689
    if logged_in:
        # RFC 4954 section 5: whom we don't know to have sent it is `<>`
        identity = message.auth_param
        command += " AUTH=<>" if identity in {"", "<>"} else f" AUTH={encode_xtext(identity)}"
    if "DSN" in offered:
        if message.ret:
            command += f" RET={message.ret}"
        if message.envid:
            command += f" ENVID={encode_xtext(message.envid)}"
    return command + "\r\n"


def rcpt_command(recipient: Recipient, dsn: bool) -> str:
    """`dsn`: the hop offers DSN."""
    if not dsn:
        return f"RCPT TO:<{recipient.address}>\r\n"
    command = f"RCPT TO:<{recipient.address}>"
    notify = recipient.notify
    if notify:
        if notify & Notify.NEVER:
            command += " NOTIFY=NEVER"
        else:
            command += " NOTIFY=" + ",".join([word for flag, word in _NOTIFY_WORDS if notify & flag])
    if recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        command += f" ORCPT={kind};{encode_xtext(address)}"  # RFC 3461 section 4.2
    return command + "\r\n"
