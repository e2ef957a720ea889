"""A server's identity: certificate, chain and key, read from PEM files and checked before anything uses them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mta.config.secret_file import exposure


@dataclass(frozen=True, slots=True)
class TlsProblem:
    """What is wrong with which file."""

    path: Path
    message: str

    def __str__(self) -> str:
        return self.message if str(self.path) in self.message else f"{self.path}: {self.message}"


class TlsError(Exception):
    """The certificates can't be used; `problems` has all of them."""

    def __init__(self, problems: list[TlsProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """One certificate with its chain and its private key."""

    path: Path
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes

    @property
    def expires_at(self) -> datetime.datetime:
        return self.certificate.not_valid_after_utc

    @property
    def names(self) -> tuple[str, ...]:
        """DNS names of the certificate."""
        try:
            field = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except (x509.ExtensionNotFound, ValueError):
            return ()
        return tuple(field.value.get_values_for_type(x509.DNSName))


def load_identity(certificate: Path, private_key: Path) -> Identity:
    """Read and check the pair. Raises TlsError. An expired certificate is read: it still encrypts (RFC 7435)."""
    chain = _load_chain(certificate)
    key = _load_key(private_key)
    if _public_octets(chain[0].public_key()) != _public_octets(key.public_key()):
        raise TlsError([TlsProblem(private_key, f"the key does not belong to the first certificate of {certificate}")])
    return Identity(certificate, chain[0], tuple(chain[1:]), key)


def _load_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise TlsError([TlsProblem(path, f"can't be read: {error.strerror}")]) from None
    except ValueError:
        raise TlsError([TlsProblem(path, "holds no PEM certificate")]) from None


def _load_key(path: Path) -> PrivateKeyTypes:
    try:
        exposed = exposure(path)
        if exposed:
            raise TlsError([TlsProblem(path, exposed)])
        return load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise TlsError([TlsProblem(path, f"can't be read: {error.strerror}")]) from None
    except TypeError:
        raise TlsError(
            [TlsProblem(path, "the key is encrypted; the daemon has nobody to ask for its password")]
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError([TlsProblem(path, "holds no PEM private key")]) from None


def _public_octets(key: object) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))  # type: ignore[attr-defined]
