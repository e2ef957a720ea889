"""Content on its way to the spool: small, streamed, refused, given up."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred

from mta.inbound.intake import HeaderRefused, Intake
from mta.mail import reply
from mta.mail.envelope import BodyFile, Content
from mta.mail.identifiers import IdentifierSource
from mta.spool.contract import INLINE_BODY_LIMIT_OCTETS, SpoolFull
from mta.testing.steered_spool import SteeredBody, SteeredSpool

TRACE = b"Received: here\r\n"


class Desk:
    """An intake, and what it does with its spool."""

    def __init__(self, finish: Callable[[bytes], bytes] = lambda raw: TRACE + raw, header_limit: int = 1 << 20) -> None:
        self.spool = SteeredSpool(lambda: 1_700_000_000.0)
        self.resumed = 0
        self.finished: list[bytes] = []

        def finish_header(raw: bytes) -> bytes:
            self.finished.append(raw)
            return finish(raw)

        self.intake = Intake(finish_header, lambda resume: self.spool.body_writer(1, resume), self.resume, header_limit)

    def resume(self) -> None:
        self.resumed += 1

    def take(self, content: bytes, cut: int = 65536) -> list[bool]:
        return [self.intake.take(content[at : at + cut]) for at in range(0, len(content), cut)]

    @property
    def body(self) -> SteeredBody:
        return self.spool.bodies["1"]


def refuse(_: bytes) -> bytes:
    raise HeaderRefused(reply.MAIL_LOOP)


SMALL = [
    (b"Subject: x\r\n\r\nbody\r\n", b"Subject: x\r\n", b"body\r\n"),
    (b"Subject: x\r\n\r\n", b"Subject: x\r\n", b""),
    (b"Subject: x\r\n", b"Subject: x\r\n", b""),
    (b"\r\nbody\r\n", b"", b"body\r\n"),
    (b"", b"", b""),
    (b"\r\n", b"", b""),
    (b"no field\r\n\r\nbody\r\n", b"", b"no field\r\n\r\nbody\r\n"),
    (b" folded: nothing\r\n\r\nbody\r\n", b"", b" folded: nothing\r\n\r\nbody\r\n"),
    (b"A: b\r\n\r\n\r\nbody\r\n", b"A: b\r\n", b"\r\nbody\r\n"),
]


@pytest.mark.parametrize(("content", "header", "body"), SMALL)
@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_small_content_stays_in_memory(content: bytes, header: bytes, body: bytes, cut: int) -> None:
    desk = Desk()
    assert all(desk.take(content, cut))
    finished = desk.intake.finish()
    assert isinstance(finished, tuple)
    assert finished[0] == Content(TRACE + header, body)
    assert finished[1] == hashlib.sha256(TRACE + header + b"\r\n" + body).digest()
    assert desk.finished == [header]
    assert not desk.spool.bodies


@pytest.mark.parametrize("cut", [1000, 65536, 10**7])
@pytest.mark.parametrize("header", [b"Subject: x\r\n\r\n", b"\r\n", b"no field, all body\r\n\r\n"])
def test_large_content_goes_to_a_file(header: bytes, cut: int) -> None:
    desk, lines = Desk(), b"x" * 70 + b"\r\n"
    content = header + lines * 5000
    assert all(desk.take(content, cut))
    finished: list[tuple[Content, bytes]] = []
    outcome = desk.intake.finish()
    assert isinstance(outcome, Deferred)
    outcome.addCallback(finished.append)
    (kept, digest), body = finished[0], bytes(desk.body.octets)
    assert isinstance(kept.body, BodyFile)
    assert kept.body.size == len(body)
    whole = kept.header + b"\r\n" + body
    assert whole == TRACE + (b"\r\n" if header.startswith(b"no") else b"") + content
    assert digest == hashlib.sha256(whole).digest()
    assert len(desk.finished) == 1


def test_the_disk_slows_the_client() -> None:
    desk = Desk()
    desk.spool.stalled = True
    taken = desk.take(b"A: b\r\n\r\n" + b"x" * 70_000 + b"\r\n" + b"y" * 300_000)
    assert taken[:2] == [True, True]
    assert not any(taken[2:])
    desk.spool.drain()
    assert desk.resumed == 1
    assert desk.intake.take(b"z")


def test_a_file_that_fails_fails_the_message() -> None:
    desk = Desk()
    desk.take(b"A: b\r\n\r\n" + b"x" * 200_000)
    desk.spool.fails = SpoolFull("full")
    outcome = desk.intake.finish()
    assert isinstance(outcome, Deferred)
    caught = []
    outcome.addErrback(lambda failure: caught.append(failure.type))
    assert caught == [SpoolFull]


@pytest.mark.parametrize("content", [b"A: b\r\n\r\n", b"A: b\r\n\r\n" + b"x" * 100])
def test_a_refused_header_of_small_content(content: bytes) -> None:
    desk = Desk(refuse)
    desk.take(content)
    with pytest.raises(HeaderRefused) as caught:
        desk.intake.finish()
    assert caught.value.reply is reply.MAIL_LOOP


def test_a_refused_header_of_large_content_opens_no_file_and_keeps_nothing() -> None:
    desk = Desk(refuse)
    assert all(desk.take(b"A: b\r\n\r\n" + b"x" * 1_000_000))
    assert desk.intake.refusal is reply.MAIL_LOOP
    assert not desk.spool.bodies
    assert desk.intake._blocks == []


def test_a_header_without_end_is_refused_and_forgotten() -> None:
    desk = Desk(header_limit=300_000)
    assert all(desk.take(b"X: y\r\n" * 200_000))
    assert desk.intake.refusal is reply.HEADER_TOO_BIG
    assert desk.intake._blocks == []
    assert desk.finished == []


def test_a_large_header_may_end_behind_the_limit_of_memory() -> None:
    desk = Desk()
    header = b"X: y\r\n" * 50_000
    desk.take(header + b"\r\n" + b"z" * 100_000)
    assert desk.finished in ([header], [])
    outcome = desk.intake.finish()
    if isinstance(outcome, tuple):
        kept = outcome[0]
    else:
        found: list[Content] = []
        outcome.addCallback(lambda pair: found.append(pair[0]))
        kept = found[0]
    assert kept.header == TRACE + header
    assert kept.size == len(TRACE + header) + 2 + 100_000


@pytest.mark.parametrize("size", [100, 500_000])
def test_what_is_given_up_leaves_nothing(size: int) -> None:
    desk = Desk()
    desk.take(b"A: b\r\n\r\n" + b"x" * size)
    desk.intake.abort()
    desk.intake.abort()
    assert desk.intake._blocks == []
    assert all(body.aborted for body in desk.spool.bodies.values())
    assert bool(desk.spool.bodies) is (size > INLINE_BODY_LIMIT_OCTETS)


def test_thousands_of_tiny_blocks_cost_no_list_entry_each() -> None:
    desk = Desk()
    for _ in range(100_000):
        desk.intake.take(b"x")
    assert len(desk.intake._blocks) <= 513


def test_a_long_header_in_tiny_blocks_takes_time_in_proportion() -> None:
    """One-octet chunks of a header without end: 10 octets on the wire must not cost a search of 128 KiB each."""
    desk = Desk()
    desk.take(b"X: y\r\n" * 22_000)
    began = time.process_time()
    for _ in range(4000):
        desk.intake.take(b"x")
    assert time.process_time() - began < 0.05


def test_identifiers_of_a_steered_spool_grow() -> None:
    spool = SteeredSpool(lambda: 1_700_000_000.0)
    assert spool.new_id() < spool.new_id()
    assert isinstance(IdentifierSource(0, lambda: 1.0).next(), int)
