"""`mta send`: into the spool by the way of all mail; half a message is none."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mta.admin.errors import DATA, NO_RECIPIENT, TEMPORARY, UNAVAILABLE, USAGE
from mta.admin.operations import VERBS
from mta.admin.send import BLOCK_OCTETS
from mta.mail.envelope import BodyFile, Kind
from mta.mail.identifiers import format_id
from mta.spool.contract import INLINE_BODY_LIMIT_OCTETS, SpoolFull
from mta.testing.reception import OWNER, MemoryReception


@pytest.fixture
def reception(furnished: Any) -> MemoryReception:
    memory = MemoryReception()
    furnished.house.reception = memory.reception
    return memory


def send(
    furnished: Any, *blocks: bytes, to: tuple[str, ...] = ("demo@dev.test",), sender: str = "a@example.org"
) -> str:
    furnished.do("send.begin", **{"from": sender, "to": list(to)})
    for block in blocks:
        furnished.do("send.block", data=base64.b64encode(block).decode())
    return str(furnished.do("send.end")["id"])


def test_a_message_is_stored_and_handed_on(furnished: Any, reception: MemoryReception) -> None:
    identifier = send(
        furnished, b"Subject: hi\n\nHello\nthere", to=("demo@dev.test", "<x@EXAMPLE.net>", "x@example.net")
    )
    ((accepted, content),) = reception.accepted
    message = accepted.message
    assert format_id(message.id) == identifier
    assert (message.kind, str(message.reverse_path), message.authcid) == (Kind.LOCAL, "a@example.org", "root")
    assert [str(each.address) for each in accepted.recipients] == ["demo@dev.test", "x@example.net"]
    assert content.body == b"Hello\r\nthere\r\n"
    received, *fields = content.header.decode().replace("\r\n\t", " ").splitlines()
    assert received.startswith(f"Received: by mail.dev.test (mta send, uid 0) id {identifier}; ")
    assert [field.partition(":")[0] for field in fields] == ["From", "Date", "Message-ID", "Subject"]
    assert message.message_id == f"<{identifier}@mail.dev.test>"
    assert message.size == content.size
    assert reception.spool.asked[0].claim_for == OWNER


def test_newlines_become_those_of_mail_wherever_blocks_are_cut(furnished: Any, reception: MemoryReception) -> None:
    octets = b"Subject: x\r\n\r\none\ntwo\r\nthree\n\nfour\r\n"
    expected = b"one\r\ntwo\r\nthree\r\n\r\nfour\r\n"
    for cut in range(1, len(octets)):
        send(furnished, octets[:cut], octets[cut:])
        assert reception.accepted[-1][1].body == expected, cut


def test_a_large_message_streams_and_waits_for_the_disk(furnished: Any, reception: MemoryReception) -> None:
    furnished.do("send.begin", **{"from": "", "to": ["demo@dev.test"]})
    reception.spool.stalled = True
    block = b"Subject: large\n\n" + b"x" * 79 + b"\n" + (b"y" * 79 + b"\n") * (INLINE_BODY_LIMIT_OCTETS // 80)
    arguments = {"data": base64.b64encode(block).decode()}
    waiting = Deferred.fromCoroutine(VERBS["send.block"].operation(furnished.house, furnished.caller, arguments))
    assert not waiting.called
    reception.spool.drain()
    assert waiting.called
    furnished.do("send.end")
    content = reception.accepted[0][1]
    assert isinstance(content.body, BodyFile)
    assert content.body.size == content.size - len(content.header) - 2 == len(block.replace(b"\n", b"\r\n")) - 18


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"from": "a@example.org", "to": []}, USAGE),
        ({"from": "a@example.org", "to": "demo@dev.test"}, USAGE),
        ({"from": "a b", "to": ["demo@dev.test"]}, DATA),
        ({"from": "a@example.org", "to": ["demo@dev.test", "x\r\ny@dev.test"]}, DATA),
        ({"from": "a@example.org", "to": ["nobody@dev.test"]}, NO_RECIPIENT),
    ],
)
def test_what_rcpt_would_refuse_is_refused(
    furnished: Any, reception: MemoryReception, arguments: dict[str, Any], code: int
) -> None:
    assert furnished.refused("send.begin", **arguments).code == code
    assert furnished.refused("send.end").code == USAGE


def test_bad_content_is_refused(furnished: Any, reception: MemoryReception) -> None:
    furnished.do("send.begin", **{"from": "", "to": ["demo@dev.test"]})
    assert furnished.refused("send.block", data="no base64").code == USAGE
    assert furnished.refused("send.block", data=base64.b64encode(b"x" * (BLOCK_OCTETS + 1)).decode()).code == USAGE
    assert furnished.refused("send.block", data=base64.b64encode(b"a\0b").decode()).code == DATA
    furnished.do("send.begin", **{"from": "", "to": ["demo@dev.test"]})
    loop = b"Received: by x; now\n" * 60
    furnished.do("send.block", data=base64.b64encode(loop + b"\nx").decode())
    assert furnished.refused("send.end").code == DATA
    assert reception.accepted == []


def test_a_full_disk_is_temporary_and_nothing_is_handed_on(furnished: Any, reception: MemoryReception) -> None:
    reception.spool.room = False
    assert furnished.refused("send.begin", **{"from": "", "to": ["demo@dev.test"]}).code == TEMPORARY
    reception.spool.room = True
    furnished.do("send.begin", **{"from": "", "to": ["demo@dev.test"]})
    furnished.do("send.block", data=base64.b64encode(b"\nx").decode())
    reception.spool.fails = SpoolFull("no space")
    assert furnished.refused("send.end").code == TEMPORARY
    assert reception.accepted == []


def test_an_upload_that_is_dropped_leaves_no_body_behind(furnished: Any, reception: MemoryReception) -> None:
    furnished.do("send.begin", **{"from": "", "to": ["demo@dev.test"]})
    block = b"Subject: large\n\n" + b"x" * 60 + b"\n" + (b"y" * 79 + b"\n") * (INLINE_BODY_LIMIT_OCTETS // 80)
    furnished.do("send.block", data=base64.b64encode(block).decode())
    furnished.caller.drop_upload()
    assert [body.aborted for body in reception.spool.bodies.values()] == [True]
    assert furnished.refused("send.end").code == USAGE


def test_new_mail_is_held_when_the_configuration_says_so(furnished: Any) -> None:
    memory = MemoryReception({"queue": {"hold": True}})
    furnished.house.reception = memory.reception
    send(furnished, b"\nx")
    assert [each.held for each in memory.accepted[0][0].recipients] == [True]


def test_no_mail_is_taken_by_a_stopped_or_closing_house(furnished: Any, reception: MemoryReception) -> None:
    reception.reception.closing = True
    assert furnished.refused("send.begin", **{"from": "", "to": ["demo@dev.test"]}).code == UNAVAILABLE
    furnished.house.reception = None
    assert furnished.refused("send.begin", **{"from": "", "to": ["demo@dev.test"]}).code == UNAVAILABLE
