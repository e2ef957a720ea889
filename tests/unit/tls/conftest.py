"""Certificates on disk, and two ends of TLS in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from OpenSSL import SSL

from mta.config.model import Tls

Pair = tuple[Path, Path]
MakePair = Callable[..., Pair]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def pair(authority: trustme.CA, tmp_path: Path) -> MakePair:
    """Makes certificate and key for names: paths under tmp_path; the same label again replaces them."""

    def make(*names: str, label: str = "") -> Pair:
        issued = authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
        certificate, key = tmp_path / f"{label or names[0]}.pem", tmp_path / f"{label or names[0]}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        key.chmod(0o600)
        return certificate, key

    return make


@pytest.fixture
def configured(pair: MakePair) -> Callable[..., Tls]:
    """A [tls] section: the first name is the default certificate's, each further one has its own."""

    def make(default: str, *names: str, minimum: str = "TLSv1.2") -> Tls:
        certificate, key = pair(default)
        sections = []
        for name in names:
            one, its_key = pair(name, label=name.replace("*", "any"))
            sections.append({"names": [name], "certificate": one, "private_key": its_key})
        return Tls.model_validate(
            {"certificate": certificate, "private_key": key, "minimum": minimum, "name": sections}, strict=False
        )

    return make


def shake(client: SSL.Connection, server: SSL.Connection) -> None:
    """The handshake of two connections without sockets. Raises SSL.Error of either end."""
    client.set_connect_state()
    server.set_accept_state()
    waiting = [client, server]
    for _ in range(20):
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            else:
                if end in waiting:
                    waiting.remove(end)
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(end.bio_read(1 << 16))
        if not waiting:
            return
    raise AssertionError("the handshake does not end")


@pytest.fixture
def shaking() -> Callable[[SSL.Connection, SSL.Connection], None]:
    return shake
