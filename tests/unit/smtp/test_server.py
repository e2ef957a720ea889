"""The server engine by hand: tickets, the one reset, windows, LMTP, what a closed session still does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mta.mail import reply
from mta.mail.reply import Reply
from mta.smtp import events
from mta.smtp.events import NEED_DATA, WAITING
from mta.smtp.extensions import ServerProfile, ehlo_reply, offered_extensions
from mta.smtp.server import ServerEngine
from mta.smtp.states import Mode
from mta.testing.engine_driver import EngineDriver, accept_all

PROFILE = ServerProfile("mail.example.org", starttls=True, auth=True)
BEGUN = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@b.example>\r\n"
RCPT = b"RCPT TO:<c@d.example>\r\n"


def engine_after(*octets: bytes, profile: ServerProfile = PROFILE) -> ServerEngine:
    """An engine that has taken these, everything answered well."""
    engine = ServerEngine(profile)
    engine.mechanisms = ("PLAIN",)
    engine.greet(Reply(220, "", "hello"))
    for piece in octets:
        engine.receive(piece)
        while (event := engine.next_event()) is not NEED_DATA and event is not WAITING:
            if isinstance(event, events.ContentBlock):
                continue
            answer = Reply(250, "", "ok") if isinstance(event, events.Hello) else accept_all(event)  # type: ignore[arg-type]
            if answer is not None:
                assert isinstance(answer, Reply)
                engine.answer(event.ticket, answer)  # type: ignore[union-attr]
    engine.data_to_send()
    return engine


# --- tickets --------------------------------------------------------------------------------------------------------------


def test_nothing_is_looked_at_while_an_answer_is_owed() -> None:
    engine = engine_after(BEGUN)
    engine.receive(MAIL + b"NOOP\r\n" + RCPT)
    event = engine.next_event()
    assert isinstance(event, events.Mail)
    assert engine.next_event() is WAITING
    assert engine.data_to_send() == b""
    engine.answer(event.ticket, Reply(250, "2.1.0", "late"))
    assert isinstance(engine.next_event(), events.Rcpt)
    assert engine.data_to_send() == b"250 2.1.0 late\r\n250 2.0.0 Ok\r\n"


def test_a_ticket_is_good_for_one_answer() -> None:
    engine = engine_after(BEGUN)
    engine.receive(MAIL)
    event = engine.next_event()
    assert isinstance(event, events.Mail)
    engine.answer(event.ticket, reply.MAIL_OK)
    with pytest.raises(ValueError, match="not open"):
        engine.answer(event.ticket, reply.MAIL_OK)
    with pytest.raises(ValueError, match="not open"):
        engine.answer(event.ticket + 1, reply.MAIL_OK)
    with pytest.raises(ValueError, match="not open"):
        engine.challenge(0, b"")


def test_content_waits_for_the_window() -> None:
    profile = ServerProfile("mail.example.org", content_window=1000)
    engine = engine_after(BEGUN, MAIL, RCPT, b"DATA\r\n", profile=profile)
    engine.receive(b"x" * 1500)
    block = engine.next_event()
    assert isinstance(block, events.ContentBlock)
    assert engine.next_event() is WAITING
    engine.receive(b"\r\n.\r\n")
    assert engine.next_event() is WAITING
    engine.grant(len(block.data))
    assert isinstance(engine.next_event(), events.ContentBlock)
    assert isinstance(engine.next_event(), events.ContentEnd)


# --- the one reset --------------------------------------------------------------------------------------------------------

EXITS: dict[str, bytes] = {
    "RSET": b"RSET\r\n",
    "EHLO": b"EHLO again.example\r\n",
    "HELO": b"HELO again.example\r\n",
    "the end of DATA": b"BDAT 3 LAST\r\na\r\n",
    "refused content": b"BDAT 2 LAST\r\na\n",
    "a failed chunk and RSET": b"BDAT 2\r\na\nRSET\r\n",
    "a chunk and RSET": b"BDAT 2\r\nabRSET\r\n",
    "a chunk and EHLO": b"BDAT 2\r\nabEHLO x.example\r\n",
}


@pytest.mark.parametrize("way", EXITS)
def test_every_way_out_of_a_transaction_ends_it_once_and_whole(way: str) -> None:
    driver = EngineDriver(PROFILE)
    driver.converse([BEGUN, MAIL + RCPT, EXITS[way]])
    assert sum(isinstance(each, events.TransactionEnded) for each in driver.seen) == 1
    for command in (RCPT, b"DATA\r\n", b"BDAT 0 LAST\r\n"):
        assert driver.send(command).startswith(b"503 5.5.1 "), command
    assert not driver.engine.in_transaction
    assert driver.converse([MAIL, RCPT]).count(b"250 ") == 2
    assert driver.send(b"BDAT 4 LAST\r\nnew\n").startswith(b"550 ")  # nothing of an older fault or chunk is left
    driver.converse([MAIL, RCPT, b"BDAT 5 LAST\r\nnew\r\n"])
    assert driver.content[-1] == b"new\r\n"


@pytest.mark.parametrize("refused", [events.Data, events.ContentEnd])
def test_a_refusal_by_the_session_ends_the_transaction_too(refused: type) -> None:
    def answer(event: events.Event) -> Reply | bytes | None:
        return reply.SPOOL_FULL if isinstance(event, refused) else accept_all(event)

    for words in ([b"DATA\r\n", b"x\r\n.\r\n"], [b"BDAT 3 LAST\r\nx\r\n"]):
        driver = EngineDriver(PROFILE, answer)
        driver.converse([BEGUN, MAIL + RCPT, *(words if refused is not events.Data else words[:1])])
        assert b"452 4.3.1 " in driver.wire
        assert driver.send(RCPT).startswith(b"503 ")
        assert sum(isinstance(each, events.TransactionEnded) for each in driver.seen) == 1


def test_a_refused_mail_opens_nothing() -> None:
    driver = EngineDriver(
        PROFILE, lambda event: reply.AUTH_REQUIRED if isinstance(event, events.Mail) else accept_all(event)
    )
    driver.converse([BEGUN, MAIL])
    assert driver.send(RCPT).startswith(b"503 ")
    assert not any(isinstance(each, events.TransactionEnded) for each in driver.seen)


def test_tls_forgets_all_that_was_said() -> None:
    """RFC 3207 section 4.2."""
    driver = EngineDriver(PROFILE)
    driver.converse([BEGUN, b"STARTTLS\r\n"])
    engine = driver.engine
    assert (engine.over_tls, engine.hello, engine.authenticated) == (True, "", False)
    for command in (MAIL, RCPT, b"AUTH PLAIN\r\n"):
        assert driver.send(command).startswith(b"503 ")


def test_octets_before_the_handshake_is_done_are_dropped() -> None:
    engine = engine_after(BEGUN)
    engine.receive(b"STARTTLS\r\n")
    event = engine.next_event()
    assert isinstance(event, events.StartTls)
    engine.answer(event.ticket, reply.READY_FOR_TLS)
    assert engine.mode is Mode.HANDSHAKE
    engine.receive(b"EHLO evil.example\r\nMAIL FROM:<evil@x.example>\r\n")
    assert engine.next_event() is WAITING
    engine.authenticated = True  # whatever may have led to it
    engine.tls_started()
    assert engine.next_event() is NEED_DATA
    assert not engine.authenticated


def test_octets_that_come_while_starttls_is_answered_close() -> None:
    engine = engine_after(BEGUN)
    engine.receive(b"STARTTLS\r\n")
    event = engine.next_event()
    assert isinstance(event, events.StartTls)
    engine.receive(b"MAIL")
    engine.answer(event.ticket, reply.READY_FOR_TLS)
    assert engine.data_to_send().startswith(b"554 5.5.1 ")
    assert engine.mode is Mode.CLOSED


def test_starttls_that_can_not_be_had_leaves_the_session() -> None:
    driver = EngineDriver(
        PROFILE, lambda event: reply.TLS_UNAVAILABLE if isinstance(event, events.StartTls) else accept_all(event)
    )
    assert driver.converse([BEGUN, b"STARTTLS\r\n"]).endswith(
        b"454 4.7.0 TLS is not available for a temporary reason\r\n"
    )
    assert driver.send(MAIL).startswith(b"250 ")


# --- the end from outside -------------------------------------------------------------------------------------------------


def test_a_session_ended_from_outside_hands_nothing_out_any_more() -> None:
    """A message whose end had come but was not handed out must not be stored behind the 421 that its client hears."""
    engine = engine_after(BEGUN, MAIL, RCPT, b"DATA\r\n")
    engine.receive(b"Subject: x\r\n\r\n.\r\n")
    assert isinstance(engine.next_event(), events.ContentBlock)  # ContentEnd waits behind it
    engine.close(reply.IDLE_TOO_LONG, "idle")
    left = []
    while (event := engine.next_event()) is not WAITING:
        left.append(event)
    assert [type(each) for each in left] == [events.TransactionEnded, events.Close]
    assert engine.data_to_send() == reply.IDLE_TOO_LONG.wire


def test_a_reset_that_was_not_handed_out_is_told_at_the_end_all_the_same() -> None:
    engine = engine_after(BEGUN, MAIL, RCPT)
    engine.receive(b"RSET\r\n" + MAIL)
    assert isinstance(engine.next_event(), events.TransactionEnded)
    mail = engine.next_event()
    assert isinstance(mail, events.Mail)
    engine.close(reply.SHUTTING_DOWN, "shutdown")
    assert isinstance(engine.next_event(), events.Close)
    with pytest.raises(ValueError, match="not open"):
        engine.answer(mail.ticket, reply.MAIL_OK)


def test_a_closed_session_hears_and_says_nothing() -> None:
    driver = EngineDriver(PROFILE)
    driver.converse([BEGUN, b"QUIT\r\nNOOP\r\n"])
    assert driver.closed
    assert driver.send(b"NOOP\r\n") == b""
    driver.engine.close(reply.SHUTTING_DOWN, "shutdown")
    assert driver.send(b"") == b""
    assert driver.engine.buffered == 0


def test_nothing_is_said_in_the_middle_of_a_handshake() -> None:
    engine = engine_after(BEGUN)
    engine.receive(b"STARTTLS\r\n")
    event = engine.next_event()
    assert isinstance(event, events.StartTls)
    engine.answer(event.ticket, reply.READY_FOR_TLS)
    engine.data_to_send()
    engine.close(reply.IDLE_TOO_LONG, "handshake timed out")
    assert engine.data_to_send() == b""
    assert isinstance(engine.next_event(), events.Close)


def test_who_talks_before_the_greeting_is_sent_away() -> None:
    engine = ServerEngine(PROFILE)
    engine.receive(b"EHLO c.example\r\n")
    engine.greet(Reply(220, "", "hello"))
    assert engine.data_to_send() == b"220 hello\r\n" + reply.PIPELINED_TOO_EARLY.wire
    assert isinstance(engine.next_event(), events.Close)


def test_a_greeting_can_be_a_refusal() -> None:
    engine = ServerEngine(PROFILE)
    engine.greet(reply.TOO_MANY_CONNECTIONS)
    assert isinstance(engine.next_event(), events.Close)
    assert engine.mode is Mode.CLOSED


# --- errors ---------------------------------------------------------------------------------------------------------------


def test_errors_are_slowed_then_end_the_session() -> None:
    driver = EngineDriver(ServerProfile("m.example", soft_errors=2, hard_errors=4))
    driver.send(BEGUN)
    driver.send(b"X\r\n" * 10)
    assert [type(each).__name__ for each in driver.seen[1:]] == ["Refused"] * 2 + [
        "Refused",
        "Penalty",
        "Refused",
        "Close",
    ]
    assert driver.wire.count(b"500 5.5.2") == 4
    assert driver.wire.endswith(reply.TOO_MANY_ERRORS.wire)
    assert driver.engine.errors == 4


def test_an_accepted_message_makes_good_for_errors_but_they_stay_counted() -> None:
    driver = EngineDriver(ServerProfile("m.example", soft_errors=2, hard_errors=4))
    driver.send(BEGUN)
    for _ in range(5):
        driver.send(b"X\r\n" * 2 + MAIL + RCPT + b"BDAT 0 LAST\r\n")
    assert not driver.closed
    assert not any(isinstance(each, events.Penalty) for each in driver.seen)
    assert driver.engine.errors == 10


def test_a_421_by_the_session_ends_it() -> None:
    driver = EngineDriver(
        PROFILE, lambda event: reply.SPOOL_DOWN if isinstance(event, events.Mail) else accept_all(event)
    )
    driver.converse([BEGUN, MAIL + b"NOOP\r\n"])
    assert driver.wire.endswith(reply.SPOOL_DOWN.wire)
    assert driver.closed


def test_recipients_past_the_limit_are_counted_anew_in_each_transaction() -> None:
    driver = EngineDriver(ServerProfile("m.example", recipients_limit=2, hard_errors=3))
    driver.send(BEGUN)
    for _ in range(5):
        said = driver.send(MAIL + RCPT * 4 + b"RSET\r\n")
        assert said.count(b"452 4.5.3 ") == 2
    assert driver.engine.errors == 0


@pytest.mark.parametrize(
    "verb",
    ["GET", "post", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI", "Host:", "User-Agent:"],
)
def test_words_of_http_close(verb: str) -> None:
    driver = EngineDriver(PROFILE)
    assert driver.send(f"{verb} / HTTP/1.1\r\nNOOP\r\n".encode()) == reply.NOT_SMTP.wire
    assert driver.closed


def test_a_tls_hello_is_known_from_its_first_octets_however_they_come() -> None:
    hello = b"\x16\x03\x01\x00\xc8\x01" + b"\xaa" * 100
    for pieces in ([hello], [hello[:1], hello[1:]], [hello[:2], hello[2:]], [hello[:1], hello[1:2], hello[2:]]):
        driver = EngineDriver(PROFILE)
        assert driver.send(*pieces) == reply.TLS_HELLO_ON_CLEAR.wire


# --- what a log may show ---------------------------------------------------------------------------------------------------

SECRET = b"AGRlbW8AZGVtby1wYXNzd29yZA=="


@pytest.mark.parametrize(
    "turns",
    [
        [b"AUTH PLAIN " + SECRET + b"\r\n"],  # before the hello
        [BEGUN, MAIL, b"AUTH PLAIN " + SECRET + b"\r\n"],  # inside a transaction
        [BEGUN, b"AUTH PLAIN " + SECRET + b"\x00\r\n"],  # with a control character
        [BEGUN, b"AUTH PLAIN " + SECRET + b"*\r\n"],  # not base64
        [BEGUN, b"AUTH PLAIN\r\n", b"*\r\n", SECRET + b"\r\n"],  # sent on after the exchange was over
        [BEGUN, b"AUTH XYZZY\r\n", SECRET + b"\x07\r\n"],
        [BEGUN, b"AUTH LOGIN\r\n", b"=" + SECRET + b"\r\n"],
    ],
)
def test_no_password_is_shown_to_the_log(turns: list[bytes]) -> None:
    def answer(event: events.Event) -> Reply | bytes | None:
        if isinstance(event, events.AuthStart) and event.mechanism == "XYZZY":
            return reply.UNKNOWN_MECHANISM
        return accept_all(event)

    driver = EngineDriver(PROFILE, answer)
    driver.converse(turns)
    shown = [each.line for each in driver.seen if isinstance(each, events.Refused)]
    assert not any(SECRET[:8] in line for line in shown)


def test_a_refused_line_is_shown_in_part() -> None:
    driver = EngineDriver(PROFILE)
    driver.send(b"XYZZY " + b"x" * 1000 + b"\r\n")
    refused = driver.seen[-1]
    assert isinstance(refused, events.Refused)
    assert len(refused.line) == 200


# --- LMTP -----------------------------------------------------------------------------------------------------------------


def lmtp(answer: Callable[[events.Event], object]) -> EngineDriver:
    driver = EngineDriver(ServerProfile("m.example", lmtp=True), answer)  # type: ignore[arg-type]
    driver.send(b"LHLO c.example\r\n")
    driver.send(MAIL + RCPT + b"RCPT TO:<no@d.example>\r\n" + RCPT)
    driver.send(b"DATA\r\n")
    return driver


def refuse_no(event: events.Event) -> Reply | bytes | None:
    return reply.NO_SUCH_USER if isinstance(event, events.Rcpt) and event.address.local == "no" else accept_all(event)


def test_lmtp_has_a_reply_for_each_recipient_that_was_accepted() -> None:
    """RFC 2033 section 4.2."""
    assert lmtp(refuse_no).send(b"x\r\n.\r\n") == b"250 2.0.0 Ok\r\n" * 2
    assert lmtp(refuse_no).send(b"x\n\r\n.\r\n") == reply.BARE_NEWLINE.wire * 2

    def each(event: events.Event) -> object:
        return (reply.SPOOL_FULL, reply.RESET_OK) if isinstance(event, events.ContentEnd) else refuse_no(event)

    driver = EngineDriver(ServerProfile("m.example", lmtp=True))
    driver.converse([b"LHLO c.example\r\n", MAIL + RCPT * 2, b"DATA\r\n"])
    engine = driver.engine
    engine.receive(b"x\r\n.\r\n")
    while not isinstance(event := engine.next_event(), events.ContentEnd):
        assert isinstance(event, events.ContentBlock)
    engine.answer(event.ticket, (reply.SPOOL_FULL, reply.RESET_OK))
    assert engine.data_to_send() == reply.SPOOL_FULL.wire + reply.RESET_OK.wire
    assert not engine.in_transaction


def test_lmtp_and_smtp_have_their_own_hellos() -> None:
    for verb in (b"HELO", b"EHLO"):
        assert EngineDriver(ServerProfile("m.example", lmtp=True)).send(verb + b" c.example\r\n").startswith(b"500 ")
    assert EngineDriver(PROFILE).send(b"LHLO c.example\r\n").startswith(b"500 ")


# --- what is announced -----------------------------------------------------------------------------------------------------


def test_extensions_follow_the_state() -> None:
    profile = ServerProfile(
        "m.example", starttls=True, auth=True, size_limit=1000, recipients_limit=7, messages_limit=3
    )
    clear = ehlo_reply(profile, False, ())
    inside = ehlo_reply(profile, True, ("PLAIN", "LOGIN"))
    assert b"250-STARTTLS\r\n" in clear.wire
    assert b"AUTH" not in clear.wire
    assert b"REQUIRETLS" not in clear.wire
    assert b"STARTTLS" not in inside.wire
    assert b"250-AUTH PLAIN LOGIN\r\n" in inside.wire
    assert b"250-REQUIRETLS\r\n" in inside.wire
    assert b"250-SIZE 1000\r\n" in inside.wire
    assert b"LIMITS MAILMAX=3 RCPTMAX=7" in inside.wire
    assert inside.wire.startswith(b"250-m.example\r\n")
    assert "BINARYMIME" not in offered_extensions(profile, True, ())
    assert {"AUTH", "REQUIRETLS"} <= offered_extensions(profile, True, ("PLAIN",))
