"""TLS to next hops. Opportunistic by default: what can't be verified is still better than clear text (RFC 7435).

Verification is an argument: a policy (MTA-STS, "secure" routes) gives the names of which the certificate must have one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.exceptions import CertificateError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mta.tls.server import VERSIONS

# Old mail servers have 1024-bit keys and SHA-1 signatures: without verification, refusing them would mean clear text.
OPPORTUNISTIC_CIPHERS = b"DEFAULT:@SECLEVEL=0"
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
# Failure types of RFC 8460 section 4.3
MISMATCH, EXPIRED, INVALID = "certificate-host-mismatch", "certificate-expired", "validation-failure"


class ClientContexts:
    """Contexts shared by all connections out. `trust`: PEM file of authorities instead of the system's."""

    def __init__(self, *, minimum: str = "TLSv1.2", trust: Path | None = None) -> None:
        self._minimum = VERSIONS[minimum]
        self._trust = trust
        self._opportunistic = self._context()
        self._opportunistic.set_cipher_list(OPPORTUNISTIC_CIPHERS)
        self._verifying: SSL.Context | None = None

    def context_factory(self, host: str, *, names: Sequence[str] = ()) -> ClientConnection:
        """For one `transport.startTLS(...)` to `host`, whose name goes into SNI.

        With `names`, the handshake fails unless the certificate is trusted and has one of them. May raise SSL.Error or
        OSError the first time `names` is given: the authorities can't be read.
        """
        if not names:
            return ClientConnection(self._opportunistic, host, ())
        if self._verifying is None:
            context = self._context()
            if self._trust is not None:
                context.load_verify_locations(str(self._trust))
            else:
                context.set_default_verify_paths()
            self._verifying = context
        return ClientConnection(self._verifying, host, tuple(names))

    def _context(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(self._minimum)
        context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return context


@implementer(IOpenSSLClientConnectionCreator)
class ClientConnection:
    """One connection's TLS. `problem` says, after a failed handshake, what was wrong with the certificate (RFC 8460's words)."""

    def __init__(self, context: SSL.Context, host: str, names: tuple[str, ...]) -> None:
        self._context = context
        self._host = host
        self._names = names
        self.problem = ""

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803 - Twisted's name
        connection = SSL.Connection(self._context, None)
        if not is_ip_address(self._host):  # RFC 6066 section 3: names only
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        if self._names:
            connection.set_verify(SSL.VERIFY_PEER, self._verify)
        return connection

    def _verify(self, _: SSL.Connection, certificate: X509, error: int, depth: int, good: int) -> bool:
        """OpenSSL asks at each certificate of the chain; an exception here would only land on stderr."""
        if not good:
            self.problem = EXPIRED if error == _EXPIRED else INVALID
        elif depth == 0 and not has_name(certificate.to_cryptography(), self._names):
            self.problem = MISMATCH
            return False
        return bool(good)


def has_name(certificate: x509.Certificate, names: Sequence[str]) -> bool:
    """Does the certificate have one of these names (RFC 9525)?"""
    try:
        patterns = extract_patterns(certificate)
    except (CertificateError, ValueError):
        return False
    for name in names:
        try:
            verify_service_identity(patterns, [IPAddress_ID(name) if is_ip_address(name) else DNS_ID(name)], [])
        except (VerificationError, CertificateError, ValueError):
            continue
        return True
    return False


def is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
