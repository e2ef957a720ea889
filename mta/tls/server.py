"""The server's TLS contexts: one for each listener and certificate, chosen by SNI, swapped whole by a reload.

- Session tickets are bound to the listener: each listener's contexts have keys and a session id context of their own, so a
  session begun on one listener can't be resumed on another with another policy. A reload makes new keys: clients then do
  a full handshake once.
- No renegotiation, no compression, no early data (an OpenSSL server takes none unless told to).
- ALPN: "smtp" is answered; a client that insists on other protocols is no mail client (ALPACA) and is refused.
- A running handshake or connection keeps the contexts with which it began.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mta.config.model import Tls
from mta.tls.certificate import Identity, TlsError, TlsProblem, load_identity

ALPN_TAKEN = (b"smtp", b"esmtp")
# For TLS 1.2, best first. The CBC suites at the end are for Exchange on Windows Server 2012 R2, which would come in clear.
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"
VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


@dataclass(frozen=True, slots=True)
class _Identities:
    """What [tls] names, loaded: the default certificate, and the further ones by lower-case SNI name."""

    default: Identity
    by_name: Mapping[str, Identity]

    def all(self) -> list[Identity]:
        return list({id(one): one for one in (self.default, *self.by_name.values())}.values())


class _Generation:
    """The contexts of one listener between two reloads."""

    def __init__(self, listener: str, identities: _Identities, minimum: int) -> None:
        made = {id(one): _context(listener, one, minimum, self._on_name) for one in identities.all()}
        self.default = made[id(identities.default)]
        self._by_name = {name: made[id(one)] for name, one in identities.by_name.items()}

    def _on_name(self, connection: SSL.Connection) -> None:
        """SNI (RFC 6066 section 3): the exact name, then `*.` for its first label, else the default."""
        asked = connection.get_servername()
        if asked is None:
            return
        name = asked.decode("ascii", "replace").lower().removesuffix(".")
        context = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        if context is not None and context is not self.default:
            connection.set_context(context)


@implementer(IOpenSSLServerConnectionCreator)
class ListenerContexts:
    """For `transport.startTLS(...)` and TLS endpoints of one listener; stays the same through reloads."""

    def __init__(self, generation: _Generation) -> None:
        self._generation = generation

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803 - Twisted's name
        return SSL.Connection(self._generation.default, None)

    def swap(self, generation: _Generation) -> None:
        self._generation = generation


class ServerContexts:
    """All certificates of the configuration. Raises TlsError with every problem when they can't be used."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._identities = _load(tls)
        self._listeners: dict[str, ListenerContexts] = {}
        _Generation(
            "", self._identities, VERSIONS[tls.minimum]
        )  # what OpenSSL refuses shows now, not at the first client

    def context_factory(self, listener: str) -> ListenerContexts:
        """The contexts of a listener, by its name: the same object each time."""
        contexts = self._listeners.get(listener)
        if contexts is None:
            contexts = ListenerContexts(_Generation(listener, self._identities, VERSIONS[self._tls.minimum]))
            self._listeners[listener] = contexts
        return contexts

    def reload(self, tls: Tls | None = None) -> list[TlsProblem]:
        """Read the certificates again (by a new configuration, if given), all or nothing, for new connections.

        With problems, which are returned, everything stays as it was.
        """
        tls = self._tls if tls is None else tls
        try:
            identities = _load(tls)
            names = self._listeners or [""]  # without a listener yet, OpenSSL's refusals must show all the same
            generations = {name: _Generation(name, identities, VERSIONS[tls.minimum]) for name in names}
        except TlsError as error:
            return error.problems
        self._tls, self._identities = tls, identities
        for name, contexts in self._listeners.items():
            contexts.swap(generations[name])
        return []

    def identities(self) -> list[Identity]:
        """What is in force, the default first: for status and expiry warnings."""
        return self._identities.all()


def _load(tls: Tls) -> _Identities:
    """Raises TlsError with the problems of all files."""
    problems: list[TlsProblem] = []
    default: Identity | None = None
    by_name: dict[str, Identity] = {}
    if tls.certificate is not None and tls.private_key is not None:
        try:
            default = load_identity(tls.certificate, tls.private_key)
        except TlsError as error:
            problems += error.problems
    for section in tls.name:
        try:
            identity = load_identity(section.certificate, section.private_key)
        except TlsError as error:
            problems += error.problems
        else:
            by_name.update({name.lower(): identity for name in section.names})
            default = default or identity
    if problems:
        raise TlsError(problems)
    if default is None:
        raise TlsError([TlsProblem(Path("tls.certificate"), "no certificate is configured")])
    return _Identities(default, by_name)


def _context(listener: str, identity: Identity, minimum: int, on_name: object) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(minimum)
    context.set_options(
        SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_SINGLE_ECDH_USE
    )
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 34 KiB less for each idle connection
    context.set_cipher_list(CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets carry the state; a cache would grow in memory
    context.set_session_id(hashlib.sha256(b"listener " + listener.encode()).digest())
    context.set_alpn_select_callback(_select_protocol)
    context.set_tlsext_servername_callback(on_name)  # type: ignore[arg-type]
    try:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)  # type: ignore[arg-type]
        for certificate in identity.chain:
            context.add_extra_chain_cert(certificate)
    except (SSL.Error, TypeError) as error:
        raise TlsError([TlsProblem(identity.path, f"OpenSSL does not take it: {_reason(error)}")]) from None
    return context


def _select_protocol(_: SSL.Connection, offered: list[bytes]) -> bytes:
    """RFC 7301 section 3.2: one of the client's; else the fatal alert no_application_protocol, by way of an exception."""
    for name in offered:
        if name in ALPN_TAKEN:
            return name
    raise SSL.Error([("TLS", "ALPN", "the client insists on another protocol than SMTP")])


def _reason(error: Exception) -> str:
    """The last words of OpenSSL's error queue: (library, function, reason)."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue and isinstance(queue[-1], tuple):
        return str(queue[-1][-1])
    return str(error)
