"""Renditions of content for who gets it: pure, made anew for each delivery, never stored. Each has a name for the journal.

Final delivery (RFC 5321 section 4.4) puts Return-Path at the top and takes away one that the message brought: only the last
host may say where it came from. Delivered-To marks the mailbox, so that a message that comes back to it is known for a loop.
A relay gets the content as it was accepted.
"""

from __future__ import annotations

import re

from mta.mail.address import Address

AS_ACCEPTED = "as accepted"
FINAL = "final: Return-Path, Delivered-To, LF"

_RETURN_PATH = re.compile(rb"^return-path[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO = re.compile(rb"^delivered-to[ \t]*:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


def final_header(header: bytes, reverse_path: Address, mailbox: Address) -> bytes:
    """The header section for a mailbox, lines ending with CRLF still."""
    if b"return-path" in header.lower():
        header = _RETURN_PATH.sub(b"", header)
    return f"Return-Path: <{reverse_path}>\r\nDelivered-To: {mailbox}\r\n".encode() + header


def was_delivered_to(header: bytes, mailbox: Address) -> bool:
    """Has this message been in this mailbox before? (A loop: forwarding brought it back.)"""
    if b"delivered-to" not in header.lower():
        return False
    name = str(mailbox).lower().encode()
    return any(found.lower() == name for found in _DELIVERED_TO.findall(header))


def local_lines(block: bytes) -> bytes:
    """Lines as files of this system end them (the custom of maildirs). A block must not end between CR and LF."""
    return block.replace(b"\r\n", b"\n")
