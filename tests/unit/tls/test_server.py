"""The server's contexts, handshaking in memory with pyOpenSSL's and our own client."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from mta.config.model import Tls
from mta.tls.certificate import TlsError
from mta.tls.channel_binding import channel_binding
from mta.tls.describe import cipher_bits, describe
from mta.tls.server import ServerContexts


def client_connection(name: str = "", alpn: list[bytes] | None = None, newest: int | None = None) -> SSL.Connection:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if newest is not None:
        context.set_max_proto_version(newest)
    connection = SSL.Connection(context, None)
    if name:
        connection.set_tlsext_host_name(name.encode())
    if alpn:
        connection.set_alpn_protos(alpn)
    return connection


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
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)[0]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("", "mail.example.org"),
        ("mail.example.org", "mail.example.org"),
        ("mx.example.net", "mx.example.net"),
        ("MX.Example.NET", "mx.example.net"),
        ("unknown.example", "mail.example.org"),
    ],
)
def test_the_name_asked_for_chooses_the_certificate(configured, meet, asked, given):
    contexts = ServerContexts(configured("mail.example.org", "mx.example.net"))
    client, server = meet(contexts, client_connection(asked))
    assert given == name_of(client)
    assert given == next(one for one in contexts.identities() if given in one.names).names[0]
    assert server.get_protocol_version_name() == "TLSv1.3"


def test_a_wildcard_stands_for_one_label(configured, meet):
    contexts = ServerContexts(configured("mail.example.org", "*.example.net"))
    assert name_of(meet(contexts, client_connection("a.example.net"))[0]) == "*.example.net"
    assert name_of(meet(contexts, client_connection("a.b.example.net"))[0]) == "mail.example.org"
    assert name_of(meet(contexts, client_connection("example.net"))[0]) == "mail.example.org"


def test_the_minimum_holds(configured, meet):
    contexts = ServerContexts(configured("mail.example.org", minimum="TLSv1.3"))
    with pytest.raises(SSL.Error):
        meet(contexts, client_connection(newest=SSL.TLS1_2_VERSION))


def test_smtp_is_agreed_by_alpn_and_other_protocols_are_refused(configured, meet):
    contexts = ServerContexts(configured("mail.example.org"))
    assert meet(contexts, client_connection(alpn=[b"h2", b"smtp"]))[0].get_alpn_proto_negotiated() == b"smtp"
    assert meet(contexts, client_connection())[0].get_alpn_proto_negotiated() == b""
    with pytest.raises(SSL.Error):
        meet(contexts, client_connection(alpn=[b"http/1.1", b"h2"]))


def test_alpn_holds_for_a_certificate_chosen_by_name_too(configured, meet):
    contexts = ServerContexts(configured("mail.example.org", "mx.example.net"))
    with pytest.raises(SSL.Error):
        meet(contexts, client_connection("mx.example.net", alpn=[b"http/1.1"]))


def test_a_connection_is_described(configured, meet):
    contexts = ServerContexts(configured("mail.example.org"))
    _client, server = meet(contexts, client_connection())
    assert describe(server) == "TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert cipher_bits(server) == 256
    _old_client, old_server = meet(contexts, client_connection(newest=SSL.TLS1_2_VERSION))
    assert describe(old_server).startswith("TLSv1.2 ECDHE-")
    assert describe(client_connection()) == ""
    assert cipher_bits(client_connection()) == 0


def test_both_ends_see_one_channel_and_no_two_connections_the_same(configured, meet):
    contexts = ServerContexts(configured("mail.example.org"))
    client, server = meet(contexts, client_connection())
    _, other = meet(contexts, client_connection())
    exported = channel_binding(server, "tls-exporter", server=True)
    assert exported is not None
    assert len(exported) == 32
    assert exported == channel_binding(client, "tls-exporter", server=False)
    assert exported != channel_binding(other, "tls-exporter", server=True)
    assert channel_binding(server, "tls-unique", server=True) is None


def test_the_end_point_binding_is_the_certificate_s_hash_also_when_a_name_chose_it(configured, meet):
    contexts = ServerContexts(configured("mail.example.org", "mx.example.net"))
    client, server = meet(contexts, client_connection("mx.example.net"))
    _, default = meet(contexts, client_connection())
    bound = channel_binding(server, "tls-server-end-point", server=True)
    assert bound == channel_binding(client, "tls-server-end-point", server=False)
    assert bound != channel_binding(default, "tls-server-end-point", server=True)


def test_the_exporter_is_not_used_below_tls_1_3(configured, meet):
    _, server = meet(ServerContexts(configured("mail.example.org")), client_connection(newest=SSL.TLS1_2_VERSION))
    assert channel_binding(server, "tls-exporter", server=True) is None


def test_a_reload_is_for_new_connections_and_keeps_the_factory(configured, pair, meet):
    contexts = ServerContexts(configured("mail.example.org"))
    factory = contexts.context_factory("mx")
    begun = factory.serverConnectionForTLS(None)
    before, _ = meet(contexts, client_connection())
    pair("mail.example.org", "new.example.org", label="mail.example.org")
    assert contexts.reload() == []
    assert contexts.context_factory("mx") is factory
    after, _ = meet(contexts, client_connection())
    old, new = (end.get_peer_certificate(as_cryptography=True) for end in (before, after))
    assert old != new
    assert begun.get_certificate(as_cryptography=True) == old


@pytest.mark.parametrize("fault", ["missing", "garbage", "mismatch", "exposed"])
def test_a_reload_with_a_fault_leaves_everything_as_it_was_and_says_why(configured, pair, meet, fault):
    tls = configured("mail.example.org", "mx.example.net")
    contexts = ServerContexts(tls)
    before = name_and_serial(meet(contexts, client_connection())[0])
    pair("mail.example.org", label="mail.example.org")  # a good new default certificate: not taken alone
    section = tls.name[0]
    if fault == "missing":
        section.certificate.unlink()
    elif fault == "garbage":
        section.certificate.write_text("no certificate")
    elif fault == "mismatch":
        section.private_key.write_bytes(pair("elsewhere.example")[1].read_bytes())
    else:
        section.private_key.chmod(0o644)
    problems = contexts.reload()
    assert [str(section.private_key if fault in {"mismatch", "exposed"} else section.certificate)] == [
        str(problem.path) for problem in problems
    ]
    assert before == name_and_serial(meet(contexts, client_connection())[0])


def name_and_serial(client: SSL.Connection) -> tuple[str, int]:
    certificate = client.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    return name_of(client), certificate.serial_number


def test_all_problems_are_told_at_once_with_the_chmod_that_mends(configured):
    tls = configured("mail.example.org", "mx.example.net")
    assert tls.private_key is not None
    tls.private_key.chmod(0o644)
    tls.name[0].certificate.unlink()
    with pytest.raises(TlsError) as caught:
        ServerContexts(tls)
    first, second = (str(problem) for problem in caught.value.problems)
    assert f"chmod 0640 {tls.private_key}" in first
    assert f"{tls.name[0].certificate}: can't be read: No such file or directory" == second


def test_a_key_too_weak_for_openssl_is_refused_at_the_start(tmp_path):
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    made = certificate.sign(key, hashes.SHA256())
    (tmp_path / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "k.pem").touch(0o600)
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(TlsError, match="too small"):
        ServerContexts(Tls(certificate=tmp_path / "c.pem", private_key=tmp_path / "k.pem"))


def test_no_certificate_at_all_is_an_error():
    with pytest.raises(TlsError, match="no certificate"):
        ServerContexts(Tls())
