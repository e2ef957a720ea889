"""Our own logins at next hops, looked at before mail depends on them: is there a secret, is it kept, will it ever be used?"""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificates

from mta.config.credential_file import CredentialFileError, read_password
from mta.config.files import check_readable, check_secret
from mta.config.findings import Findings
from mta.config.model import Configuration, Credential
from mta.config.positions import KeyPath
from mta.config.via import TLS_MARK, Via, ViaError, Way, parse_via

_PLACE = re.compile(r"smtps?:\[(.+)\]:(\d+)(?:;.*)?")


def check_credentials(configuration: Configuration, findings: Findings, owners: frozenset[int]) -> None:
    seen: set[tuple[str, int | None]] = set()
    hops = [hop for route in configuration.route if (hop := _hop(route.via, route.tls)) is not None]
    for index, credential in enumerate(configuration.credential):
        key: KeyPath = ("credential", index)
        place = (credential.host, credential.port)
        if place in seen:
            findings.add("E408", (*key, "host"), f"{_shown(credential)} has a credential already")
        seen.add(place)
        _check_secret(credential, key, findings, owners)
        _check_use(credential, key, hops, findings)
    _check_authorities(configuration.outbound.authorities, findings)


def _check_secret(credential: Credential, key: KeyPath, findings: Findings, owners: frozenset[int]) -> None:
    path = credential.password_file
    if path is None:
        findings.take(check_secret(Path(findings.positions.file), owners=owners), (*key, "password"))
        return
    key = (*key, "password_file")
    if findings.take(check_secret(path, owners=owners), key):
        return
    try:
        read_password(path)
    except CredentialFileError as error:
        findings.add("E407", key, str(error), "write the password into its first line")
    else:
        findings.take(check_readable(path), key)


def _check_use(credential: Credential, key: KeyPath, hops: list[Via], findings: Findings) -> None:
    used = [hop for hop in hops if _is_for(credential, hop)]
    if not used:
        hint = 'the host is compared as it stands in via = "smtp:[host]:port"; the MX of a domain never gets a login'
        findings.add("W409", (*key, "host"), f"no route goes to {_shown(credential)}", hint)
    for hop in used:
        clear = hop.target.endswith(f"{TLS_MARK}none")
        if clear and (credential.require_verified_tls or "SCRAM-SHA-256" not in credential.mechanisms):
            message = f"the route to {_shown(credential)} has no TLS, and the secret goes nowhere without"
            findings.add("E410", (*key, "host"), message, 'tls = "verify" in the route')
            return


def _hop(via: str, tls: str | None) -> Via | None:
    try:
        parsed = parse_via(via, tls)
    except ViaError:
        return None  # complained of elsewhere
    return parsed if parsed.way is Way.SMTP else None


def _is_for(credential: Credential, hop: Via) -> bool:
    hit = _PLACE.fullmatch(hop.target)
    return hit is not None and hit[1] == credential.host and credential.port in {None, int(hit[2])}


def _shown(credential: Credential) -> str:
    return credential.host if credential.port is None else f"{credential.host} port {credential.port}"


def _check_authorities(path: Path | None, findings: Findings) -> None:
    if path is None:
        return
    key: KeyPath = ("outbound", "authorities")
    try:
        load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        findings.add("E211", key, f"{path} can't be read: {error.strerror}")
    except ValueError:
        findings.add("E211", key, f"{path} holds no PEM certificate")
    else:
        findings.take(check_readable(path), key)
