"""Configurations and certificates to try."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)

GOOD = """\
hostname = "mail.example.org"
postmaster = "admin@example.org"
[spool]
path = "spool"
[control]
socket = "mta.sock"
[[listener]]
name = "mx"
endpoints = ["tcp:25"]
kind = "mx"
tls = "none"
[[route]]
domains = ["*"]
via = "mx"
"""

Write = Callable[..., Path]


@pytest.fixture
def now() -> datetime.datetime:
    """What certificates are held against."""
    return NOW


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration: a good one, with `more` at its end."""

    def writing(more: str = "", text: str = GOOD) -> Path:
        path = tmp_path / "mta.toml"
        path.write_text(text + more)
        return path

    return writing


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Make a certificate and its key, in `tls/` beside the configuration."""
    (tmp_path / "tls").mkdir(mode=0o755)

    def make(
        *,
        names: tuple[str, ...] = ("mail.example.org",),
        begins: datetime.timedelta = datetime.timedelta(days=-1),
        ends: datetime.timedelta = datetime.timedelta(days=90),
        passphrase: bytes = b"",
        stem: str = "server",
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a common name is no name")])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(NOW + begins).not_valid_after(NOW + ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
        certificate_path, key_path = tmp_path / "tls" / f"{stem}.pem", tmp_path / "tls" / f"{stem}.key"
        certificate_path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
        key_path.chmod(0o600)
        return certificate_path, key_path

    return make
