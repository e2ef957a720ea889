"""What a person reads: plain words for codes, and the subject of the message that is meant."""

from __future__ import annotations

from itertools import product

import pytest

from mta.dsn.subject import original_subject
from mta.dsn.words import what_happened, what_to_do


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("5.1.1", "There is no such mailbox."),
        ("5.1.99", "The address is not one that the receiving system knows."),
        ("5.2.2", "The mailbox is full."),
        ("4.2.2", "The mailbox is full at present."),
        ("4.4.1", "The receiving system does not answer."),
        ("4.7.1", "The receiving system puts off mail from here at present."),
        ("5.7.26", "It passed none of the checks of who sent it (SPF, DKIM, DMARC)."),
        ("5.9.9", "The receiving system did not take it, and does not say why."),
        ("nonsense\r\n", "The receiving system did not take it, and does not say why."),
    ],
)
def test_a_code_in_plain_words(status: str, said: str) -> None:
    assert what_happened(status) == said


def test_every_code_has_a_sentence_and_an_advice() -> None:
    for code in product((4, 5), range(10), range(30)):
        status = ".".join(map(str, code))
        for sentence in (what_happened(status), what_to_do(status)):
            assert sentence.isprintable()
            assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        (b"From: x\r\nSubject: hello\r\nTo: y\r\n", "hello"),
        (b"SUBJECT:   hello\r\n\tworld\r\n", "hello world"),
        (b"Subject: =?utf-8?Q?gr=C3=BCn?=\r\n", "grün"),
        (b"Subject: =?utf-8?B?Z3LDvG4=?= =?utf-8?B?ZXI=?=\r\n", "grüner"),
        (b"Subject: =?no-such?Q?a=C3=BC?=\r\n", "aü"),
        (b"Subject: =?punycode?Q?abc-?=\r\n", "abc-"),
        (b"Subject: =?utf-8?B?A?=\r\n", "=?utf-8?B?A?="),
        ("Subject: grün\r\n".encode(), "grün"),
        (b"Subject: =?utf-8?Q?a=0D=0ABcc:_x=1B=E2=80=AE?=\r\n", "a Bcc: x\\x1b\\u{202e}"),
        (b"Subject: \xff\xfe\r\n", "\ufffd\ufffd"),
        (b"X-Subject: no\r\n", ""),
        (b"", ""),
        (b"Subject:\r\nTo: x\r\n", ""),
        (b"Subject: " + b"y" * 5000 + b"\r\n", "y" * 97 + "..."),
    ],
)
def test_the_subject_of_the_message_on_one_line(header: bytes, subject: str) -> None:
    assert original_subject(header) == subject
