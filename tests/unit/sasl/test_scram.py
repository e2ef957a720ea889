"""SCRAM against the vectors of the RFCs, against ourselves, and against what an attacker sends."""

from __future__ import annotations

import base64
from functools import partial

import pytest

from mta.sasl.mechanisms.scram import ScramServer
from mta.sasl.mechanisms.scram_client import Salting, ScramClient
from mta.sasl.mechanisms.step import Ask, Proven, SaslError, ScramClaim, Surroundings
from mta.sasl.saslprep import saslprep
from mta.sasl.verifier import Verifier, decoy, derive, proves, salted_password

# (hash, client-first, server-first, client-final, server-final): RFC 5802 section 5, RFC 7677 section 3; password "pencil"
SHA1 = (
    "sha1",
    b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
)
SHA256 = (
    "sha256",
    b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
)
VECTORS = pytest.mark.parametrize("vector", [SHA1, SHA256], ids=["RFC 5802", "RFC 7677"])
SALT = b"0123456789abcdef"
PENCIL = derive("pencil", "sha256", SALT, 4096)


def nonces(server_first: bytes, client_first: bytes) -> tuple[str, str]:
    """The client's part of the nonce and the server's."""
    client = client_first.decode().partition("r=")[2]
    return client, server_first.decode().partition(",")[0].removeprefix("r=" + client)


@VECTORS
def test_the_server_speaks_the_rfcs_words(vector):
    hash_name, client_first, server_first, client_final, server_final = vector
    _, ours = nonces(server_first, client_first)
    server = ScramServer(hash_name, Surroundings(nonce=lambda: ours))
    salt = base64.b64decode(server_first.partition(b",s=")[2].partition(b",")[0])
    assert Ask(b"") == server.start(None)
    assert ScramClaim("user", "", hash_name) == server.respond(client_first)
    assert Ask(server_first) == server.supply(derive("pencil", hash_name, salt, 4096))
    assert Proven(server_final) == server.respond(client_final)


@VECTORS
def test_the_client_speaks_the_rfcs_words(vector):
    hash_name, client_first, server_first, client_final, server_final = vector
    client = ScramClient("user", hash_name, nonces(server_first, client_first)[0])
    assert client_first == client.first()
    salting = client.take(server_first)
    assert client_final == client.final(salted_password("pencil", hash_name, salting.salt, salting.rounds))
    client.finish(server_final)
    with pytest.raises(SaslError):
        client.finish(server_final.replace(b"=", b"=A", 1))


def converse(server: ScramServer, client: ScramClient, password: str, verifier: Verifier = PENCIL) -> ScramClaim:
    """The whole exchange; raises SaslError where a side gives up."""
    claim = server.start(client.first())
    assert isinstance(claim, ScramClaim)
    salting = client.take(server.supply(verifier).data)
    proven = server.respond(client.final(salted_password(password, salting.hash, salting.salt, salting.rounds)))
    assert isinstance(proven, Proven)
    client.finish(proven.data)
    return claim


def a_server(**surroundings) -> ScramServer:
    return ScramServer("sha256", Surroundings(nonce=lambda: "ours", **surroundings))


a_client = partial(ScramClient, hash_name="sha256", nonce="theirs")


def test_names_with_commas_and_equals_signs_pass_unchanged():
    claim = converse(a_server(), a_client("a,b=c", authzid="x=,y"), "pencil")
    assert ScramClaim("a,b=c", "x=,y", "sha256") == claim


def test_a_wrong_password_and_a_decoy_fail_at_the_same_step_with_the_same_words():
    failures = []
    for verifier, password in ((PENCIL, "pen"), (decoy(b"secret", "user", "sha256"), "pencil")):
        with pytest.raises(SaslError) as caught:
            converse(a_server(), a_client("user"), password, verifier)
        failures.append(caught.value.cause)
    assert failures == ["SCRAM: the proof is false"] * 2


def test_a_decoy_is_stable_and_each_name_has_its_own():
    first = decoy(b"secret", "nobody@example.org", "sha256")
    assert first == decoy(b"secret", "nobody@example.org", "sha256")
    assert first.salt != decoy(b"secret", "nemo@example.org", "sha256").salt
    assert first.salt != decoy(b"another", "nobody@example.org", "sha256").salt
    assert len(first.salt) == len(PENCIL.salt)
    assert not proves("pencil", decoy(b"secret", "nobody", "sha256", 4096))


def test_plus_binds_the_channel():
    binding = {"tls-exporter": b"the channel"}.get
    server = ScramServer("sha256", Surroundings(lambda: "ours", binding, plus_offered=True), plus=True)
    converse(server, a_client("user", binding=("tls-exporter", b"the channel")), "pencil")


def test_plus_over_another_channel_fails_although_the_password_is_right():
    binding = {"tls-exporter": b"the channel"}.get
    server = ScramServer("sha256", Surroundings(lambda: "ours", binding, plus_offered=True), plus=True)
    with pytest.raises(SaslError, match="bindings"):
        converse(server, a_client("user", binding=("tls-exporter", b"a middleman's")), "pencil")


def test_a_client_that_missed_our_plus_unmasks_a_downgrade():
    with pytest.raises(SaslError, match="downgrade"):
        a_server(plus_offered=True).start(a_client("user", plus_missed=True).first())
    assert isinstance(a_server().start(a_client("user", plus_missed=True).first()), ScramClaim)


def test_channel_binding_without_plus_and_plus_without_channel_binding_are_refused():
    bound = a_client("user", binding=("tls-exporter", b"x")).first()
    with pytest.raises(SaslError, match="needs the -PLUS"):
        a_server(channel_binding={"tls-exporter": b"x"}.get).start(bound)
    with pytest.raises(SaslError, match="without channel binding"):
        ScramServer("sha256", Surroundings(lambda: "ours"), plus=True).start(a_client("user").first())
    with pytest.raises(SaslError, match="unsupported"):
        ScramServer("sha256", Surroundings(lambda: "ours", {"tls-unique": b"x"}.get), plus=True).start(
            a_client("user", binding=("tls-unique", b"x")).first()
        )


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,,n=,r=abc",
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,n=user,r=a b",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2cer,r=abc",
        b"n,a=x=y,n=user,r=abc",
        b"n,,m=ext,n=user,r=abc",
        b"n,,n=user,r=abc,m=ext",
        b"x,,n=user,r=abc",
        b"n,n=user,r=abc",
        b"n,,n=us\xffer,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=" + b"u" * 3000 + b",r=abc",
    ],
)
def test_a_malformed_client_first_is_refused(message):
    with pytest.raises(SaslError):
        a_server().start(message)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"c=biws", b"c=eSws"),  # y,, instead of n,,
        (b"c=biws", b"c=b*ws"),
        (b"r=theirsours", b"r=theirsour5"),
        (b"r=theirsours", b"r=theirs"),
        (b",p=", b",m=1,p="),
        (b",p=", b",p=AAAA"),
        (b",p=", b",q="),
        (b"c=biws", b"\xff"),
    ],
)
def test_a_client_final_that_was_tampered_with_is_refused(old, new):
    server, client = a_server(), a_client("user")
    server.start(client.first())
    salting = client.take(server.supply(PENCIL).data)
    final = client.final(salted_password("pencil", "sha256", salting.salt, salting.rounds))
    assert old in final
    with pytest.raises(SaslError):
        server.respond(final.replace(old, new))


def test_a_true_proof_over_another_nonce_is_refused():
    """A message prepared without knowing ours."""
    server, client = a_server(), a_client("user")
    server.start(client.first())
    salting = client.take(server.supply(PENCIL).data)
    client._nonce = "theirs-and-a-guess"
    with pytest.raises(SaslError, match="nonce"):
        server.respond(client.final(salted_password("pencil", "sha256", salting.salt, salting.rounds)))


@pytest.mark.parametrize(
    "server_first",
    [
        b"r=theirsours,s=QSXCR+Q6sek8bf92,i=4095",
        b"r=theirsours,s=QSXCR+Q6sek8bf92,i=600001",
        b"r=theirsours,s=QSXCR+Q6sek8bf92,i=0",
        b"r=theirs,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=others,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=theirsours,s=Q,i=4096",
        b"m=1,r=theirsours,s=QSXCR+Q6sek8bf92,i=4096",
        b"e=other-error",
        b"",
    ],
)
def test_the_client_refuses_a_server_that_would_harm_it(server_first):
    client = a_client("user")
    client.first()
    with pytest.raises(SaslError):
        client.take(server_first)


def test_the_client_takes_the_iteration_counts_in_use():
    client = a_client("user")
    client.first()
    assert Salting("sha256", b"salt", 600_000) == client.take(b"r=theirsours,s=c2FsdA==,i=600000")


def test_a_verifier_has_nothing_to_show():
    assert "stored" not in repr(PENCIL)


def test_our_server_and_client_agree_with_an_independent_implementation():
    scramp = pytest.importorskip("scramp", reason="scramp (PyPI) is not installed")
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    salt, stored_key, server_key, rounds = mechanism.make_auth_info("pencil", iteration_count=4096)

    theirs = scramp.ScramClient(["SCRAM-SHA-256"], "user", "pencil")
    server = a_server()
    server.start(theirs.get_client_first().encode())
    theirs.set_server_first(server.supply(Verifier("sha256", rounds, salt, stored_key, server_key)).data.decode())
    proven = server.respond(theirs.get_client_final().encode())
    assert isinstance(proven, Proven)
    theirs.set_server_final((proven.data or b"").decode())

    their_server = mechanism.make_server(lambda _: (salt, stored_key, server_key, rounds))
    ours = a_client("user")
    their_server.set_client_first(ours.first().decode())
    salting = ours.take(their_server.get_server_first().encode())
    salted = salted_password(saslprep("pencil"), "sha256", salting.salt, salting.rounds)
    their_server.set_client_final(ours.final(salted).decode())
    ours.finish(their_server.get_server_final().encode())
