"""The client's side against any peer: one outcome for each recipient, the same however octets are cut, and never an exception."""

from __future__ import annotations

import os
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.mail.address import parse_address
from mta.mail.outcome import Deferred, Relayed
from mta.sasl.password_login import PasswordLogin
from mta.smtp.client import ClientEngine
from mta.smtp.client_events import Calculate, ClientEvent, Finished, Phase, Ready, SendContent, SessionOver, StartTls
from mta.testing.letters import message, recipient

EXAMPLES = 5000 if os.environ.get("MTA_LONG") else 300
SENDER = parse_address("s@example.org")
RECIPIENTS = [recipient(number, f"r{number}@example.org") for number in range(1, 4)]
CONTENT = b"Subject: x\r\n\r\n.dot\r\n"

REPLIES = [
    b"220 peer\r\n", b"220-peer\r\n220 ESMTP\r\n", b"250 ok\r\n", b"250 2.1.0 ok\r\n", b"251 fwd\r\n", b"354 go\r\n", b"334 \r\n",
    b"334 dGVzdA==\r\n", b"330 dGVzdA==\r\n", b"235 in\r\n", b"450 4.2.0 later\r\n", b"452 4.5.3 many\r\n", b"552 many\r\n",
    b"550 5.1.1 no\r\n", b"535 5.7.8 no\r\n", b"421 4.3.2 bye\r\n", b"503 5.5.1 order\r\n", b"221 bye\r\n", b"000 x\r\n",
    b"250-peer\r\n250-PIPELINING\r\n250-SIZE 30\r\n250-DSN\r\n250 8BITMIME\r\n", b"250-peer\r\n250 STARTTLS\r\n",
    b"250-peer\r\n250 AUTH PLAIN LOGIN SCRAM-SHA-256\r\n", b"250-peer\r\n251 mixed\r\n", b"250\r\n", b"250-\r\n250 \r\n", b"250 lf\n",
    b"hello\r\n", b"\r\n", b"25", b"\0\xff\r\n", b"250 " + b"x" * 5000 + b"\r\n",
]  # fmt: skip
# What an honest peer would say at each point is likelier than chance, so that sessions come far.
HONEST = {
    Phase.GREETING: b"220 peer\r\n",
    Phase.HELLO: b"250-peer\r\n250-PIPELINING\r\n250-AUTH LOGIN\r\n250 DSN\r\n",
    Phase.STARTTLS: b"220 go\r\n",
    Phase.AUTH: b"235 in\r\n",
    Phase.MAIL: b"250 ok\r\n",
    Phase.RCPT: b"250 ok\r\n",
    Phase.DATA: b"354 go\r\n",
    Phase.DOT: b"250 2.0.0 taken\r\n",
    Phase.RESET: b"250 ok\r\n",
    Phase.QUIT: b"221 bye\r\n",
}
TURNS = st.lists(
    st.one_of(
        st.just("honest"), st.just("honest"), st.just("honest"), st.sampled_from(REPLIES), st.sampled_from(["lost", "silent"])
    ),
    max_size=40,
)  # fmt: skip
OPTIONS = st.fixed_dictionaries(
    {
        "starttls": st.booleans(),
        "tls_required": st.booleans(),
        "tls_at_once": st.booleans(),
        "lmtp": st.booleans(),
        "login": st.sampled_from(
            [None, PasswordLogin("u", "p", nonce=lambda: "n"), PasswordLogin("u", "p", ["LOGIN"], nonce=lambda: "n")]
        ),
    }
)


class Session:
    """An engine with an adapter that sends message after message, starts TLS when asked and works at once."""

    def __init__(self, **options: object) -> None:
        self.engine = ClientEngine("me.example.org", **options)  # type: ignore[arg-type]
        self.events: list[ClientEvent] = []
        self.sent: list[bytes] = []
        self.given = 0  # messages
        self.drain()

    def drain(self) -> None:
        engine = self.engine
        while (event := engine.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, Ready) and not engine.closed:
                self.given += 1
                engine.send(message(), SENDER, RECIPIENTS, len(CONTENT))
            elif isinstance(event, SendContent):
                engine.content(CONTENT)
                engine.end_content()
            elif isinstance(event, StartTls):
                self.sent.append(engine.data_to_send())
                engine.tls_started(verified=True)
            elif isinstance(event, Calculate):
                engine.calculated(event.work())
        self.sent.append(engine.data_to_send())

    def play(self, turn: str | bytes, places: list[int]) -> None:
        engine = self.engine
        if turn == "lost":
            engine.connection_lost("lost")
        elif turn == "silent":
            engine.timed_out()
        else:
            octets = HONEST.get(engine.phase, b"") if turn == "honest" else turn
            assert isinstance(octets, bytes)
            marks = sorted({place % (len(octets) + 1) for place in places} | {0, len(octets)})
            for a, b in pairwise(marks):
                engine.receive(octets[a:b])
                self.drain()
        self.drain()


def check(session: Session) -> None:
    finished = [event for event in session.events if isinstance(event, Finished)]
    over = [event for event in session.events if isinstance(event, SessionOver)]
    assert session.given - len(finished) in ({0} if session.engine.closed else {0, 1})  # the one that is under way
    assert all(len(event.outcomes) == len(RECIPIENTS) for event in finished)
    assert len(over) <= 1
    if over:
        assert session.events[-1] is over[0]
        assert isinstance(over[0].outcome, Deferred)
        assert over[0].outcome.status.startswith("4.")
    assert all(outcome.text.isprintable() for event in finished for outcome in event.outcomes)
    contents = b"".join(session.sent).count(b"Subject: x\r\n\r\n..dot\r\n.\r\n")
    relayed = [event for event in finished if any(isinstance(outcome, Relayed) for outcome in event.outcomes)]
    uncertain = [event for event in finished if any(getattr(outcome, "uncertain", False) for outcome in event.outcomes)]
    assert len(relayed) <= contents
    assert len(uncertain) <= contents
    assert not any(event in relayed for event in uncertain) or session.engine._lmtp


@settings(max_examples=EXAMPLES, deadline=None)
@given(turns=TURNS, options=OPTIONS, places=st.lists(st.integers(0, 10**6), max_size=20))
def test_each_recipient_has_one_outcome_and_cuts_change_nothing(
    turns: list[str | bytes], options: dict[str, object], places: list[int]
) -> None:
    whole, cut = Session(**options), Session(**options)
    for turn in turns:
        whole.play(turn, [])
        cut.play(turn, places)
        check(whole)
        assert whole.engine.phase is cut.engine.phase
    whole.play("lost", [])
    cut.play("lost", [])
    check(whole)
    shown = [[each for each in session.events if not isinstance(each, Calculate)] for session in (whole, cut)]
    assert shown[0] == shown[1]
    assert b"".join(whole.sent) == b"".join(cut.sent)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from(REPLIES)), max_size=30), OPTIONS)
def test_any_octets_end_in_peace(segments: list[bytes], options: dict[str, object]) -> None:
    session = Session(**options)
    for segment in segments:
        session.play(segment, [])
        check(session)
    session.play("silent", [])
    session.play("lost", [])
    check(session)
    assert session.engine.closed
