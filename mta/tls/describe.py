"""An established connection in words: for Received fields, the journal and the log."""

from __future__ import annotations

from OpenSSL import SSL


def describe(connection: SSL.Connection) -> str:
    """Version and cipher, such as "TLSv1.3 TLS_AES_256_GCM_SHA384"; "" before the handshake."""
    cipher = connection.get_cipher_name()
    return f"{connection.get_protocol_version_name()} {cipher}" if cipher else ""


def cipher_bits(connection: SSL.Connection) -> int:
    """Bits of the cipher's secret; 0 before the handshake."""
    return connection.get_cipher_bits() or 0
