"""The runner itself: it says where a dialogue fails, and the attacks among the dialogues do succeed with a server that errs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mta.mail import reply
from mta.smtp import events, receiving, server
from mta.smtp.content import DotReader
from mta.smtp.server import ServerEngine
from mta.testing.conversation import ConversationError, play, read_dialogue, read_dialogues
from mta.testing.parties import EngineParty, MemoryParty

HERE = Path(__file__).parent


def failing(tmp_path: Path, body: str, head: str = "title: a test") -> str:
    """What is said of a dialogue that fails."""
    path = tmp_path / "x.conv"
    path.write_text(f"{head}\n\n{body}\n")

    def read_and_play() -> None:
        dialogue = read_dialogue(path)
        play(dialogue, MemoryParty(dialogue))

    with pytest.raises(ConversationError) as caught:
        read_and_play()
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("S: 221 *", r":3: expected '221 \*', came '220 mail.dev.test ESMTP'"),
        ("S: 220 *\nS: 250 *", r":4: expected '250 \*', came nothing and then nothing came"),
        ("S: 220 *\nC: QUIT\nS: 221 *\nS: 250", r":6: expected '250', came nothing and then the server closed"),
        ("S: 220 *\nC: EHLO x\nS* 500", ":5: expected a reply 500, came '250-mail.dev.test'"),
        ("S: 220 *\nC: EHLO x\nS* 250\nS? XYZZY", ":6: expected has word 'XYZZY', came 250-mail.dev.test | "),
        ("S: 220 *\nC: EHLO x\nS* 250\nS! DSN", ":6: expected lacks word 'DSN'"),
        ("S: 220 *\nCLOSED", ":4: expected the end of the connection, came nothing"),
        ("SILENT", ":3: expected silence, came 220 mail"),
        ("S: 220 *\nC: QUIT", ":4: expected nothing more, came 221 2.0.0 Bye"),
        ("S: 220 *\nDELIVERED 1 to demo@dev.test", ":4: expected 1 messages to demo@dev.test, came 0"),
        ('S: 220 *\nHAS "x"', r":4: expected a message that has \"x\", came b''"),
        ("XYZZY", ":3: not understood: 'XYZZY'"),
        ('C= "a" + 1', ":3: no octets: "),
        ('C= __import__("os")', ":3: no octets: "),
        ("DELIVERED one to x", ":3: not understood"),
    ],
)
def test_a_failure_names_its_line_and_what_came(tmp_path: Path, body: str, said: str) -> None:
    text = failing(tmp_path, body)
    assert text.startswith(said.replace("\\*", "*").replace('\\"', '"')), text


def test_a_failure_tells_the_story_so_far(tmp_path: Path) -> None:
    text = failing(tmp_path, "S: 220 *\nC: HELO x\nS: 250 *\nC: NOOP\nS: 500 *")
    assert (
        "  a test, so far:\n    S: 220 mail.dev.test ESMTP\n    C: HELO x\n    S: 250 mail.dev.test\n    C: NOOP\n"
        in text
    )


@pytest.mark.parametrize(
    "head",
    [
        "runners: engine",
        "title: x\nrunners: telepathy",
        "title: x\ncolour: red",
        "title: x\ntitle: y",
        "title: x\nset: =",
    ],
)
def test_a_malformed_head_is_told(tmp_path: Path, head: str) -> None:
    assert re.match(r":\d+: ", failing(tmp_path, "S: 220 *", head))


def test_there_are_dialogues_for_each_runner() -> None:
    assert min(len(read_dialogues(HERE, runner)) for runner in ("engine", "memory", "daemon")) >= 45


# --- controls: a server that errs fails the dialogues that look for it -------------------------------------------------------


class LenientDots(DotReader):
    """Takes LF for a line's end, as many servers did until 2023."""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        return super().feed(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def test_smuggling_is_seen_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "DotReader", LenientDots)
    dialogue = read_dialogue(HERE / "501-only-one-end-of-data.conv")
    with pytest.raises(ConversationError, match=r"expected '550 5\.5\.2"):
        play(dialogue, EngineParty(dialogue))


def _careless_starttls(engine: ServerEngine, text: str, line: bytes) -> None:
    """CVE-2011-0411: what stands behind STARTTLS stays in the buffer."""
    engine._events.append(events.StartTls(engine._open(engine._say)))


def test_an_injection_is_seen_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server._COMMANDS, b"STARTTLS", _careless_starttls)
    dialogue = read_dialogue(HERE / "603-commands-behind-starttls.conv")
    with pytest.raises(ConversationError, match=r"expected '554 5\.5\.1"):
        play(dialogue, EngineParty(dialogue))


def test_an_open_relay_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import mta.inbound.session
    from mta.policy.decision import Decision

    monkeypatch.setattr(mta.inbound.session, "decide_recipient", lambda facts, resolution: Decision("anybody"))
    for name in (
        "801-no-relay-by-old-routes",
        "802-no-relay-by-literals",
        "803-no-relay-by-quotes",
        "804-no-relay-by-programs-and-look-alikes",
    ):
        dialogue = read_dialogue(HERE / f"{name}.conv")
        with pytest.raises(ConversationError, match="came '250"):
            play(dialogue, MemoryParty(dialogue))


def test_a_lost_message_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import mta.inbound.session

    monkeypatch.setattr(mta.inbound.session.Session, "end", lambda self, event: reply.queued_as("X"))
    dialogue = read_dialogue(HERE / "001-a-mail-is-taken.conv")
    with pytest.raises(ConversationError, match="expected 1 messages"):
        play(dialogue, MemoryParty(dialogue))
