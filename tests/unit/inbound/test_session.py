"""What a session writes into the record of a message and into its header."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from mta.mail.address import NULL_PATH, Address
from mta.mail.envelope import Kind, Message, Notify
from mta.testing.reception import EPOCH, MemoryReception

HELLO = b"EHLO client.example\r\n"
LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0demo@dev.test\0demo-password") + b"\r\n"
CONTENT = b"From: a@b\r\nDate: x\r\nMessage-ID: <m@b>\r\n\r\nbody\r\n"
EVERYWHERE_AUTH = {"listener": [{"name": "mx", "endpoints": ["tcp:25"], "kind": "mx", "auth": True}]}
IN_CLEAR = {"auth": {"mechanisms": ["SCRAM-SHA-256", "PLAIN"]}}


def send(
    client: Any, *, mail: bytes = b"", recipients: tuple[bytes, ...] = (b"<demo@dev.test>",), content: bytes = CONTENT
) -> bytes:
    client.say(b"MAIL FROM:<a@client.example>" + mail + b"\r\n")
    for recipient in recipients:
        client.say(b"RCPT TO:" + recipient + b"\r\n")
    return client.say(b"BDAT %d LAST\r\n" % len(content) + content)


def message_of(house: MemoryReception) -> Message:
    return house.accepted[-1][0].message


@pytest.mark.parametrize("utf8", [False, True])
@pytest.mark.parametrize("authenticated", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_received_tells_how_the_mail_came(make: Any, clients: Any, tls: bool, authenticated: bool, utf8: bool) -> None:
    """RFC 3848, RFC 6531 section 4.3; all eight ways."""
    house: MemoryReception = make(EVERYWHERE_AUTH)
    client = clients(house.connect())
    client.say(HELLO)
    if tls:
        client.say(b"STARTTLS\r\n")
        client.connection.handshake()
        client.say(b"EHLO inside.example\r\n")
    if authenticated and tls:
        assert client.say(LOGIN).startswith(b"235 ")
    elif authenticated:
        client.connection.protocol.session.authenticated(_somebody())
    assert send(client, mail=b" SMTPUTF8" if utf8 else b"").startswith(b"250 ")
    keyword = ("UTF8SMTP" if utf8 else "ESMTP") + "S" * tls + "A" * authenticated
    accepted, content = house.accepted[-1]
    message = accepted.message
    assert message.protocol == keyword
    lines = content.header.split(b"\r\n")
    assert lines[0] == b"Received: from %s ([192.0.2.1])" % (b"inside.example" if tls else b"client.example")
    if tls:
        assert lines.pop(1) == b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)"
    assert lines[1].startswith(f"\tby mail.dev.test with {keyword} id ".encode())
    assert lines[2] == b"\tfor <demo@dev.test>;"
    assert lines[3].startswith(b"\tTue, 14 Nov 2023 22:")
    assert lines[4:] == [b"From: a@b", b"Date: x", b"Message-ID: <m@b>", b""]


def _somebody() -> Any:
    from mta.sasl.realm import Sender

    return Sender("demo@dev.test", "demo@dev.test", "SCRAM-SHA-256")


def test_the_record_has_all_the_facts(make: Any, clients: Any) -> None:
    house: MemoryReception = make({})
    client = clients(house.connect("submissions", "::ffff:192.0.2.7", 4711))
    client.say(HELLO, LOGIN)
    content = b"From: a@b\r\nMessage-ID: <m@b>\r\nDate: x\r\nSubject: \xc3\xbc\r\n\r\n" + b"x" * 998 + b"\r\n"
    send(
        client,
        mail=b" RET=HDRS ENVID=a+20b AUTH=c@d REQUIRETLS BODY=8BITMIME",
        recipients=(b"<demo@dev.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2By@z", b"<b@elsewhere.example>"),
        content=content,
    )
    accepted, kept = house.accepted[-1]
    message = accepted.message
    assert message.kind is Kind.SUBMISSION
    assert message.reverse_path == Address("a", "client.example")
    assert (message.received_at, message.expires_at) == (EPOCH + 1000, EPOCH + 1000 + 5 * 86400)
    assert (message.envid, message.ret, message.auth_param, message.requiretls) == ("a b", "HDRS", "c@d", True)
    assert (message.client_ip, message.client_port, message.helo) == ("192.0.2.7", 4711, "client.example")
    assert (message.authcid, message.authzid, message.mechanism) == ("demo@dev.test", "demo@dev.test", "PLAIN")
    assert (message.tls, message.protocol) == ("TLSv1.3 TLS_AES_256_GCM_SHA384", "ESMTPSA")
    assert (message.listener, message.message_id, message.config_generation) == ("submissions", "<m@b>", 1)
    assert (message.has_8bit, message.needs_utf8, message.max_line) == (True, True, 0)
    whole = house.whole(kept)
    assert (message.size, message.sha256) == (len(whole), hashlib.sha256(whole).digest())
    first, second = accepted.recipients
    assert (first.address, first.original, first.orcpt) == (
        Address("demo", "dev.test"),
        "demo@dev.test",
        "rfc822;x+y@z",
    )
    assert first.notify == Notify.SUCCESS | Notify.FAILURE
    assert first.destination.startswith("maildir:")
    assert (second.destination, second.route_generation, second.owner) == ("mx:elsewhere.example", 1, 1)


def test_what_a_stranger_says_of_a_login_is_not_believed(make: Any, clients: Any) -> None:
    """RFC 4954 section 5: AUTH= counts from those we trust; from others it is <>."""
    house: MemoryReception = make(EVERYWHERE_AUTH)
    client = clients(house.connect())
    client.say(HELLO, b"STARTTLS\r\n")
    client.connection.handshake()
    client.say(HELLO)
    send(client, mail=b" AUTH=boss@dev.test")
    assert message_of(house).auth_param == "<>"
    send(client)
    assert message_of(house).auth_param == ""


def test_reports_live_shorter(reception: MemoryReception, client: Any) -> None:
    client.say(HELLO, b"MAIL FROM:<>\r\n", b"RCPT TO:<demo@dev.test>\r\n", b"BDAT 0 LAST\r\n")
    message = message_of(reception)
    assert (message.reverse_path, message.kind) == (NULL_PATH, Kind.RELAY)
    assert message.expires_at - message.received_at == 2 * 86400


@pytest.mark.parametrize(
    ("mail", "content", "needs"),
    [
        (b" SMTPUTF8", CONTENT, False),  # declared, not needed
        (b"", b"Subject: \xc3\xbc\r\n\r\n", True),  # needed, not declared
        (b"", b"Subject: \xe4\r\n\r\n", False),  # old 8-bit mail is no UTF-8
        (b" SMTPUTF8", b"Subject: x\r\n\r\n\xc3\xbc", False),
    ],
)
def test_what_a_message_needs_is_seen_in_it(
    reception: MemoryReception, client: Any, mail: bytes, content: bytes, needs: bool
) -> None:
    client.say(HELLO)
    send(client, mail=mail, content=content)
    assert message_of(reception).needs_utf8 is needs


def test_received_names_a_recipient_only_when_there_is_one(make: Any, clients: Any) -> None:
    house: MemoryReception = make({})
    client = clients(house.connect())
    client.say(HELLO)
    send(client, recipients=(b"<demo@dev.test>", b"<other@dev.test>"))
    assert b"for <" not in house.accepted[-1][1].header


def test_the_same_mailbox_twice_is_one_delivery_but_other_parameters_make_another(
    reception: MemoryReception, client: Any
) -> None:
    client.say(HELLO)
    send(
        client, recipients=(b"<demo@dev.test>", b"<demo@DEV.test>", b"<demo@dev.test>", b"<demo@dev.test> NOTIFY=NEVER")
    )
    assert len(reception.accepted[-1][0].recipients) in {2, 3}


def test_held_mail_is_born_held(make: Any, clients: Any) -> None:
    house: MemoryReception = make({"queue": {"hold": True}})
    client = clients(house.connect())
    client.say(HELLO)
    send(client)
    assert [each.held for each in house.accepted[-1][0].recipients] == [True]


def test_nothing_of_one_mail_is_in_the_next(make: Any, clients: Any) -> None:
    house: MemoryReception = make({})
    client = clients(house.connect("submissions"))
    client.say(HELLO, LOGIN)
    send(
        client, mail=b" RET=FULL ENVID=x REQUIRETLS", recipients=(b"<demo@dev.test> NOTIFY=NEVER", b"<other@dev.test>")
    )
    send(client)
    first, second = (accepted for accepted, _ in house.accepted)
    assert (second.message.ret, second.message.envid, second.message.requiretls) == ("", "", False)
    assert [(each.original, each.notify) for each in second.recipients] == [("demo@dev.test", Notify.UNSET)]
    assert first.message.id != second.message.id


def test_the_login_is_forgotten_at_tls(make: Any, clients: Any) -> None:
    house: MemoryReception = make(EVERYWHERE_AUTH)
    client = clients(house.connect())
    client.say(HELLO)
    session = client.connection.protocol.session
    session.authenticated(_somebody())
    assert session.facts.may_relay
    client.say(b"STARTTLS\r\n")
    client.connection.handshake()
    assert (session.facts.authcid, session.facts.may_relay, session.mechanism, session.authzid) == ("", False, "", "")
    assert session.hello == ""


def test_policies_hold_for_a_transaction(reception: MemoryReception, client: Any) -> None:
    """A reload between MAIL and the end changes nothing of the transaction that is open."""
    from dataclasses import replace

    client.say(HELLO, b"MAIL FROM:<a@client.example>\r\n")
    reception.reception.policies = replace(reception.reception.policies, generation=2)
    client.say(b"RCPT TO:<demo@dev.test>\r\n", b"BDAT 0 LAST\r\n")
    assert message_of(reception).config_generation == 1
    send(client)
    assert message_of(reception).config_generation == 2


def test_refused_mail_is_remembered(reception: MemoryReception, client: Any) -> None:
    client.say(
        HELLO, b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<nobody@dev.test>\r\n", b"RCPT TO:<x@y.example>\r\n"
    )
    unknown, relay = reception.refusals.entries
    assert (unknown["recipient"], unknown["sender"], unknown["client"]) == (
        "nobody@dev.test",
        "a@client.example",
        "192.0.2.1",
    )
    assert str(unknown["reply"]).startswith("550 5.1.1 ")
    assert (relay["rule"], relay["helo"]) == ("relaying denied", "client.example")


def test_many_recipients_take_time_in_proportion(make: Any, clients: Any) -> None:
    import time

    house: MemoryReception = make({"limits": {"recipients": 10_000}})
    client = clients(house.connect())

    def seconds(count: int) -> float:
        client.say(HELLO, b"MAIL FROM:<a@client.example>\r\n")
        began = time.process_time()
        client.say(b"".join(b"RCPT TO:<demo+%d@dev.test>\r\n" % number for number in range(count)))
        return time.process_time() - began

    seconds(100)
    assert seconds(2000) < 3 * 4 * min(seconds(500), seconds(500))


def test_inquiries_are_answered_to_those_we_know(make: Any, clients: Any) -> None:
    house: MemoryReception = make({})
    client = clients(house.connect("submissions"))
    client.say(HELLO, LOGIN)
    assert client.say(b"VRFY demo@dev.test\r\n") == b"250 2.1.5 <demo@dev.test>\r\n"
    assert client.say(b"VRFY <nobody@dev.test>\r\n").startswith(b"550 5.1.1 ")
    assert client.say(b"VRFY x@elsewhere.example\r\n").startswith(b"252 ")
    assert client.say(b"VRFY demo\r\n").startswith(b"252 ")
    assert client.say(b"ETRN dev.test\r\n").startswith(b"550 5.7.1 ")
