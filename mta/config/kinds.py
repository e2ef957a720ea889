"""Kinds of values in the configuration file: how a text becomes one, and the words for it in errors and documentation.

Names are normalised where they are read, so that two spellings of one domain, address or path are equal ever after.
"""

from __future__ import annotations

import ipaddress
import os.path
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, ValidationInfo

from mta.config.endpoints import with_absolute_path
from mta.config.name_server import parse_name_server
from mta.config.units import Words
from mta.config.via import ViaError, parse_host
from mta.mail.address import AddressError, normalise_peer, parse_address, parse_domain

NAME_LIMIT_OCTETS = 255  # NAME_MAX of Linux


def _domain(text: str) -> str:
    try:
        return parse_domain(text, utf8=True)
    except AddressError as error:
        raise ValueError(f"{text!r} is no domain: {error}") from error


def _host_name(text: str) -> str:
    name = _domain(text)
    if "." not in name or name.startswith("["):
        raise ValueError("must be a fully qualified domain name, such as mail.example.org")
    return name


def _server_name(text: str) -> str:
    """A name of SNI, or `*.` and a domain for one label before it."""
    if text.startswith("*."):
        return "*." + _host_name(text[2:])
    return _host_name(text)


def _next_hop_host(text: str) -> str:
    try:
        return parse_host(text)
    except ViaError as error:
        raise ValueError(str(error)) from error


def _mailbox(text: str) -> str:
    try:
        return str(parse_address(text, utf8=True))
    except AddressError as error:
        raise ValueError(f"{text!r} is no mail address: {error}") from error


def _route_domain(text: str) -> str:
    """`*`, `example.org`, or `.example.org` (all below it)."""
    if text == "*":
        return text
    if text.startswith("."):
        return "." + _domain(text[1:])
    return _domain(text)


def absolute(text: str, info: ValidationInfo) -> str:
    """A path of the file, relative to the directory that holds the file: `base` of the validation's context."""
    base = info.context.get("base", "") if info.context else ""
    return os.path.normpath(os.path.join(base, text)) if base else text


def _file(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    return Path(_lawful_path(value and absolute(value, info)))


def _file_or_output(value: object, info: ValidationInfo) -> object:
    return value if value == "-" else _file(value, info)


def path_after(prefix: str, text: str, info: ValidationInfo) -> str:
    """`text` with the path behind `prefix` made absolute, where it begins with `prefix` and has a path."""
    path = text.removeprefix(prefix)
    return prefix + _lawful_path(absolute(path, info)) if path and path != text else text


def _lawful_path(path: str) -> str:
    if not path or "\0" in path:
        raise ValueError("is no file name")
    if any(len(os.fsencode(part)) > NAME_LIMIT_OCTETS for part in path.split("/")):
        raise ValueError(f"is no file name: a part of it is longer than {NAME_LIMIT_OCTETS} octets")
    return path


def _endpoint(text: str, info: ValidationInfo) -> str:
    base = info.context.get("base", "") if info.context else ""
    return with_absolute_path(text, base) if base else text


def _network(value: object) -> object:
    if isinstance(value, str):
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(_network_hint(value)) from error
    elif not isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        raise ValueError('must be a network in quotes, such as "192.0.2.0/24"')
    return value


def _ip_address(text: str) -> str:
    try:
        return normalise_peer(str(ipaddress.ip_address(text)))
    except ValueError as error:
        raise ValueError(f"{text!r} is no address; write one as 192.0.2.1 or 2001:db8::1") from error


def _name_server(text: str) -> str:
    parse_name_server(text)
    return text


def _network_hint(text: str) -> str:
    try:
        return f"{text} has bits set behind its prefix; the network is {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return f"{text!r} is no network; write one as 192.0.2.0/24, 2001:db8::/32 or a single address"


Domain = Annotated[str, AfterValidator(_domain), Words("a domain")]
HostName = Annotated[str, AfterValidator(_host_name), Words("a host name with its domain")]
ServerName = Annotated[str, AfterValidator(_server_name), Words('a host name, or "*." and a domain')]
NextHopHost = Annotated[str, AfterValidator(_next_hop_host), Words("a host name or an address")]
Mailbox = Annotated[str, AfterValidator(_mailbox), Words("a mail address")]
RouteDomain = Annotated[str, AfterValidator(_route_domain), Words('a domain, ".domain" or "*"')]
EndpointText = Annotated[str, AfterValidator(_endpoint), Words("an endpoint")]
Positive = Annotated[int, Field(gt=0, le=1 << 31)]
Network = Annotated[IPvAnyNetwork, BeforeValidator(_network), Words("a network")]
IpAddress = Annotated[str, AfterValidator(_ip_address), Words("an IP address")]
NameServer = Annotated[str, AfterValidator(_name_server), Words("a name server")]
FileName = Annotated[Path, BeforeValidator(_file), Words("a file name")]
FileOrOutput = Annotated[Path | Literal["-"], BeforeValidator(_file_or_output), Words('a file name or "-"')]
