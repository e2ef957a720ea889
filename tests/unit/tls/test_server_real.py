"""A Twisted server on loopback, visited by `openssl s_client`: another implementation's view of our contexts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from mta.tls.describe import describe
from mta.tls.server import ListenerContexts, ServerContexts

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@implementer(IHandshakeListener)
class Greeter(Protocol):
    """TLS from the first octet, then one line that tells what was agreed."""

    def connectionMade(self) -> None:
        self.transport.startTLS(self.factory.contexts)

    def handshakeCompleted(self) -> None:
        self.transport.write(f"220 {describe(self.transport.getHandle())}\r\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()


@pytest.fixture
def listening():
    """Serve with a listener's contexts; gives the port."""
    ports = []

    def listen(contexts: ListenerContexts) -> int:
        factory = Factory.forProtocol(Greeter)
        factory.contexts = contexts
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        ports.append(port)
        return port.getHost().port

    yield listen
    for port in ports:
        pytest_twisted.blockon(port.stopListening())


async def visit(port: int, *options: str | Path, say: bytes = b"") -> tuple[int, str]:
    """`openssl s_client`: its exit code and all that it said. `say`: sent after the handshake; the server then closes."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *map(str, options)]
    run = await deferToThread(
        subprocess.run,
        command,
        input=say,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=20,
        start_new_session=True,
    )
    return run.returncode, run.stdout.decode("utf-8", "replace")


@pytest_twisted.ensureDeferred
async def test_two_names_get_two_certificates_that_openssl_verifies(configured, listening, authority, tmp_path):
    trust = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(trust)
    contexts = ServerContexts(configured("mail.example.org", "mx.example.net"))
    port = listening(contexts.context_factory("mx"))
    for name in ("mail.example.org", "mx.example.net"):
        code, said = await visit(
            port, "-servername", name, "-verify_hostname", name, "-CAfile", trust, "-verify_return_error"
        )
        assert code == 0, said
        assert "Verify return code: 0 (ok)" in said


@pytest_twisted.ensureDeferred
async def test_a_reload_serves_the_new_certificate_on_the_same_port(configured, pair, listening):
    contexts = ServerContexts(configured("mail.example.org"))
    port = listening(contexts.context_factory("mx"))
    _, before = await visit(port)
    pair("mail.example.org", label="mail.example.org")
    assert contexts.reload() == []
    _, after = await visit(port)
    certificates = [re.search("-----BEGIN.*?-----END", said, re.DOTALL)[0] for said in (before, after)]
    assert certificates[0] != certificates[1]


@pytest_twisted.ensureDeferred
async def test_tls_1_1_is_refused_and_1_2_and_1_3_are_taken(configured, listening):
    port = listening(ServerContexts(configured("mail.example.org")).context_factory("mx"))
    code, said = await visit(port, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
    assert code != 0
    assert "alert protocol version" in said
    for option, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        code, said = await visit(port, option)
        assert code == 0
        assert f"New, {version}" in said


@pytest_twisted.ensureDeferred
async def test_the_server_s_order_of_ciphers_decides_and_nothing_is_compressed(configured, listening):
    port = listening(ServerContexts(configured("mail.example.org")).context_factory("mx"))
    _, said = await visit(port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256")
    assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in said
    assert "Compression: NONE" in said
    code, _ = await visit(port, "-tls1_2", "-cipher", "AES256-GCM-SHA384")  # no forward secrecy
    assert code != 0


@pytest_twisted.ensureDeferred
async def test_a_client_s_renegotiation_is_refused(configured, listening):
    port = listening(ServerContexts(configured("mail.example.org")).context_factory("mx"))
    _, said = await visit(port, "-tls1_2", say=b"R\n")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


@pytest_twisted.ensureDeferred
async def test_a_session_is_resumed_on_its_listener_and_on_no_other(configured, listening, tmp_path):
    contexts = ServerContexts(configured("mail.example.org"))
    mx, submissions = (listening(contexts.context_factory(name)) for name in ("mx", "submissions"))
    for version in ("-tls1_2", "-tls1_3"):
        session = tmp_path / f"session{version}"
        _, said = await visit(
            mx, version, "-sess_out", session, "-ign_eof", say=b"x"
        )  # 1.3 sends tickets a moment later
        assert "New, TLS" in said
        _, said = await visit(submissions, version, "-sess_in", session)
        assert "New, TLS" in said
        _, said = await visit(mx, version, "-sess_in", session)
        assert "Reused, TLS" in said


@pytest_twisted.ensureDeferred
async def test_alpn_smtp_is_agreed_and_http_is_refused(configured, listening):
    port = listening(ServerContexts(configured("mail.example.org")).context_factory("mx"))
    _, said = await visit(port, "-alpn", "smtp")
    assert "ALPN protocol: smtp" in said
    code, said = await visit(port, "-alpn", "http/1.1")
    assert code != 0
    assert "no application protocol" in said


@pytest_twisted.ensureDeferred
async def test_the_connection_is_described_on_the_server_s_side(configured, listening):
    port = listening(ServerContexts(configured("mail.example.org")).context_factory("mx"))
    _, said = await visit(port, "-tls1_3", "-ign_eof", "-quiet", say=b"x")
    assert "220 TLSv1.3 TLS_AES_256_GCM_SHA384" in said
