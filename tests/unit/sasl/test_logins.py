"""Whole logins: mechanism, exchange, Portal, checker, avatar."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest
from twisted.cred.checkers import AllowAnonymousAccess, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred

from mta.config.model import MECHANISMS_KNOWN
from mta.mail import reply
from mta.mail.address import parse_address
from mta.sasl.authenticator import Authenticator, MechanismRefused, build_authenticator, login_domain
from mta.sasl.exchange import Challenge, Failure, Step, Success
from mta.sasl.mechanisms.scram_client import ScramClient
from mta.sasl.realm import ISender, Sender, SenderRealm
from mta.sasl.refusal import BackendUnavailable
from mta.sasl.registry import MECHANISMS
from mta.sasl.saslprep import saslprep
from mta.sasl.throttle import Throttle
from mta.sasl.user_database import UserDatabase
from mta.sasl.verifier import ROUNDS, salted_password

DEMO, PASSWORD, PEER = "demo@dev.test", "demo-password", "192.0.2.1"
WALL = 1_800_000_000.0


def now(deferred: Deferred[Step]) -> Step:
    """The step, which must be there."""
    seen: list[Step] = []
    deferred.addBoth(seen.append)
    assert seen, "no step yet"
    return seen[0]


def plain(authenticator, user=DEMO, password=PASSWORD, authzid="", peer=PEER) -> Step:
    exchange = authenticator.exchange("PLAIN", peer=peer, tls=True)
    return now(exchange.begin(f"{authzid}\0{user}\0{password}".encode()))


def scram(authenticator, user="demo", password=PASSWORD, tls=False, **options) -> tuple[list[str], Step]:
    """What came, step by step, and the outcome."""
    exchange = authenticator.exchange("SCRAM-SHA-256", peer=PEER, tls=tls)
    client = ScramClient(user, "sha256", "nonceofclient", **options)
    step = now(exchange.begin(client.first()))
    if not isinstance(step, Challenge):
        return [], step
    salting = client.take(step.data)
    salted = salted_password(saslprep(password), salting.hash, salting.salt, salting.rounds)
    outcome = now(exchange.respond(client.final(salted)))
    if isinstance(outcome, Success):
        client.finish(outcome.data)
    return ["challenge"], outcome


# --- who gets in ------------------------------------------------------------------------------------------------------
def test_plain_gives_the_sender_with_the_right_to_relay(authenticator):
    step = plain(authenticator, "demo")
    assert Success(Sender(DEMO, DEMO, "PLAIN")) == step
    assert step.avatar.may_relay
    assert ISender.providedBy(step.avatar)


def test_plain_and_login_step_by_step(authenticator):
    exchange = authenticator.exchange("plain", peer=PEER, tls="TLSv1.3 TLS_AES_256_GCM_SHA384")
    assert now(exchange.begin(None)).data == b""
    assert now(exchange.respond(b"\0demo\0demo-password")).avatar.authcid == DEMO
    exchange = authenticator.exchange("login", peer=PEER, tls=True)
    assert now(exchange.begin(None)).data == b"Username:"
    assert now(exchange.respond(b"demo")).data == b"Password:"
    assert Success(Sender(DEMO, DEMO, "LOGIN")) == now(exchange.respond(b"demo-password"))


def test_scram_proves_both_sides_in_clear_text_too(authenticator):
    steps, outcome = scram(authenticator)
    assert steps == ["challenge"]
    assert outcome.avatar == Sender(DEMO, DEMO, "SCRAM-SHA-256")
    assert outcome.data.startswith(b"v=")


def test_a_non_ascii_user_in_another_normal_form_gets_in_by_every_mechanism(authenticator):
    assert isinstance(plain(authenticator, "zoe\u0308", "pa\u00dfwort"), Success)
    assert isinstance(scram(authenticator, "zoe\u0308", "pa\u00dfwort")[1], Success)


def test_a_password_is_not_its_look_alike(authenticator):
    assert isinstance(plain(authenticator, "zo\u00eb", "passwort"), Failure)


# --- who does not -----------------------------------------------------------------------------------------------------
def test_a_wrong_password_and_an_unknown_user_get_one_answer(authenticator):
    known, unknown = plain(authenticator, password="wrong"), plain(authenticator, "nobody")
    assert Failure(reply.AUTH_FAILED, "wrong password", DEMO) == known
    assert Failure(reply.AUTH_FAILED, "unknown user", "nobody") == unknown


def test_scram_fails_at_the_same_step_for_both(authenticator):
    known, unknown = scram(authenticator, password="wrong"), scram(authenticator, "nobody")
    assert known[0] == unknown[0] == ["challenge"]
    assert known[1].reply is unknown[1].reply is reply.AUTH_FAILED


def test_a_scram_decoy_looks_like_a_user_and_stays_the_same(authenticator):
    def first_answer(name: str) -> tuple[str, str]:
        exchange = authenticator.exchange("SCRAM-SHA-256", peer=PEER, tls=False)
        _, salt, rounds = now(exchange.begin(f"n,,n={name},r=abc".encode())).data.decode().split(",")
        return salt, rounds

    decoy, real = first_answer("nobody"), first_answer("demo")
    assert decoy == first_answer("NOBODY@dev.test")
    assert len(decoy[0]) == len(real[0])
    assert decoy[0] != real[0]
    assert decoy[1] == real[1] == f"i={ROUNDS}"


def test_an_unknown_user_costs_the_same_rounds_as_a_known_one(authenticator, rounds):
    cost = {}
    for user, password in (
        (DEMO, "wrong"),
        ("nobody", "wrong"),
        ("a b c", "wrong"),
        (DEMO, "bell\x07"),
        ("x@y", "b\x07"),
    ):
        rounds.clear()
        assert plain(authenticator, user, password, peer=f"10.0.0.{len(cost)}").reply is reply.AUTH_FAILED
        cost[user, password] = list(rounds)
    assert list(cost.values()) == [[("sha256", ROUNDS)]] * 5


@pytest.mark.parametrize(
    ("mechanism", "initial"), [("PLAIN", b"no fields"), ("SCRAM-SHA-256", b"n,,broken"), ("LOGIN", b"\xff")]
)
def test_what_is_malformed_fails_and_is_over(authenticator, mechanism, initial):
    exchange = authenticator.exchange(mechanism, peer=PEER, tls=True)
    assert now(exchange.begin(initial)).reply is reply.AUTH_FAILED
    with pytest.raises(RuntimeError):
        exchange.respond(b"")


def test_nothing_shows_the_password(authenticator):
    for step in (
        plain(authenticator),
        plain(authenticator, password="wrong-secret"),
        plain(authenticator, "x", "secret"),
    ):
        assert PASSWORD not in repr(step)
        assert "secret" not in repr(step)


# --- on whose behalf --------------------------------------------------------------------------------------------------
def test_an_authzid_is_oneself_or_refused(authenticator):
    assert plain(authenticator, authzid="Demo").avatar.authzid == DEMO
    for authzid in ("other@dev.test", "a b"):
        assert plain(authenticator, authzid=authzid).reply is reply.AUTH_FAILED
    assert scram(authenticator, authzid="other@dev.test")[1].reply is reply.AUTH_FAILED


def test_a_hook_may_allow_another_authzid(configured, clock, threads):
    allowed = build_authenticator(
        configured(),
        reactor=clock,
        threads=threads,
        may_act_as=lambda who, whom: (who, whom) == (DEMO, "boss@dev.test"),
    )
    assert Success(Sender(DEMO, "boss@dev.test", "PLAIN")) == plain(allowed, authzid="boss")
    assert plain(allowed, authzid="other").reply is reply.AUTH_FAILED


# --- what is offered --------------------------------------------------------------------------------------------------
def test_the_registry_and_the_configuration_know_the_same_mechanisms():
    assert set(MECHANISMS_KNOWN) == set(MECHANISMS)


def test_clear_passwords_are_neither_offered_nor_taken_before_tls(authenticator):
    assert authenticator.offered(tls=True) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert authenticator.offered(tls=False) == ("SCRAM-SHA-256",)
    assert authenticator.offered(tls=True) is authenticator.offered(tls=True)
    for name in ("PLAIN", "login"):
        with pytest.raises(MechanismRefused) as caught:
            authenticator.exchange(name, peer=PEER, tls=False)
        assert caught.value.reply is reply.AUTH_NEEDS_TLS


def test_an_unknown_mechanism_is_told_from_one_that_needs_tls(authenticator):
    with pytest.raises(KeyError) as caught:
        authenticator.exchange("CRAM-MD5", peer=PEER, tls=False)
    assert caught.value.reply is reply.UNKNOWN_MECHANISM
    with pytest.raises(MechanismRefused) as caught:
        authenticator.exchange("ntlm", peer=PEER, tls=True)
    assert "SPA" in caught.value.cause


def test_only_what_is_configured_is_offered(configured, clock, threads):
    chosen = build_authenticator(configured(mechanisms=["LOGIN"]), reactor=clock, threads=threads)
    assert chosen.offered(tls=True) == ("LOGIN",)
    assert chosen.offered(tls=False) == ()
    with pytest.raises(MechanismRefused) as caught:
        chosen.exchange("PLAIN", peer=PEER, tls=True)
    assert caught.value.reply is reply.UNKNOWN_MECHANISM


def test_without_a_store_nothing_is_offered(configured, clock, threads):
    nothing = build_authenticator(configured(backend=[]), reactor=clock, threads=threads)
    assert nothing.offered(tls=True) == ()
    with pytest.raises(MechanismRefused) as caught:
        nothing.exchange("PLAIN", peer=PEER, tls=True)
    assert caught.value.reply is reply.AUTH_NOT_OFFERED


def an_authenticator(clock, *checkers) -> Authenticator:
    return Authenticator(
        Portal(SenderRealm("dev.test"), checkers),
        ["SCRAM-SHA-256", "PLAIN", "LOGIN"],
        domain="dev.test",
        throttle=Throttle(clock.seconds),
        call_later=clock.callLater,
        random=os.urandom,
    )


def test_any_password_checker_of_twisted_cred_serves_plain_and_login_and_nothing_more(clock):
    foreign = an_authenticator(clock, InMemoryUsernamePasswordDatabaseDontUse(demo=b"secret"))
    assert foreign.offered(tls=True) == ("PLAIN", "LOGIN")
    assert plain(foreign, "demo", "secret").avatar.authcid == "demo"
    assert plain(foreign, "demo", "wrong").reply is reply.AUTH_FAILED
    assert an_authenticator(clock, AllowAnonymousAccess()).offered(tls=True) == ()


def test_a_checker_that_breaks_is_our_fault_and_its_words_are_not_repeated(clock):
    class Broken(InMemoryUsernamePasswordDatabaseDontUse):
        def requestAvatarId(self, credentials):
            raise ValueError(f"{credentials.password!r} is odd")

    step = plain(an_authenticator(clock, Broken()), "demo", "secret")
    assert step.reply is reply.AUTH_UNAVAILABLE
    assert "secret" not in step.cause
    assert "ValueError" in step.cause


# --- the backend is away ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", ["missing", "corrupt", "exposed", "locked"])
def test_a_backend_that_fails_is_454_and_never_535(configured, clock, threads, database, fault, monkeypatch):
    monkeypatch.setitem(UserDatabase.__init__.__kwdefaults__, "busy_seconds", 0.05)
    authenticator = build_authenticator(configured(), reactor=clock, threads=threads)
    if fault == "missing":
        database.path.unlink()
    elif fault == "corrupt":
        database.path.write_bytes(b"\0" * 5000)
    elif fault == "exposed":
        database.path.chmod(0o644)
    else:
        writer = apsw.Connection(str(database.path))
        writer.execute("BEGIN EXCLUSIVE")
    for step in (plain(authenticator), plain(authenticator, "nobody"), scram(authenticator)[1]):
        assert step.reply is reply.AUTH_UNAVAILABLE
        assert str(database.path) in step.cause


def test_failures_of_the_backend_are_no_guesses(authenticator, database):
    kept = database.path.read_bytes()
    database.path.unlink()
    for _ in range(10):
        plain(authenticator)
    database.path.touch(0o600)
    database.path.write_bytes(kept)
    assert isinstance(plain(authenticator), Success)


@pytest.fixture
def two_stores(configured, database, clock, threads, tmp_path) -> tuple[Authenticator, Path]:
    first = UserDatabase(tmp_path / "first.db")
    first.create(os.urandom)
    first.add("first@dev.test", "first-password", now=0.0, random=os.urandom)
    return build_authenticator(
        configured(first.path, database.path), reactor=clock, threads=threads, wall=lambda: WALL
    ), first.path


def test_stores_are_asked_in_order_and_an_unknown_user_costs_one_derivation(two_stores, rounds):
    authenticator, _ = two_stores
    assert plain(authenticator, "first", "first-password").avatar.authcid == "first@dev.test"
    assert isinstance(plain(authenticator), Success)
    assert isinstance(scram(authenticator)[1], Success)
    rounds.clear()
    assert plain(authenticator, "nobody").reply is reply.AUTH_FAILED
    assert rounds == [("sha256", ROUNDS)]
    assert authenticator.exists(parse_address("first@dev.test"))
    assert authenticator.exists(parse_address("demo+x@dev.test"))
    assert not authenticator.exists(parse_address("nobody@dev.test"))


def test_a_store_that_is_away_hides_no_other_but_nobody_is_refused_for_it(two_stores):
    authenticator, first = two_stores
    first.unlink()
    assert isinstance(plain(authenticator), Success)
    assert plain(authenticator, "first", "first-password").reply is reply.AUTH_UNAVAILABLE
    assert plain(authenticator, password="wrong").reply is reply.AUTH_FAILED


def test_nobody_is_called_unknown_while_a_later_store_is_away(two_stores, database):
    authenticator, _ = two_stores
    database.path.unlink()
    assert plain(authenticator).reply is reply.AUTH_UNAVAILABLE
    assert scram(authenticator)[1].reply is reply.AUTH_UNAVAILABLE
    assert isinstance(plain(authenticator, "first", "first-password"), Success)


def test_exists_cannot_say_no_when_no_store_was_ever_read(configured, clock, threads, tmp_path):
    blind = build_authenticator(configured(tmp_path / "none.db"), reactor=clock, threads=threads)
    with pytest.raises(BackendUnavailable):
        blind.exists(parse_address(DEMO))


# --- the cache --------------------------------------------------------------------------------------------------------
def test_a_second_login_derives_no_key_and_uses_no_thread(authenticator, rounds, threads):
    plain(authenticator)
    rounds.clear()
    before = threads.runs
    assert isinstance(plain(authenticator), Success)
    assert rounds == []
    assert threads.runs == before


def test_a_wrong_password_is_never_answered_from_the_cache(authenticator):
    plain(authenticator)
    assert plain(authenticator, password="wrong").reply is reply.AUTH_FAILED


def test_a_remembered_login_ends_with_its_time(authenticator, rounds, clock):
    plain(authenticator)
    rounds.clear()
    clock.advance(61)
    plain(authenticator)
    assert rounds == [("sha256", ROUNDS)]


def test_a_changed_password_ends_it_at_once(authenticator, database):
    plain(authenticator)
    database.change_password(DEMO, "another", now=0.0, random=os.urandom)
    assert plain(authenticator).reply is reply.AUTH_FAILED
    assert isinstance(plain(authenticator, password="another"), Success)


def test_a_change_within_the_clock_s_tick_is_seen_too(configured, database, clock, threads):
    """The file was changed just before the login: its time might not show the next change."""
    fresh = build_authenticator(
        configured(), reactor=clock, threads=threads, wall=lambda: os.stat(database.path).st_mtime + 0.01
    )
    plain(fresh)
    state = os.stat(database.path)
    database.change_password(DEMO, "another", now=0.0, random=os.urandom)
    os.utime(database.path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert plain(fresh).reply is reply.AUTH_FAILED


def test_another_user_s_change_costs_a_look_and_no_derivation(authenticator, database, rounds):
    plain(authenticator)
    database.delete("zo\u00eb@dev.test")
    os.utime(database.path, (1.0, 1.0))
    rounds.clear()
    assert isinstance(plain(authenticator), Success)
    assert rounds == []


# --- throttle, cancellation -------------------------------------------------------------------------------------------
def test_guesses_wait_on_the_clock(authenticator, clock):
    for _ in range(3):
        plain(authenticator, password="wrong")
    steps: list[Step] = []
    authenticator.exchange("PLAIN", peer=PEER, tls=True).begin(b"\0demo\0demo-password").addCallback(steps.append)
    assert steps == []
    clock.advance(1)
    assert isinstance(steps[0], Success)


def test_all_spellings_and_both_kinds_of_mechanism_count_together(authenticator, clock):
    for number, user in enumerate(("demo", "DEMO", "demo@dev.test")):
        plain(authenticator, user, "wrong", peer=f"192.0.2.{number + 100}")
    steps: list[Step] = []
    exchange = authenticator.exchange("SCRAM-SHA-256", peer="203.0.113.9", tls=True)
    exchange.begin(b"n,,n=Demo,r=abc").addCallback(steps.append)
    assert steps == []
    clock.advance(1)
    assert isinstance(steps[0], Challenge)


def test_who_would_wait_too_long_is_told_to_come_back(authenticator, clock):
    for _ in range(9):
        authenticator.throttle.failed(PEER, DEMO)
    exchanges = [authenticator.exchange("PLAIN", peer=PEER, tls=True) for _ in range(4)]
    answers: list[Step] = []
    for exchange in exchanges:
        exchange.begin(b"\0demo\0wrong").addCallback(answers.append)
    assert [step.reply for step in answers] == [reply.AUTH_UNAVAILABLE] * 2  # the others wait for 30 s and 60 s
    assert "throttled" in answers[0].cause


def test_after_abort_nothing_happens_any_more(authenticator, clock):
    for _ in range(3):
        plain(authenticator, password="wrong")
    steps: list[Step] = []
    waiting = authenticator.exchange("PLAIN", peer=PEER, tls=True)
    waiting.begin(b"\0demo\0demo-password").addBoth(steps.append)
    waiting.abort()
    clock.advance(60)
    assert steps == []
    assert clock.getDelayedCalls() == []


def test_abort_cancels_what_a_checker_is_about(clock):
    cancelled = []

    class Slow(InMemoryUsernamePasswordDatabaseDontUse):
        def requestAvatarId(self, credentials):
            return Deferred(lambda _: cancelled.append("cancelled"))

    exchange = an_authenticator(clock, Slow()).exchange("PLAIN", peer=PEER, tls=True)
    steps: list[Step] = []
    exchange.begin(b"\0demo\0secret").addBoth(steps.append)
    exchange.abort()
    assert cancelled == ["cancelled"]
    assert steps == []


def test_a_scram_exchange_aborted_in_the_middle_leaves_nothing(authenticator):
    exchange = authenticator.exchange("SCRAM-SHA-256", peer=PEER, tls=False)
    now(exchange.begin(b"n,,n=demo,r=abc"))
    exchange.abort()
    with pytest.raises(RuntimeError):
        exchange.respond(b"")
    assert authenticator.throttle.admit(PEER, DEMO) == 0


# --- configuration ----------------------------------------------------------------------------------------------------
def test_the_domain_of_a_login_is_the_realm_or_the_host_s_domain(configured):
    assert login_domain(configured()) == "dev.test"
    assert login_domain(configured(realm="example.org")) == "example.org"
    assert login_domain(configured(realm="")) == "dev.test"


def test_a_reload_keeps_the_throttle_and_the_threads(authenticator, configured, clock):
    after = build_authenticator(configured(mechanisms=["PLAIN"]), reactor=clock, previous=authenticator)
    assert after.throttle is authenticator.throttle
    assert after.threads is authenticator.threads
    assert after.offered(tls=True) == ("PLAIN",)
