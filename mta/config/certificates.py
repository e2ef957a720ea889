"""Certificates and their keys, looked at before a client is shown them: readable, a pair, in time, for the right names."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)

from mta.config.files import check_readable, check_secret
from mta.config.findings import Findings
from mta.config.model import Configuration
from mta.config.positions import KeyPath

WARN_BEFORE = timedelta(days=14)


def check_certificates(configuration: Configuration, findings: Findings, now: datetime, owners: frozenset[int]) -> None:
    tls = configuration.tls
    if tls.certificate is not None and tls.private_key is not None:
        _check_pair(tls.certificate, tls.private_key, [configuration.hostname], ("tls",), findings, now, owners)
    named: dict[str, int] = {}
    for index, each in enumerate(tls.name):
        key: KeyPath = ("tls", "name", index)
        _check_pair(each.certificate, each.private_key, each.names, key, findings, now, owners)
        for position, name in enumerate(each.names):
            if name in named:
                findings.add("E210", (*key, "names", position), f"{name} is given to two certificates")
            named.setdefault(name, index)


def _check_pair(
    certificate: Path,
    private_key: Path,
    names: list[str],
    key: KeyPath,
    findings: Findings,
    now: datetime,
    owners: frozenset[int],
) -> None:
    chain = _read(certificate, "E201", (*key, "certificate"), "certificate", findings)
    secret = _read(private_key, "E203", (*key, "private_key"), "private key", findings)
    if secret:
        findings.take(check_secret(private_key, owners=owners), (*key, "private_key"))
    leaf = _leaf(chain, certificate, (*key, "certificate"), findings) if chain else None
    public = _public_half(secret, private_key, (*key, "private_key"), findings) if secret else b""
    if leaf is None:
        return
    _check_time(leaf, certificate, (*key, "certificate"), findings, now)
    _check_names(leaf, certificate, names, (*key, "certificate"), findings)
    if public and public != _public_octets(leaf):
        message = f"{private_key} is not the key of {certificate}"
        findings.add("E205", (*key, "private_key"), message, "name the two files that were made together")


def _read(path: Path, code: str, key: KeyPath, what: str, findings: Findings) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        findings.add(code, key, f"the {what} {path} can't be read: {error.strerror}")
        return b""
    findings.take(check_readable(path), key)
    if not data.strip():
        findings.add(code, key, f"the {what} {path} is empty")
        return b""
    return data


def _leaf(chain: bytes, path: Path, key: KeyPath, findings: Findings) -> Certificate | None:
    try:
        return load_pem_x509_certificates(chain)[0]
    except ValueError:
        findings.add(
            "E202", key, f"{path} holds no certificate in PEM", "it must begin with -----BEGIN CERTIFICATE-----"
        )
        return None


def _public_half(secret: bytes, path: Path, key: KeyPath, findings: Findings) -> bytes:
    try:
        private = load_pem_private_key(secret, None)
    except TypeError:
        hint = f"take the passphrase off with: openssl pkey -in {path} -out NEW"
        findings.add("E204", key, f"{path} needs a passphrase, and nobody is there to type it", hint)
        return b""
    except (ValueError, UnsupportedAlgorithm):
        findings.add("E204", key, f"{path} holds no private key in PEM")
        return b""
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_octets(leaf: Certificate) -> bytes:
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_time(leaf: Certificate, path: Path, key: KeyPath, findings: Findings, now: datetime) -> None:
    ends, begins = leaf.not_valid_after_utc, leaf.not_valid_before_utc
    if ends < now:
        findings.add("E206", key, f"{path} expired on {ends:%Y-%m-%d}", "renew it, then: mta reload")
    elif ends < now + WARN_BEFORE:
        findings.add(
            "W207", key, f"{path} expires on {ends:%Y-%m-%d}, in {(ends - now).days} days", "renew it, then: mta reload"
        )
    if begins > now:
        findings.add(
            "E209", key, f"{path} is valid only from {begins:%Y-%m-%d %H:%M} UTC on", "is this machine's clock right?"
        )


def _check_names(leaf: Certificate, path: Path, names: list[str], key: KeyPath, findings: Findings) -> None:
    try:
        held = leaf.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(DNSName)
    except (ExtensionNotFound, ValueError):
        held = []
    for name in names:
        parent = "*." + name.partition(".")[2]  # RFC 6125 section 6.4.3: a wildcard stands for one label
        if not {name, parent} & {each.lower() for each in held}:
            listed = ", ".join(held) if held else "no name"
            findings.add(
                "W208", key, f"{path} is not for {name}; it holds {listed}", "clients that verify will refuse it"
            )
