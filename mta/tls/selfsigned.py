"""A certificate for development, signed by itself: `python -m mta.tls.selfsigned --certificate P --key P NAME...`

Does nothing when the files are there, belong together, have the names, and don't expire within a week.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mta.tls.certificate import TlsError, load_identity

LOCAL_NAMES = ("localhost",)
LOCAL_ADDRESSES = ("127.0.0.1", "::1")
VALID = datetime.timedelta(days=365)
RENEWED_BEFORE = datetime.timedelta(days=7)


def ensure_certificate(certificate: Path, key: Path, names: Sequence[str], now: datetime.datetime) -> bool:
    """Make or renew the pair where it is needed; whether it was. Raises OSError. The key's mode is 0600."""
    wanted = tuple(dict.fromkeys([*names, *LOCAL_NAMES]))
    if _still_good(certificate, key, wanted, now):
        return False
    private_key = ec.generate_private_key(ec.SECP256R1())
    made = _sign(private_key, wanted, now)
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(key, pem, 0o600)
    _write(certificate, made.public_bytes(Encoding.PEM), 0o644)
    return True


def _still_good(certificate: Path, key: Path, names: tuple[str, ...], now: datetime.datetime) -> bool:
    try:
        identity = load_identity(certificate, key)
    except TlsError:
        return False
    return set(names) <= set(identity.names) and identity.expires_at - now > RENEWED_BEFORE


def _sign(key: ec.EllipticCurvePrivateKey, names: tuple[str, ...], now: datetime.datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in LOCAL_ADDRESSES]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, with its mode from its first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mta.tls.selfsigned", description="A certificate for development.")
    parser.add_argument("--certificate", type=Path, required=True, metavar="FILE")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key, mode 0600")
    parser.add_argument("names", nargs="+", metavar="NAME", help="host names; localhost is added")
    chosen = parser.parse_args(arguments)
    try:
        made = ensure_certificate(chosen.certificate, chosen.key, chosen.names, datetime.datetime.now(datetime.UTC))
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n")
        return os.EX_CANTCREAT
    if made:
        sys.stdout.write(f"new certificate for {', '.join(chosen.names)}: {chosen.certificate}\n")
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
