"""Parameters of MAIL and RCPT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.envelope import Notify
from mta.smtp.parameters import (
    MailParameters,
    ParameterError,
    RcptParameters,
    declares_smtputf8,
    parse_mail_parameters,
    parse_rcpt_parameters,
)

ALL = frozenset({"AUTH", "REQUIRETLS", "SIZE", "8BITMIME", "SMTPUTF8", "DSN"})


def mail(text: str, *, over_tls: bool = True, offered: frozenset[str] = ALL) -> MailParameters:
    return parse_mail_parameters(text, over_tls=over_tls, offered=offered)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", MailParameters()),
        ("   ", MailParameters()),
        (" SIZE=0", MailParameters(size=0)),
        (" size=12345678901234567890", MailParameters(size=12345678901234567890)),
        (" BODY=8bitmime", MailParameters(body="8BITMIME")),
        ("  BODY=7BIT   SMTPUTF8 ", MailParameters(body="7BIT", smtputf8=True)),
        (" RET=hdrs ENVID=a+20b", MailParameters(ret="HDRS", envid="a b")),
        (" AUTH=<>", MailParameters(auth="<>")),
        (" AUTH=a+2Bb@example.org", MailParameters(auth="a+b@example.org")),
        (" AUTH=<a@example.org>", MailParameters(auth="a@example.org")),
        (" REQUIRETLS", MailParameters(requiretls=True)),
    ],
)
def test_parameters_of_mail(text: str, parameters: MailParameters) -> None:
    assert parameters == mail(text)


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        (" SIZE", 555, "5.5.4"), (" SIZE=", 501, "5.5.4"), (" SIZE=x", 501, "5.5.4"), (" SIZE=+1", 501, "5.5.4"),
        (" SIZE=1_0", 501, "5.5.4"), (" SIZE=" + "9" * 21, 501, "5.5.4"), (" SIZE=\u0661", 501, "5.5.4"), (" SIZE=²", 501, "5.5.4"),
        (" SIZE=1 SIZE=1", 501, "5.5.4"), (" SIZE=1 size=2", 501, "5.5.4"), (" BODY=BINARYMIME", 555, "5.5.4"),
        (" BODY=X", 501, "5.5.4"), (" BODY", 555, "5.5.4"), (" SMTPUTF8=1", 555, "5.5.4"), (" RET=X", 501, "5.5.4"),
        (" ENVID=" + "a" * 101, 501, "5.5.4"), (" ENVID=a+0A", 501, "5.5.4"), (" AUTH=a+0Ab@c", 501, "5.5.4"),
        (" AUTH=nobody", 501, "5.5.4"), (" AUTH", 555, "5.5.4"), (" REQUIRETLS=1", 555, "5.5.4"), (" X", 555, "5.5.4"),
        (" X=1", 555, "5.5.4"), (" =1", 501, "5.5.4"), (" -X", 501, "5.5.4"), ("X", 501, "5.5.4"), (" X=a=b", 555, "5.5.4"),
        (" É=1", 501, "5.5.4"), (" NOTIFY=NEVER", 555, "5.5.4"),
    ],
)  # fmt: skip
def test_wrong_parameters_of_mail(text: str, code: int, status: str) -> None:
    with pytest.raises(ParameterError) as caught:
        mail(text)
    assert (caught.value.reply.code, caught.value.reply.status) == (code, status)


def test_what_was_not_announced_is_not_known() -> None:
    for text in (" AUTH=<>", " REQUIRETLS"):
        with pytest.raises(ParameterError) as caught:
            mail(text, offered=frozenset())
        assert caught.value.reply.code == 555
    with pytest.raises(ParameterError) as caught:
        mail(" REQUIRETLS", over_tls=False)
    assert caught.value.reply.code == 530


def test_white_space_of_unicode_parts_nothing() -> None:
    """Two parsers that part words differently are how parameters get smuggled."""
    for space in ("\u00a0", "\u2003", "\u3000", "\u0085"):
        with pytest.raises(ParameterError):
            mail(f" SIZE=1{space}BODY=8BITMIME")
        assert not declares_smtputf8(f"<a@b>{space}SMTPUTF8")
    assert declares_smtputf8("<a@b> size=1 smtputf8")
    assert not declares_smtputf8("<smtputf8@b>")


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", RcptParameters()),
        (" NOTIFY=NEVER", RcptParameters(Notify.NEVER)),
        (" notify=success,FAILURE", RcptParameters(Notify.SUCCESS | Notify.FAILURE)),
        (" NOTIFY=DELAY ORCPT=RFC822;a+2Bb@c", RcptParameters(Notify.DELAY, "rfc822;a+b@c")),
        (" ORCPT=utf-8;dömo@dev.test", RcptParameters(orcpt="utf-8;d\\x{F6}mo@dev.test")),
        (" ORCPT=utf-8;a\\x{E9}b@c", RcptParameters(orcpt="utf-8;a\\x{E9}b@c")),
    ],
)
def test_parameters_of_rcpt(text: str, parameters: RcptParameters) -> None:
    assert parameters == parse_rcpt_parameters(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" NOTIFY=NEVER,DELAY", 501), (" NOTIFY=,", 501), (" NOTIFY=SUCCESS,", 501), (" NOTIFY", 555), (" NOTIFY=X", 501),
        (" ORCPT=a", 501), (" ORCPT=rfc822;", 501), (" ORCPT=;a", 501), (" ORCPT=rf c;a", 501), (" ORCPT=rfc822;é", 501),
        (" ORCPT=rfc822;+0D", 501), (" ORCPT=utf-8;a\\x{ZZ}", 501), (" ORCPT=utf-8;+1B", 501), (" ORCPT=" + "x" * 51 + ";a", 501),
        (" ORCPT=rfc822;" + "x" * 494, 501), (" SIZE=1", 555),
    ],
)  # fmt: skip
def test_wrong_parameters_of_rcpt(text: str, code: int) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_rcpt_parameters(text)
    assert code == caught.value.reply.code


WORDS = st.lists(
    st.sampled_from(
        [" ", "=", "SIZE", "BODY", "8BITMIME", "SMTPUTF8", "RET", "ENVID", "AUTH", "ORCPT", "NOTIFY", "rfc822;", "utf-8;", "+", "+41",
         "+00", "\\x{", "41}", "<>", "a@b", "1", ",", "é", "NEVER"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@given(WORDS)
def test_hostile_parameters_raise_nothing_else(text: str) -> None:
    for parse in (mail, parse_rcpt_parameters):
        try:
            parse(text)
        except ParameterError as error:
            assert error.reply.permanent  # noqa: PT017 - that nothing else is raised is the test
