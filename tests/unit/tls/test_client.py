"""Our own side of TLS to next hops, handshaking in memory with our own listeners: what a certificate proves."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from mta.tls.client import ClientContexts
from mta.tls.server import ServerContexts


@pytest.fixture
def meet(shaking):
    """A handshake with a listener's contexts: both ends, established."""

    def meet(contexts: ServerContexts, client: SSL.Connection, listener: str = "mx"):
        server = contexts.context_factory(listener).serverConnectionForTLS(None)
        shaking(client, server)
        return client, server

    return meet


def name_of(client: SSL.Connection) -> str:
    certificate = client.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)[0]


@pytest.fixture
def trusting(authority, tmp_path) -> ClientContexts:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return ClientContexts(trust=path)


def test_the_opportunistic_client_asks_by_name_and_takes_any_certificate(configured, meet):
    contexts = ServerContexts(configured("mail.example.org", "mx.example.net"))
    outbound = ClientContexts().context_factory("mx.example.net")
    client, server = meet(contexts, outbound.clientConnectionForTLS(None))
    assert server.get_servername() == b"mx.example.net"
    assert name_of(client) == "mx.example.net"


def test_an_address_is_no_server_name(configured, meet):
    contexts = ServerContexts(configured("mail.example.org"))
    _, server = meet(contexts, ClientContexts().context_factory("192.0.2.1").clientConnectionForTLS(None))
    assert server.get_servername() is None


def test_a_verifying_client_takes_one_of_the_names(configured, meet, trusting):
    contexts = ServerContexts(configured("mail.example.org"))
    outbound = trusting.context_factory("mail.example.org", names=("example.org", "mail.example.org"), insist=True)
    meet(contexts, outbound.clientConnectionForTLS(None))
    assert (outbound.problem, outbound.proven) == ("", ("mail.example.org",))


def test_a_verifying_client_refuses_another_name_and_an_unknown_authority(configured, meet, trusting):
    contexts = ServerContexts(configured("mail.example.org"))
    mismatched = trusting.context_factory("mail.example.org", names=("example.com",), insist=True)
    with pytest.raises(SSL.Error):
        meet(contexts, mismatched.clientConnectionForTLS(None))
    assert mismatched.problem == "certificate-host-mismatch"
    untrusted = ClientContexts().context_factory("mail.example.org", insist=True)
    with pytest.raises(SSL.Error):
        meet(contexts, untrusted.clientConnectionForTLS(None))
    assert untrusted.problem == "validation-failure"


def test_an_opportunistic_client_knows_what_it_could_verify_and_what_not(configured, meet, trusting, tmp_path):
    contexts = ServerContexts(configured("mail.example.org"))
    empty = tmp_path / "missing.pem"
    for clients, names, found in (
        (trusting, ("mail.example.org",), ("", ("mail.example.org",))),
        (trusting, ("example.com",), ("certificate-host-mismatch", ())),
        (ClientContexts(), ("mail.example.org",), ("validation-failure", ())),
        (ClientContexts(trust=empty), ("mail.example.org",), ("validation-failure", ())),
    ):
        outbound = clients.context_factory("mail.example.org", names=names)
        meet(contexts, outbound.clientConnectionForTLS(None))
        assert (outbound.problem, outbound.proven) == found


@pytest.mark.parametrize("insist", [False, True])
def test_a_certificate_of_an_unknown_kind_proves_nothing_and_encrypts(configured, meet, trusting, monkeypatch, insist):
    def unsupported(*_: object) -> bool:
        raise UnsupportedAlgorithm("a key from the future")

    for read in ("is_weak", "names_of"):
        monkeypatch.setattr(f"mta.tls.client.{read}", unsupported)
    outbound = trusting.context_factory("mail.example.org", insist=insist)
    try:
        meet(ServerContexts(configured("mail.example.org")), outbound.clientConnectionForTLS(None))
    except SSL.Error:
        assert insist
    else:
        assert not insist
    assert (outbound.problem, outbound.proven) == ("validation-failure", ())


def test_a_reload_makes_new_connections_go_by_the_new_authorities(configured, meet, trusting, tmp_path):
    contexts = ServerContexts(configured("mail.example.org"))
    clients = ClientContexts()
    clients.reload(tmp_path / "authority.pem")
    meet(contexts, clients.context_factory("mail.example.org", insist=True).clientConnectionForTLS(None))
    clients.reload(None)
    with pytest.raises(SSL.Error):
        meet(contexts, clients.context_factory("mail.example.org", insist=True).clientConnectionForTLS(None))


@pytest.mark.parametrize(("bits", "proves"), [(1024, False), (2048, True)])
def test_a_key_that_others_can_make_encrypts_and_proves_nothing(bits: int, proves: bool, trusting, authority, meet):
    key = rsa.generate_private_key(65537, bits)
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    signer = load_pem_private_key(authority.private_key_pem.bytes(), None)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mail.example.org")]), critical=True)
        .sign(signer, hashes.SHA256())
    )
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    context.use_certificate(certificate)
    context.use_privatekey(key)

    class Server:
        def context_factory(self, _: str) -> Server:
            return self

        def serverConnectionForTLS(self, _: object) -> SSL.Connection:
            return SSL.Connection(context, None)

    outbound = trusting.context_factory("mail.example.org")
    meet(Server(), outbound.clientConnectionForTLS(None))
    assert bool(outbound.proven) == proves
    strict = trusting.context_factory("mail.example.org", insist=True)
    if proves:
        meet(Server(), strict.clientConnectionForTLS(None))
    else:
        with pytest.raises(SSL.Error):
            meet(Server(), strict.clientConnectionForTLS(None))
