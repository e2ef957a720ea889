"""TLS to next hops. Opportunistic by default: what can't be verified is still better than clear text (RFC 7435).

Every certificate is looked at, and what it proves is kept for the journal, for logins and for REQUIRETLS; only where the caller
insists (routes with tls = "verify", MTA-STS) does the handshake fail.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.exceptions import CertificateError
from service_identity.hazmat import DNS_ID, CertificatePattern, IPAddress_ID, verify_service_identity
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mta.tls.server import VERSIONS

# Old mail servers have 1024-bit keys and SHA-1 signatures: without verification, refusing them would mean clear text.
OPPORTUNISTIC_CIPHERS = b"DEFAULT:@SECLEVEL=0"
RSA_BITS_MIN = 2048  # as OpenSSL's security level 2
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
# Failure types of RFC 8460 section 4.3
MISMATCH, EXPIRED, INVALID = "certificate-host-mismatch", "certificate-expired", "validation-failure"


class ClientContexts:
    """Contexts shared by all connections out. `trust`: PEM file of authorities instead of the system's."""

    def __init__(self, *, minimum: str = "TLSv1.2", trust: Path | None = None) -> None:
        self._minimum = VERSIONS[minimum]
        self._trust = trust
        self._opportunistic: SSL.Context | None = None
        self._strict: SSL.Context | None = None

    def reload(self, trust: Path | None) -> None:
        """New connections go by this file, read anew (or by the system's authorities, which may have changed too)."""
        self._trust = trust
        self._opportunistic = self._strict = None

    def context_factory(self, host: str, *, names: Sequence[str] = (), insist: bool = False) -> ClientConnection:
        """For one `transport.startTLS(...)` to `host`, whose name goes into SNI.

        The connection finds out which of `names` (default: the host's) the certificate proves; with `insist` the handshake fails
        when it proves none. May raise SSL.Error or OSError: `trust` can't be read.
        """
        context = self._strict if insist else self._opportunistic
        if context is None:
            context = self._context(insist)
            if insist:
                self._strict = context
            else:
                self._opportunistic = context
        return ClientConnection(context, host, tuple(names) or (host,), insist)

    def _context(self, insist: bool) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(self._minimum)
        context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if not insist:
            context.set_cipher_list(OPPORTUNISTIC_CIPHERS)
        try:
            if self._trust is not None:
                context.load_verify_locations(str(self._trust))
            else:
                context.set_default_verify_paths()
        except SSL.Error:
            if insist:
                raise
            # Without authorities nothing is proved, and what need not be proved still encrypts.
        return context


@implementer(IOpenSSLClientConnectionCreator)
class ClientConnection:
    """One connection's TLS.

    `problem`: what was wrong with the certificate, in the words of RFC 8460. `proven`: after the handshake, those of `names` that
    it proves; none unless its chain is trusted.
    """

    def __init__(self, context: SSL.Context, host: str, names: tuple[str, ...], insist: bool) -> None:
        self._context = context
        self._host = host
        self._names = names
        self._insist = insist
        self.problem = ""
        self.proven: tuple[str, ...] = ()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803 - Twisted's name
        connection = SSL.Connection(self._context, None)
        if not is_ip_address(self._host):  # RFC 6066 section 3: names only
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        connection.set_verify(SSL.VERIFY_PEER, self._verify)
        return connection

    def _verify(self, _: SSL.Connection, certificate: X509, error: int, depth: int, good: int) -> bool:
        """OpenSSL asks at each certificate of the chain, the host's own last; an exception here would end the handshake."""
        try:
            self._judge(certificate, error, depth, good)
        except Exception:  # noqa: BLE001 - a key or signature of a kind that is not known here proves nothing, and encrypts
            self.problem = self.problem or INVALID
        if self.problem:
            self.proven = ()
        return not (self._insist and self.problem)

    def _judge(self, certificate: X509, error: int, depth: int, good: int) -> None:
        shown = certificate.to_cryptography()
        if not good:
            self.problem = self.problem or (EXPIRED if error == _EXPIRED else INVALID)
        elif not self._insist and is_weak(shown):  # where we insist, OpenSSL's security level says so itself
            self.problem = self.problem or INVALID
        elif depth == 0 and not self.problem:
            # What is proven is kept only if nothing was wrong further up, and nothing is found wrong after this.
            self.proven = names_of(shown, self._names)
            if not self.proven:
                self.problem = MISMATCH


def is_weak(certificate: x509.Certificate) -> bool:
    """Good enough to encrypt, not to prove anything: a key or a signature that others can make (below 112 bits of security)."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) and key.key_size < RSA_BITS_MIN:
        return True
    if certificate.issuer == certificate.subject:  # an authority is trusted by being listed, not by its own signature
        return False
    return isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5)


def names_of(certificate: x509.Certificate, names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` that the certificate has (RFC 9525)."""
    try:
        patterns = extract_patterns(certificate)
    except (CertificateError, ValueError):
        return ()
    return tuple([name for name in names if _is_named(patterns, name)])


def _is_named(patterns: Sequence[CertificatePattern], name: str) -> bool:
    try:
        verify_service_identity(patterns, [IPAddress_ID(name) if is_ip_address(name) else DNS_ID(name)], [])
    except (VerificationError, CertificateError, ValueError):
        return False
    return True


def is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
