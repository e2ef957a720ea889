"""From what a client types to the name of a user: `user@domain`, one spelling. Pure.

The local part of a user of ours is compared without regard to case (RFC 5321 section 2.4 leaves it to the host), and with
SASLprep's normalisation. A subaddress, `user+tag`, is the user (RFC 5233 names the idea).
"""

from __future__ import annotations

from mta.mail.address import Address, AddressError, parse_address
from mta.sasl.saslprep import ProhibitedText, saslprep

SUBADDRESS_MARK = "+"


class BadName(ValueError):
    """The text can be no user's name; the message says why."""


def user_name(text: str, realm: str, *, stored: bool = False) -> str:
    """The user that a login names; `realm` is appended where it has no domain. Raises BadName."""
    try:
        prepared = saslprep(text, stored=stored)
        if "@" not in prepared:
            prepared = f"{prepared}@{realm}"
        address = parse_address(prepared, utf8=True)
    except (ProhibitedText, AddressError) as error:
        raise BadName(str(error)) from None
    if address.is_literal or not address.domain:
        raise BadName("a user needs a domain")
    return f"{address.local.lower()}@{address.domain}"


def user_of(address: Address) -> str:
    """The name under which the user of this address would be stored, its tag still on it."""
    local = address.local
    if not local.isascii():
        try:
            local = saslprep(local)
        except ProhibitedText:
            return ""
    return f"{local.lower()}@{address.domain}"


def without_tag(name: str) -> str:
    """`user+tag@domain` → `user@domain`; "" where there is no tag, or nothing before it."""
    local, _, domain = name.rpartition("@")
    user, mark, _ = local.partition(SUBADDRESS_MARK)
    return f"{user}@{domain}" if mark and user else ""
