"""Channel-binding data (RFC 5056): what ties a login to the TLS connection that it runs over.

tls-unique is left out: it is void for TLS 1.3 and broken by resumption before it.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

EXPORTER_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 section 2
EXPORTER_OCTETS = 32


def channel_binding(connection: SSL.Connection, binding_type: str, *, server: bool) -> bytes | None:
    """The data of an established connection, seen from one of its ends; None where the type has none here."""
    if binding_type == "tls-exporter":
        return _exporter(connection)
    if binding_type == "tls-server-end-point":
        return _server_end_point(connection, server)
    return None


def _exporter(connection: SSL.Connection) -> bytes | None:
    # RFC 9266 section 4.2: below TLS 1.3 it is unique only with the extended master secret, which we can't see.
    if connection.get_protocol_version_name() != "TLSv1.3":
        return None
    return connection.export_keying_material(EXPORTER_LABEL, EXPORTER_OCTETS, b"")


def _server_end_point(connection: SSL.Connection, server: bool) -> bytes | None:
    """RFC 5929 section 4.1: the server certificate's hash, by the hash of its signature, at least SHA-256."""
    if server:
        certificate = connection.get_certificate(as_cryptography=True)
    else:
        certificate = connection.get_peer_certificate(as_cryptography=True)
    algorithm = certificate.signature_hash_algorithm if certificate is not None else None
    if certificate is None or algorithm is None:  # Ed25519 has no separate hash: undefined
        return None
    weak = isinstance(algorithm, hashes.MD5 | hashes.SHA1)
    return certificate.fingerprint(hashes.SHA256() if weak else algorithm)
