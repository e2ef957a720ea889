"""Reports and other mailers: ours are carried by Postfix and read by Python's email package; Postfix's and Exim's are read by our parser; NOTIFY, RET, ENVID
and ORCPT go through us to Postfix; and a report of ours that Postfix can't deliver ends there."""

from __future__ import annotations

import email
import email.policy
import re
import smtplib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from email.message import EmailMessage

import pytest

from mta.dsn.compose import compose_report
from mta.dsn.parse import NoReport, Report, parse_report
from mta.dsn.report import Action, ReportedRecipient, ReportFrame
from mta.mail.address import parse_address
from mta.mail.envelope import Content
from mta.testing.daemon import Daemon
from mta.testing.exim import PrivateExim
from mta.testing.exim import missing as missing_exim
from mta.testing.letters import message
from mta.testing.postfix import PrivatePostfix, missing
from mta.testing.processes import free_port, wait_for

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]

SENDER = "sender@d.example"  # his mail comes into Postfix's maildir
LETTER = b"From: <sender@d.example>\r\nSubject: %b\r\nMessage-ID: <%b@d.example>\r\n\r\nHi there.\r\n"
ENVID = "QQ314+159"
ENVID_XTEXT = "QQ314+2B159"


@pytest.fixture(scope="module")
def deaf_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def postfix(deaf_port: int) -> Iterator[PrivatePostfix]:
    """bounce.example is taken and then bounced, wait.example taken and then deferred, team@two.example stands for two addresses. `deaf_port`
    speaks no DSN."""
    refuser, resting = free_port(), free_port()
    settings = {
        "relay_domains": "drop.example bounce.example wait.example nodsn.example two.example",
        "transport_maps": "inline:{ { drop.example = discard: }, { nodsn.example = discard: },"
        f" {{ bounce.example = smtp:[127.0.0.1]:{refuser} }}, {{ wait.example = smtp:[127.0.0.1]:{resting} }} }}",
        "virtual_alias_maps": "inline:{ { team@two.example = a@drop.example,b@drop.example } }",
        "smtputf8_enable": "yes",
        "delay_warning_time": "1s",
        "minimal_backoff_time": "1s",
    }
    always = "-o myhostname=far.example -o {{ smtpd_recipient_restrictions = check_recipient_access static:{{{}}} }}"
    services = [
        f"127.0.0.1:{deaf_port} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=dsn",
        f"127.0.0.1:{refuser} inet n - n - - smtpd {always.format('550 5.1.1 no such box')}",
        f"127.0.0.1:{resting} inet n - n - - smtpd {always.format('450 4.2.1 resting')}",
    ]
    with PrivatePostfix(settings=settings, services=services) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(postfix: PrivatePostfix, deaf_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("daemon")
    routes = (
        f'[[route]]\ndomains = ["dev.test"]\nrecipients = "users"\nvia = "maildir:{directory}/mail/{{local}}"\n'
        f'[[route]]\ndomains = ["nodsn.example"]\nvia = "smtp:[127.0.0.1]:{deaf_port}"\n'
        f'[[route]]\ndomains = ["*"]\nvia = "smtp:[127.0.0.1]:{postfix.port}"\n'
        '[queue]\nretry_min = "1s"\nretry_max = "2s"\ndelay_report_after = "1s"\n'
    )
    with Daemon(directory, users={"demo@dev.test": "demo-password"}, routes=routes) as running:
        yield running


def send(
    port: int,
    recipient: str,
    name: str,
    *,
    sender: str = SENDER,
    mail: Sequence[str] = (),
    rcpt: Sequence[str] = (),
    login: bool = False,
) -> None:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="pc.d.example") as client:
        client.ehlo()
        if login:
            client.starttls()
            client.login("demo@dev.test", "demo-password")
        if "SMTPUTF8" in mail:
            client.command_encoding = "utf-8"
        for code, reply in (
            client.mail(sender, mail),
            client.rcpt(recipient, rcpt),
            client.data(LETTER % ((name.encode(),) * 2)),
        ):
            assert code == 250, reply


@pytest.fixture
def submit(daemon: Daemon) -> Callable[..., None]:
    def submit(recipient: str, name: str, **keywords: object) -> None:
        send(daemon.submission, recipient, name, login=True, **keywords)  # type: ignore[arg-type]

    return submit


def report_to(address: str) -> bytes:
    """A failure report of ours."""
    letter = message(address, message_id="<ours-to-exim@d.example>")
    frame = ReportFrame(
        id=1 << 40,
        action=Action.FAILED,
        to=parse_address(address),
        hostname="mail.dev.test",
        postmaster=parse_address("postmaster@dev.test"),
        boundary="b0undary",
        now=1.7e9,
        lifetime=1000.0,
    )
    told = ReportedRecipient(parse_address("x@y.example"), "5.1.1", "550 5.1.1 nobody", host="mx.y.example")
    made = compose_report(letter, Content(b"Subject: lost\r\n", b"Hi\r\n"), [told], frame)[1]
    assert isinstance(made.body, bytes)
    return made.header + b"\r\n" + made.body


def report_on(postfix: PrivatePostfix | PrivateExim, name: str, action: Action) -> tuple[Report, EmailMessage]:
    """The report that came to the sender about the message of that name, by our parser and by Python's."""

    def found() -> tuple[Report, EmailMessage] | None:
        for octets in postfix.messages():
            with suppress(NoReport):
                report = parse_report(octets)
                if report.original_message_id == f"<{name}@d.example>" and report.recipients[0].action is action:
                    return report, email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
        return None

    return wait_for(f"a report that {name} was {action}", found, 30)  # type: ignore[return-value]


def groups(parsed: EmailMessage) -> list[dict[str, str]]:
    """The fields of the delivery-status part as Python's email package reads them."""
    part = parsed.get_payload(1)
    assert part.get_content_type() == "message/delivery-status"  # type: ignore[union-attr]
    return [{key.lower(): str(value) for key, value in group.items()} for group in part.get_payload()]  # type: ignore


# --- ours, read by others ---------------------------------------------------------------------------------------------


def test_our_failure_report_field_by_field(postfix: PrivatePostfix, submit: Callable[..., None]) -> None:
    submit("bad@d.example", "ours-failed", mail=[f"ENVID={ENVID_XTEXT}"], rcpt=["ORCPT=rfc822;b+2Bad@d.example"])
    report, parsed = report_on(postfix, "ours-failed", Action.FAILED)
    assert [each.defects for each in parsed.walk()] == [[]] * len(list(parsed.walk()))
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert (parsed["Return-Path"], parsed["Auto-Submitted"]) == ("<>", "auto-replied")
    assert [part.get_content_type() for part in parsed.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]
    of_message, of_bad = groups(parsed)
    queue_id = of_message.pop("x-txmta-queue-id")
    assert re.fullmatch("[0-9A-Z]{13}", queue_id)
    assert email.utils.parsedate_to_datetime(of_message.pop("arrival-date"))
    assert of_message == {
        "original-envelope-id": ENVID,
        "reporting-mta": "dns; mail.dev.test",
        "received-from-mta": "dns; pc.d.example ([127.0.0.1])",
    }
    assert email.utils.parsedate_to_datetime(of_bad.pop("last-attempt-date"))
    assert of_bad == {
        "original-recipient": "rfc822; b+ad@d.example",
        "final-recipient": "rfc822; bad@d.example",
        "action": "failed",
        "status": "5.1.1",
        "remote-mta": "dns; [127.0.0.1]",
        "diagnostic-code": "smtp; 550 5.1.1 <bad@d.example>: Recipient address rejected: nobody",
    }
    text = parsed.get_payload(0).get_content()  # type: ignore[union-attr]
    assert "There is no such mailbox." in text
    assert queue_id in text
    assert parsed.get_payload(2).get_payload(0)["Subject"] == "ours-failed"  # type: ignore[union-attr]
    assert report.recipients[0].address == "b+ad@d.example"


@pytest.mark.parametrize(
    ("recipient", "action", "status"),
    [
        ("demo@dev.test", Action.DELIVERED, "2.0.0"),
        ("x@nodsn.example", Action.RELAYED, "2.0.0"),
        ("tmp@d.example", Action.DELAYED, "4.2.0"),
    ],
)  # fmt: skip
def test_our_other_reports(
    postfix: PrivatePostfix, submit: Callable[..., None], recipient: str, action: Action, status: str
) -> None:
    name = f"ours-{action.value}"
    submit(recipient, name, rcpt=["NOTIFY=SUCCESS,DELAY"], mail=["RET=FULL"])
    report, parsed = report_on(postfix, name, action)
    (of_one,) = groups(parsed)[1:]
    assert (of_one["final-recipient"], of_one["action"], of_one["status"]) == (
        f"rfc822; {recipient}",
        action.value,
        status,
    )
    assert ("will-retry-until" in of_one) == (action is Action.DELAYED)
    assert report.returned == "header"  # RET speaks of failures


def test_with_notify_never_nobody_hears_of_a_failure(
    postfix: PrivatePostfix, submit: Callable[..., None], daemon: Daemon
) -> None:
    submit("bad@d.example", "ours-never", rcpt=["NOTIFY=NEVER"])
    submit("bad@d.example", "ours-after-never")
    report_on(postfix, "ours-after-never", Action.FAILED)
    assert not [text for text in postfix.messages() if b"<ours-never@d.example>" in text]
    (story,) = daemon.query("why", "<ours-never@d.example>")["messages"]
    assert "NOTIFY=NEVER" in str(story["entries"][-1])


def test_a_report_of_ours_that_postfix_cannot_deliver_ends_there(
    postfix: PrivatePostfix, submit: Callable[..., None]
) -> None:
    submit("bad@d.example", "ours-lost", sender="gone@bounce.example")
    lost = postfix.wait_for_log(r"([0-9A-Z]+): to=<gone@bounce\.example>.*status=bounced")[1]
    postfix.wait_for_log(rf"{lost}: removed")
    assert re.search(rf"{lost}: from=<>", postfix.log_text())
    assert not re.search(rf"{lost}: (sender|postmaster) non-delivery", postfix.log_text())
    # control: what has a sender is bounced, and its bounce comes back
    send(postfix.port, "gone@bounce.example", "control")
    report_on(postfix, "control", Action.FAILED)
    assert not [line for line in postfix.queue() if "gone@bounce" in line]


# --- through us ------------------------------------------------------------------------------------------------------


def test_envid_ret_orcpt_and_notify_reach_postfix_through_us(
    postfix: PrivatePostfix, submit: Callable[..., None]
) -> None:
    parameters = {
        "mail": [f"ENVID={ENVID_XTEXT}", "RET=HDRS"],
        "rcpt": ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;r+2Bx@y.example"],
    }
    submit("x@bounce.example", "through-failed", **parameters)
    submit("x@drop.example", "through-taken", **parameters)
    for name, action in (("through-failed", Action.FAILED), ("through-taken", Action.DELIVERED)):
        report, _ = report_on(postfix, name, action)
        assert report.reporting_mta.text == postfix.host
        assert report.envelope_id == ENVID
        assert report.recipients[0].original.text == "r+x@y.example"
        assert report.returned == "header"


# --- Exim ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exim() -> Iterator[PrivateExim]:
    if reason := missing_exim():
        pytest.skip(f"needs {reason}")
    with PrivateExim() as running:
        yield running


@pytest.mark.parametrize(
    ("recipient", "action", "status"),
    [("gone@e.example", Action.FAILED, "5.0.0"), ("box@e.example", Action.DELIVERED, "2.0.0")],
)
def test_reports_of_exim(exim: PrivateExim, recipient: str, action: Action, status: str) -> None:
    name = f"exim-{action.value}"
    parameters = {"mail": [f"ENVID={ENVID}"], "rcpt": ["NOTIFY=SUCCESS,FAILURE"]}
    send(exim.port, recipient, name, sender="sender@e.example", **parameters)
    report, _ = report_on(exim, name, action)
    (one,) = report.recipients
    assert (one.final.text, one.action, one.status) == (recipient, action, status)
    assert report.reporting_mta.text == exim.host
    assert "created automatically by mail delivery software" in report.human
    assert f"Subject: {name}\r\n".encode() in report.original_header


def test_a_report_of_ours_that_exim_cannot_deliver_ends_there(exim: PrivateExim) -> None:
    made = report_to("gone@e.example")
    with smtplib.SMTP("127.0.0.1", exim.port) as client:
        client.sendmail("", ["gone@e.example"], made)
        client.sendmail("sender@e.example", ["gone@e.example"], LETTER % ((b"exim-control",) * 2))  # control
    report_on(exim, "exim-control", Action.FAILED)
    wait_for("Exim's end of it", lambda: "Frozen (delivery error message)" in exim.log_text(), 20)
    assert not [text for text in exim.messages() if b"To: gone@e.example" in text or b"ours-to-exim" in text]


# --- Postfix's, read by us --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipient", "action", "status", "diagnostic"),
    [
        ("x@bounce.example", Action.FAILED, "5.1.1", "no such box"),
        ("x@drop.example", Action.DELIVERED, "2.0.0", ""),
        ("team@two.example", Action.EXPANDED, "2.0.0", ""),
    ],
)
def test_reports_of_postfix(
    postfix: PrivatePostfix, recipient: str, action: Action, status: str, diagnostic: str
) -> None:
    name = f"postfix-{action.value}"
    send(postfix.port, recipient, name, rcpt=["NOTIFY=SUCCESS,FAILURE"], mail=[f"ENVID={ENVID_XTEXT}"])
    report, _ = report_on(postfix, name, action)
    (one,) = report.recipients
    assert (one.final.text, one.action, one.status) == (recipient, action, status)
    assert diagnostic in one.diagnostic.text
    assert (report.reporting_mta.text, report.envelope_id) == (postfix.host, ENVID)
    assert report.arrived_at > 1.7e9
    assert f"Subject: {name}\r\n".encode() in report.original_header
    assert "mail system at host pf.example" in report.human


def test_a_delay_warning_of_postfix(postfix: PrivatePostfix) -> None:
    send(postfix.port, "x@wait.example", "postfix-delayed")
    postfix.wait_for_log(r"to=<x@wait\.example>.*status=deferred")

    def asked_again() -> bool:
        subprocess.run(["postqueue", "-c", str(postfix.directory / "etc"), "-f"], check=True, timeout=30)
        return "sender delay notification" in postfix.log_text()

    wait_for("Postfix's delay warning", asked_again, 30)
    report, _ = report_on(postfix, "postfix-delayed", Action.DELAYED)
    (one,) = report.recipients
    assert (one.final.text, one.status) == ("x@wait.example", "4.2.1")
    assert one.will_retry_until > report.arrived_at > 0


def test_a_report_of_postfix_on_a_utf8_address(postfix: PrivatePostfix) -> None:
    send(postfix.port, "grün@bounce.example", "postfix-utf8", mail=["SMTPUTF8"])
    report, parsed = report_on(postfix, "postfix-utf8", Action.FAILED)
    assert parsed.get_payload(1).get_content_type() == "message/global-delivery-status"  # type: ignore[union-attr]
    (one,) = report.recipients
    assert (one.final.kind, one.final.text) == ("utf-8", "grün@bounce.example")


def test_a_utf8_orcpt_goes_through_us_to_postfix(postfix: PrivatePostfix, submit: Callable[..., None]) -> None:
    submit("nünd@bounce.example", "through-utf8", mail=["SMTPUTF8"], rcpt=["ORCPT=utf-8;gr\\x{FC}n@y.example"])
    report, _ = report_on(postfix, "through-utf8", Action.FAILED)
    assert report.reporting_mta.text == postfix.host
    assert (report.recipients[0].final.text, report.recipients[0].original.text) == (
        "nünd@bounce.example",
        "grün@y.example",
    )


def test_our_report_on_a_utf8_address_comes_through_postfix(
    postfix: PrivatePostfix, submit: Callable[..., None]
) -> None:
    submit("grün@elsewhere.example", "ours-utf8", mail=["SMTPUTF8"], rcpt=["ORCPT=utf-8;ro\\x{DF}@y.example"])
    report, parsed = report_on(postfix, "ours-utf8", Action.FAILED)
    assert report.reporting_mta.text == "mail.dev.test"
    assert (report.recipients[0].final.text, report.recipients[0].original.text) == (
        "grün@elsewhere.example",
        "roß@y.example",
    )
    assert parsed.get_payload(1).get_content_type() == "message/global-delivery-status"  # type: ignore[union-attr]
    assert "<grün@elsewhere.example>" in parsed.get_payload(0).get_content()  # type: ignore[union-attr]
