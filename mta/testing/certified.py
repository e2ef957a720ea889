"""A server's side of TLS for tests, with a certificate of trustme's for the names given."""

from __future__ import annotations

from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer


@implementer(IOpenSSLServerConnectionCreator)
class Certified:
    """`not_after`: a datetime, for a certificate that has expired."""

    def __init__(self, authority: trustme.CA, *names: str, **options: Any) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        authority.issue_cert(*names, **options).configure_cert(self._context)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:  # noqa: N803 - Twisted's name
        return SSL.Connection(self._context, None)
