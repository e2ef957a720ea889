"""The client engine: one outcome for each recipient, whatever the peer does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.address import parse_address
from mta.mail.envelope import Message, Notify, Recipient
from mta.mail.outcome import Deferred, Failed, Outcome, Relayed
from mta.smtp.client import ClientEngine
from mta.smtp.client_events import (
    Cause,
    ClientEvent,
    Farewell,
    FinalReplied,
    Finished,
    Lack,
    Phase,
    Ready,
    RecipientReplied,
    SendContent,
    SessionOver,
    StartTls,
)
from mta.testing.letters import message, recipient

GREETING = b"220 peer ESMTP\r\n"
EHLO = b"250-peer\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n"
PLAIN_EHLO = b"250 peer\r\n"
ALICE, BOB, CAROL = (recipient(i, f"{name}@example.org") for i, name in enumerate(("alice", "bob", "carol"), 1))


class Talk:
    """An engine and what it said and heard. Content is given as soon as it is asked for."""

    def __init__(self, **options: Any) -> None:
        self.engine = ClientEngine("me.example.org", **options)
        self.events: list[ClientEvent] = []
        self.sent = b""
        self.content: Sequence[bytes] = (b"Subject: x\r\n\r\n.dot\r\n",)

    def hear(self, *octets: bytes) -> bytes:
        """What the engine says to it."""
        for each in octets:
            self.engine.receive(each)
            self._drain()
        return self._said()

    def send(self, *recipients: Recipient, text: Message | None = None, sender: str = "s@example.org") -> bytes:
        self.engine.send(text or message(), parse_address(sender, utf8=True), recipients, 20)
        self._drain()
        return self._said()

    def _drain(self) -> None:
        while (event := self.engine.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, SendContent):
                self.engine.content(*self.content)
                self.engine.end_content()

    def _said(self) -> bytes:
        said = self.engine.data_to_send()
        self.sent += said
        return said

    def lost(self) -> None:
        self.engine.connection_lost("connection lost")
        self._drain()

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        (finished,) = (event for event in self.events if isinstance(event, Finished))
        return finished.outcomes

    @property
    def over(self) -> SessionOver:
        (event,) = (event for event in self.events if isinstance(event, SessionOver))
        return event


def ready(ehlo: bytes = EHLO, **options: Any) -> Talk:
    talk = Talk(**options)
    talk.hear(GREETING, ehlo)
    assert talk.events == [Ready()]
    talk.events.clear()
    return talk


# --- the lawful way ---------------------------------------------------------------------------------------------------


def test_mail_rcpt_and_data_go_out_together_and_content_in_one_piece() -> None:
    talk = ready()
    assert talk.sent == b"EHLO me.example.org\r\n"
    assert talk.send(ALICE, BOB) == (
        b"MAIL FROM:<s@example.org> SIZE=20\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
    )
    assert talk.hear(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n354 go\r\n") == (
        b"Subject: x\r\n\r\n..dot\r\n.\r\n"
    )
    assert talk.engine.phase is Phase.DOT
    assert talk.hear(b"250 2.6.0 queued as 1\r\n") == b""
    assert talk.outcomes == (Relayed(250, "2.6.0", "queued as 1", True),) * 2
    assert talk.events[-1] == Ready()
    assert talk.send(CAROL).startswith(b"MAIL")  # the connection serves again


def test_without_pipelining_each_command_waits_for_its_reply() -> None:
    talk = ready(PLAIN_EHLO)
    assert talk.send(ALICE, BOB) == b"MAIL FROM:<s@example.org>\r\n"
    assert talk.hear(b"250 ok\r\n") == b"RCPT TO:<alice@example.org>\r\n"
    assert talk.hear(b"250 ok\r\n") == b"RCPT TO:<bob@example.org>\r\n"
    assert talk.hear(b"550 no\r\n") == b"DATA\r\n"
    assert talk.hear(b"354 go\r\n").endswith(b"\r\n.\r\n")
    talk.hear(b"250 ok\r\n")
    assert talk.outcomes == (Relayed(250, "2.0.0", "ok"), Failed(550, "5.0.0", "no"))


def test_a_server_that_knows_no_ehlo_gets_helo() -> None:
    talk = Talk()
    talk.hear(GREETING)
    assert talk.hear(b"502 5.5.1 what?\r\n") == b"HELO me.example.org\r\n"
    talk.hear(b"250 peer\r\n")
    assert talk.events == [Ready()]
    assert talk.send(ALICE) == b"MAIL FROM:<s@example.org>\r\n"


def test_parameters_are_sent_when_they_are_needed_and_offered() -> None:
    text = replace(message(), envid="a+b c", ret="HDRS", has_8bit=True)
    asking = replace(ALICE, notify=Notify.SUCCESS | Notify.DELAY, orcpt="rfc822;a=l@example.org")
    never = replace(BOB, notify=Notify.NEVER)
    assert ready().send(asking, never, text=text) == (
        b"MAIL FROM:<s@example.org> SIZE=20 BODY=8BITMIME RET=HDRS ENVID=a+2Bb+20c\r\n"
        b"RCPT TO:<alice@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+3Dl@example.org\r\n"
        b"RCPT TO:<bob@example.org> NOTIFY=NEVER\r\nDATA\r\n"
    )
    plain = ready(b"250-peer\r\n250-8bitmime\r\n250 PIPELINING\r\n")
    assert plain.send(asking, text=text).startswith(b"MAIL FROM:<s@example.org> BODY=8BITMIME\r\nRCPT TO:<alice@")


def test_utf8_goes_where_it_is_understood() -> None:
    talk = ready(EHLO.replace(b"250 ENH", b"250-SMTPUTF8\r\n250 ENH"))
    jose = recipient(1, "josé@example.org")
    sent = talk.send(jose, text=replace(message(), needs_utf8=True))
    assert sent.startswith(b"MAIL FROM:<s@example.org> SIZE=20 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<jos\xc3\xa9@")


@pytest.mark.parametrize(
    ("text", "to", "ehlo", "lack", "status"),
    [
        (replace(message(), needs_utf8=True), ALICE, EHLO, Lack.UTF8, "5.6.7"),
        (message(), recipient(1, "josé@example.org"), EHLO, Lack.UTF8, "5.6.7"),
        (replace(message(), has_8bit=True), ALICE, PLAIN_EHLO, Lack.EIGHT_BIT, "5.6.3"),
        (replace(message(), requiretls=True), ALICE, EHLO, Lack.REQUIRETLS, "5.7.30"),
    ],
)
def test_what_a_hop_does_not_offer_is_told_and_nothing_is_sent(
    text: Message, to: Recipient, ehlo: bytes, lack: Lack, status: str
) -> None:
    talk = ready(ehlo)
    assert talk.send(to, text=text) == b""
    (finished, again) = talk.events
    assert isinstance(finished, Finished)
    assert finished.lack is lack
    assert isinstance(finished.outcomes[0], Failed)
    assert finished.outcomes[0].status == status
    assert again == Ready()


def test_quit_is_said_and_heard() -> None:
    talk = ready()
    talk.engine.quit()
    assert talk.hear() == b"QUIT\r\n"
    talk.hear(b"221 bye\r\n")
    assert talk.events == [Farewell()]
    assert talk.engine.closed


def test_lmtp_has_a_final_reply_for_each_accepted_recipient() -> None:
    talk = ready(EHLO, lmtp=True)
    assert talk.sent == b"LHLO me.example.org\r\n"
    talk.send(ALICE, BOB, CAROL)
    talk.hear(b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n")
    talk.hear(b"250 2.1.5 saved\r\n")
    assert not [event for event in talk.events if isinstance(event, Finished)]
    talk.hear(b"452 4.2.2 full\r\n")
    assert talk.outcomes == (
        Relayed(250, "2.1.5", "saved", True),
        Failed(550, "5.1.1", "no"),
        Deferred(452, "4.2.2", "full"),
    )
    assert [event.index for event in talk.events if isinstance(event, FinalReplied)] == [0, 2]


def test_an_lmtp_server_that_dies_between_replies_leaves_the_rest_uncertain() -> None:
    talk = ready(EHLO, lmtp=True)
    talk.send(ALICE, BOB)
    talk.hear(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", b"250 saved\r\n")
    talk.lost()
    assert talk.outcomes == (Relayed(250, "2.0.0", "saved", True), Deferred(0, "4.4.2", "connection lost", True))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_each_recipient_has_the_outcome_of_its_own_reply() -> None:
    talk = ready()
    talk.send(ALICE, BOB, CAROL)
    talk.hear(b"250 ok\r\n450 4.2.1 later\r\n550 5.1.1 nobody\r\n251 will forward\r\n354 go\r\n", b"250 ok\r\n")
    assert talk.outcomes == (
        Deferred(450, "4.2.1", "later"),
        Failed(550, "5.1.1", "nobody"),
        Relayed(250, "2.0.0", "ok", True),
    )
    replies = [event for event in talk.events if isinstance(event, RecipientReplied)]
    assert [(event.index, event.reply.code) for event in replies] == [(0, 450), (1, 550), (2, 251)]


@pytest.mark.parametrize("ehlo", [EHLO, PLAIN_EHLO])
def test_a_refused_sender_is_everybodys_outcome(ehlo: bytes) -> None:
    talk = ready(ehlo)
    talk.send(ALICE, BOB)
    answer = b"552 5.3.4 too big\r\n" + (b"503 5.5.1 what?\r\n" * 3 if ehlo is EHLO else b"")
    talk.hear(answer)
    assert talk.outcomes == (Failed(552, "5.3.4", "too big"),) * 2
    if ehlo is EHLO:
        talk.hear(b"250 reset\r\n")
    assert talk.events[-1] == Ready()


def test_a_server_that_wants_content_for_nobody_gets_a_lone_dot() -> None:
    talk = ready()
    talk.send(ALICE, BOB)
    assert talk.hear(b"250 ok\r\n550 no\r\n450 no\r\n354 go on\r\n") == b".\r\n"
    assert talk.hear(b"250 taken, for nobody\r\n") == b""
    assert talk.outcomes == (Failed(550, "5.0.0", "no"), Deferred(450, "4.0.0", "no"))
    assert talk.events[-1] == Ready()


@pytest.mark.parametrize("ehlo", [EHLO, PLAIN_EHLO])
def test_when_nobody_is_taken_the_transaction_is_reset(ehlo: bytes) -> None:
    talk = ready(ehlo)
    talk.send(ALICE)
    said = talk.hear(b"250 ok\r\n", b"550 no\r\n", *([b"554 nobody\r\n"] if ehlo is EHLO else []))
    assert said.endswith(b"RSET\r\n")
    assert talk.outcomes == (Failed(550, "5.0.0", "no"),)
    assert talk.events[-1] != Ready()
    talk.hear(b"250 ok\r\n")
    assert talk.events[-1] == Ready()


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"552 5.2.3 too big\r\n", Failed(552, "5.2.3", "too big")),
        (b"451 4.3.0 later\r\n", Deferred(451, "4.3.0", "later")),
        (b"554 no\r\n", Failed(554, "5.0.0", "no")),
        (b"503 5.5.1 order!\r\n", Deferred(503, "4.5.1", "order!")),
        (b"530 5.7.0 STARTTLS first\r\n", Deferred(530, "4.7.0", "STARTTLS first")),
        (b"535 5.7.8 who are you\r\n", Deferred(535, "4.7.8", "who are you")),
        (b"421 4.3.2 closing\r\n", Deferred(421, "4.3.2", "closing")),
    ],
)
@pytest.mark.parametrize("where", ["MAIL", "RCPT", "DATA", "."])
def test_a_refusal_counts_by_its_class_and_never_for_what_speaks_of_us(
    reply: bytes, outcome: Outcome, where: str
) -> None:
    talk = ready(PLAIN_EHLO)
    talk.send(ALICE)
    lawful = {"MAIL": b"250 ok\r\n", "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n", ".": b"250 ok\r\n"}
    for step, answer in lawful.items():
        talk.hear(reply if step == where else answer)
        if step == where:
            break
    assert talk.outcomes == (outcome,)


def test_552_for_too_many_recipients_is_452() -> None:
    talk = ready()
    talk.send(ALICE, BOB, CAROL)
    talk.hear(b"250 ok\r\n250 ok\r\n552 too many recipients\r\n552 5.2.2 mailbox full\r\n354 go\r\n", b"250 ok\r\n")
    assert talk.outcomes[1:] == (
        Deferred(552, "4.5.3", "too many recipients"),
        Failed(552, "5.2.2", "mailbox full"),
    )


@pytest.mark.parametrize("greeting", [b"554 go away\r\n", b"421 busy\r\n", b"450 later\r\n", b"354 what\r\n"])
def test_a_refusing_greeting_defers_the_host(greeting: bytes) -> None:
    talk = Talk()
    talk.hear(greeting)
    assert talk.over.phase is Phase.GREETING
    assert talk.over.outcome.code == int(greeting[:3])
    assert talk.over.outcome.status.startswith("4.")


def test_a_refused_hello_defers_the_host() -> None:
    talk = Talk()
    talk.hear(GREETING, b"550 no\r\n", b"550 5.7.1 no, still\r\n")
    assert (talk.over.cause, talk.over.outcome) == (Cause.REFUSED, Deferred(550, "4.7.1", "no, still"))


# --- STARTTLS ---------------------------------------------------------------------------------------------------------

TLS_EHLO = b"250-peer\r\n250-STARTTLS\r\n250-SIZE 1\r\n250 PIPELINING\r\n"


def test_after_the_handshake_everything_is_asked_again() -> None:
    talk = Talk()
    talk.hear(GREETING)
    assert talk.hear(TLS_EHLO) == b"STARTTLS\r\n"
    assert talk.hear(b"220 go\r\n") == b""
    assert talk.events == [StartTls()]
    assert talk.engine.phase is Phase.HANDSHAKE
    talk.engine.tls_started()
    assert talk.engine.extensions == {}
    assert talk.hear() == b"EHLO me.example.org\r\n"
    talk.hear(PLAIN_EHLO)
    assert talk.send(ALICE) == b"MAIL FROM:<s@example.org>\r\n"  # nothing of what was said in clear text holds


@pytest.mark.parametrize("cut", [8, 9, 10, 20, 100])
def test_clear_text_behind_starttls_is_an_attack(cut: int) -> None:
    talk = Talk()
    talk.hear(GREETING, TLS_EHLO)
    wire = b"220 go\r\n250-peer\r\n250 AUTH PLAIN\r\n"
    if cut == 8:  # in a segment of its own, before the transport was told
        talk.hear(wire[:8], wire[8:])
    else:
        talk.hear(wire[:cut], wire[cut:])
    assert talk.over.cause is Cause.TLS_INJECTION
    assert (StartTls() in talk.events) == (cut == 8)
    assert talk.engine.closed
    assert isinstance(talk.over.outcome, Deferred)


def test_a_refused_starttls_goes_on_in_clear_text() -> None:
    talk = Talk()
    talk.hear(GREETING, TLS_EHLO, b"454 4.7.0 not now\r\n")
    assert talk.events == [Ready()]


def test_a_failed_handshake_is_told_from_a_lost_connection() -> None:
    talk = Talk()
    talk.hear(GREETING, TLS_EHLO, b"220 go\r\n")
    talk.lost()
    assert talk.over.cause is Cause.TLS_FAILED


def test_starttls_is_not_used_when_it_is_not_wanted() -> None:
    talk = Talk(starttls=False)
    assert talk.hear(GREETING, TLS_EHLO) == b"EHLO me.example.org\r\n"
    assert talk.events == [Ready()]


# --- hostile and broken peers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ([b"hello\r\n"], Cause.MALFORMED),
        ([b"250-" + b"x" * 5000], Cause.MALFORMED),
        ([b"250 ok\r\n250 ok\r\n250 ok\r\n"], Cause.WRONG_CODE),  # 250 to DATA
        ([b"354 go\r\n"], Cause.WRONG_CODE),  # to MAIL
        ([b"250 ok\r\n354 go\r\n"], Cause.WRONG_CODE),  # to RCPT
        ([b"250 ok\r\n250 ok\r\n354 go\r\n250 taken already\r\n"], Cause.OUT_OF_TURN),
        ([b"250 ok\r\n250 ok\r\n354 go\r\n2"], Cause.OUT_OF_TURN),
        ([b"250 ok\r\n421 4.3.2 bye\r\n"], Cause.CLOSING),
    ],
)
def test_nonsense_in_a_transaction_defers_and_is_certain(answers: list[bytes], cause: Cause) -> None:
    talk = ready()
    talk.send(ALICE)
    talk.hear(*answers)
    assert talk.over.cause is cause
    (outcome,) = talk.outcomes
    assert isinstance(outcome, Deferred)
    assert not outcome.uncertain
    assert talk.hear(b"250 and more\r\n" * 1000) == b""


@pytest.mark.parametrize("reply", [b"", b"25", b"354 again\r\n", b"rubbish\r\n", b"250-"])
def test_a_session_that_ends_after_the_dot_is_uncertain(reply: bytes) -> None:
    talk = ready()
    talk.send(ALICE, BOB)
    talk.hear(b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n", reply)
    talk.lost()
    first, second = talk.outcomes
    assert isinstance(first, Deferred)
    assert first.uncertain
    assert second == Failed(550, "5.1.1", "no")


def test_421_to_the_dot_is_a_certain_no() -> None:
    talk = ready()
    talk.send(ALICE)
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n", b"421 4.3.2 closing\r\n")
    assert talk.outcomes == (Deferred(421, "4.3.2", "closing"),)


def test_a_reply_too_many_ends_the_session_after_the_message_was_judged() -> None:
    talk = ready()
    talk.send(ALICE)
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 ok\r\n250 of the next message\r\n")
    assert talk.outcomes == (Relayed(250, "2.0.0", "ok", True),)
    assert talk.over.cause is Cause.OUT_OF_TURN
    assert Ready() not in talk.events


def test_a_reply_while_large_content_goes_out_ends_it() -> None:
    talk = ready()
    talk.content = ()
    talk.engine.send(message(), parse_address("s@example.org"), [ALICE], 20)
    talk.engine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.engine.content(b"Subject: x\r\n\r\n")
    talk.engine.receive(b"552 5.3.4 enough\r\n")
    talk.engine.content(b"more")
    talk.engine.end_content()
    talk.events = []
    talk._drain()
    (outcome,) = talk.outcomes
    assert isinstance(outcome, Deferred)
    assert not outcome.uncertain
    assert talk.hear() == b""


@pytest.mark.parametrize(
    "segments",
    [
        [GREETING + EHLO],
        [GREETING, EHLO + b"250 more\r\n"],
        [GREETING, TLS_EHLO + b"220 go\r\n"],
        [GREETING + b"2"],
        [GREETING, b"502 what?\r\n250 peer\r\n"],
    ],
)
def test_an_answer_before_the_question_ends_the_session(segments: list[bytes]) -> None:
    talk = Talk()
    talk.hear(*segments)
    assert talk.over.cause is Cause.OUT_OF_TURN
    assert [type(event) for event in talk.events] == [SessionOver]


def test_an_idle_session_may_be_told_421() -> None:
    talk = ready()
    talk.hear(b"421 4.4.2 idle too long\r\n")
    assert talk.over.cause is Cause.CLOSING


def test_an_address_can_not_break_a_command_line() -> None:
    evil = replace(ALICE, address=replace(ALICE.address, local="a>\r\nRCPT TO:<b"))
    with pytest.raises(ValueError, match="CR or LF"):
        ready().send(evil)


# --- properties -------------------------------------------------------------------------------------------------------

SCRIPT = [
    GREETING,
    EHLO,
    b"250 2.1.0 ok\r\n250-2.1.5 a\r\n250 2.1.5 ok\r\n450 later\r\n550-5.1.1 no\r\n550 5.1.1 body\r\n354 go\r\n",
    b"250-2.0.0 queued\r\n250 2.0.0 as 7\r\n",
]


@given(st.data())
def test_the_same_octets_cut_anywhere_give_the_same_events(data: st.DataObject) -> None:
    whole, cut = Talk(), Talk()
    for step, wire in enumerate(SCRIPT):
        whole.hear(wire)
        cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=8)))
        cut.hear(*[wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)])
        if step == 1:
            whole.send(ALICE, BOB, CAROL)
            cut.send(ALICE, BOB, CAROL)
    assert cut.events == whole.events
    assert cut.sent == whole.sent
    assert [type(outcome) for outcome in whole.outcomes] == [Relayed, Deferred, Failed]


CODES = st.sampled_from([b"250 ok", b"450 4.2.0 later", b"550 5.1.1 no", b"251 fwd", b"552 full", b"452 4.5.3 many"])


@given(CODES, st.lists(CODES, min_size=3, max_size=3), st.sampled_from([b"354 go", b"554 no", b"451 no"]), CODES)
def test_pipelined_and_in_lock_step_outcomes_are_the_same(
    mail: bytes, recipients: list[bytes], data: bytes, final: bytes
) -> None:
    def play(ehlo: bytes) -> Talk:
        talk = ready(ehlo)
        said = talk.send(ALICE, BOB, CAROL)
        answers = {b"MAIL": [mail], b"RCPT": [*recipients], b"DATA": [data], b"RSET": [b"250 ok"]}
        while said:
            if said.endswith(b".\r\n"):
                said = talk.hear(final + b"\r\n")
                continue
            replies = [answers[line[:4]].pop(0) + b"\r\n" for line in said.splitlines()]
            said = talk.hear(b"".join(replies))
        return talk

    fast = play(b"250-p\r\n250 PIPELINING\r\n")
    slow = play(b"250 p\r\n")
    assert fast.outcomes == slow.outcomes
    assert fast.events[-1] == slow.events[-1] == Ready()


@given(st.lists(st.binary(max_size=40), max_size=10), st.booleans())
def test_whatever_a_peer_sends_everybody_has_one_outcome(segments: list[bytes], closing: bool) -> None:
    talk = ready()
    talk.send(ALICE, BOB)
    talk.hear(*segments)
    if not closing:
        talk.engine.timed_out()
    talk.lost()
    assert len(talk.outcomes) == 2


@given(
    st.lists(st.sampled_from([b"250 ok\r\n", b"354 go\r\n", b"550 no\r\n", b"421 bye\r\n", b"2", b"x\r\n"]), max_size=9)
)
def test_no_dialogue_relays_without_a_final_reply(segments: list[bytes]) -> None:
    talk = ready()
    talk.send(ALICE)
    talk.hear(*segments)
    talk.lost()
    relayed = isinstance(talk.outcomes[0], Relayed)
    assert relayed == (segments[:4] == [b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n"])
