"""Messages as octets: what is sent, and what is refused to be read."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dns.resolver import RecordType
from mta.dns.wire import RECORDS_LIMIT, Question, query_octets, question_for, read_response
from mta.testing.scripted_name_servers import a, mx, respond, understood

QUESTION = Question(b"d.example", RecordType.MX)
QUERY = query_octets(QUESTION, 0x1234, edns=True, dnssec=True)
ASKED = understood(QUERY, "192.0.2.53", 53, "udp")


def test_the_octets_of_a_query() -> None:
    expected = (
        "1234 0120 0001 0000 0000 0001"  # id; recursion desired, AD; one question, one additional record
        "01 64 07 6578616d706c65 00 000f 0001"  # d.example MX IN
        "00 0029 04d0 00 00 8000 0000"  # OPT of 1232 octets, version 0, DO
    )
    assert QUERY.hex() == expected.replace(" ", "")
    assert query_octets(QUESTION, 0x1234, edns=False, dnssec=True).hex() == expected.replace(" ", "")[:54].replace("0000000001", "0000000000")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("D.Example", b"d.example"),
        ("d.example.", b"d.example"),
        ("_25._tcp.mx.bücher.example", b"_25._tcp.mx.xn--bcher-kva.example"),
    ],
)
def test_names_as_they_are_asked_for(text: str, name: bytes) -> None:
    assert question_for(text, RecordType.TLSA) == Question(name, RecordType.TLSA)


def test_a_whole_response_is_read() -> None:
    response = read_response(respond(ASKED, mx("d.example", 10, "mx.d.example"), authentic=True, rcode=16))
    assert response is not None
    assert response.answers_to(QUESTION, 0x1234)
    assert (response.rcode, response.authentic, response.truncated, len(response.answers)) == (16, True, False, 1)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_response_that_ends_early_is_not_read(cut: int) -> None:
    whole = respond(ASKED, mx("d.example", 10, "mx.d.example"), a("mx.d.example", "192.0.2.1"))
    assert read_response(whole) is not None
    assert read_response(whole[:-cut]) is None


def test_a_bomb_of_records_is_not_read() -> None:
    records = [a("d.example", "192.0.2.1")] * RECORDS_LIMIT
    assert read_response(respond(ASKED, *records)) is None
    assert read_response(respond(ASKED, *records[1:])) is not None


def test_two_opt_records_are_one_too_many() -> None:
    """RFC 6891 section 6.1.1."""
    once = respond(ASKED, options=b"")
    twice = once[:10] + struct.pack("!H", 2) + once[12:] + once[-11:]
    assert read_response(once) is not None
    assert read_response(twice) is None


def test_names_in_a_circle_are_not_read() -> None:
    assert read_response(b"\x12\x34\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x0f\x00\x01") is None


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(0, 255))
def test_no_octets_break_the_reader(octets: bytes, at: int, value: int) -> None:
    read_response(octets)
    whole: Any = bytearray(respond(ASKED, mx("d.example", 10, "mx.d.example"), options=octets[:50]))
    whole[at % len(whole)] = value
    read_response(bytes(whole))
