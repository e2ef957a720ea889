"""The administrator's view: the queue, what happened and why, the state of the house, new settings without a restart."""

from __future__ import annotations

import re
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from mta.testing.daemon import Daemon
from mta.testing.load import Client
from mta.testing.processes import wait_for

pytestmark = pytest.mark.real

USER, PASSWORD = "demo@dev.test", "demo-password"


def _letter(name: str) -> bytes:
    return f"From: a@client.example\r\nMessage-ID: <{name}@client.example>\r\nSubject: {name}\r\n\r\nbody\r\n".encode()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """New mail is held, so that there is a queue to look at; `dead.example` goes to a port where nobody listens."""
    directory = tmp_path_factory.mktemp("admin")
    routes = (
        f'[[route]]\ndomains = ["dev.test"]\nrecipients = "users"\nvia = "maildir:{directory}/mail/{{domain}}/{{local}}"\n'
        '[[route]]\ndomains = ["moved.example"]\nvia = "error:5.1.6 They have moved"\naccept = "all"\n'
        '[[route]]\ndomains = ["*"]\nvia = "smtp:[127.0.0.1]:9"\n'
    )
    extra = "\n[queue]\nhold = true\n"
    with Daemon(directory, users={USER: PASSWORD}, routes=routes, extra=extra) as running:
        yield running


def _send(daemon: Daemon, name: str, recipient: str = USER, sender: str = "a@client.example") -> str:
    """The reply of the last command; the queue ID when it was accepted."""
    client = Client(daemon.mx)
    try:
        reply = client.send(sender, [recipient], _letter(name)).decode()
    finally:
        client.close()
    queued = re.search(r"queued as (\w{13})", reply)
    return queued[1] if queued else reply


def _queued(daemon: Daemon, identifier: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = daemon.query("queue", "list")
    return [row for row in rows if row["id"] == identifier]


def test_the_queue_is_listed_held_released_and_deleted(daemon: Daemon) -> None:
    first, second = _send(daemon, "first"), _send(daemon, "second")
    (row,) = _queued(daemon, first)
    assert (row["recipient"], row["sender"], row["held"]) == (USER, "a@client.example", True)
    table = daemon.mta("queue", "list").stdout
    assert first in table
    assert second in table

    shown = daemon.mta("queue", "show", "--header", first).stdout
    assert "Subject: first" in shown
    assert f"with ESMTP id {first}" in shown

    assert daemon.mta("queue", "release", first).stdout == "1 recipient released\n"
    (message,) = wait_for("the released message", lambda: daemon.mailbox("demo"))
    assert b"Subject: first\n" in message
    assert wait_for("its end", lambda: not _queued(daemon, first))

    assert daemon.mta("queue", "delete", second).stdout == "1 recipient deleted\n"
    assert _queued(daemon, second) == []
    assert daemon.mta("queue", "delete", second, check=False).returncode == 1
    assert len(daemon.mailbox("demo")) == 1, "what was deleted is not delivered"


def test_released_mail_can_be_held_again(daemon: Daemon) -> None:
    identifier = _send(daemon, "again")
    assert daemon.mta("queue", "hold", identifier, check=False).returncode in {0, 1}, "it is held already"
    assert _queued(daemon, identifier)[0]["held"] is True
    daemon.mta("queue", "delete", identifier)


def test_why_tells_the_story_by_id_by_address_and_by_message_id(daemon: Daemon) -> None:
    identifier = _send(daemon, "story", sender="storyteller@client.example")
    daemon.mta("queue", "release", identifier)
    wait_for("its delivery", lambda: not _queued(daemon, identifier))
    for what in (identifier, "storyteller@client.example", "<story@client.example>"):
        text = daemon.mta("why", what).stdout
        assert identifier in text
        assert "accepted from 127.0.0.1 (hello client.example) without login in clear text on mx" in text
        assert "maildir dev.test/demo/new/" in text
    (story,) = daemon.query("why", identifier)["messages"]
    assert [entry["kind"] for entry in story["entries"]][:2] == ["accepted", "queued"]
    assert story["entries"][-1]["kind"] == "delivered"


def test_why_finds_the_story_when_the_history_has_it(daemon: Daemon) -> None:
    identifier = _send(daemon, "history", sender="historian@client.example")
    daemon.mta("queue", "release", identifier)
    wait_for("its place in the history", lambda: daemon.query("status")["spools"][0]["messages"] == 0, 30, every=0.2)
    assert identifier in daemon.mta("why", identifier).stdout
    assert identifier in daemon.mta("why", "historian@client.example").stdout
    assert identifier in daemon.mta("why", "<history@client.example>").stdout


def test_why_tells_of_refused_mail(daemon: Daemon) -> None:
    assert _send(daemon, "refused", recipient="nobody@dev.test").startswith("550 5.1.1 ")
    assert _send(daemon, "relayed", recipient="x@elsewhere.example").startswith("550 5.7.1 ")
    assert "550 5.1.1 No such recipient here" in daemon.mta("why", "nobody@dev.test").stdout
    refusal = daemon.query("why", "x@elsewhere.example")["refusals"][0]
    assert (refusal["client"], refusal["sender"]) == ("127.0.0.1", "a@client.example")
    assert daemon.mta("why", "neverheard@of.example", check=False).returncode == 1


def test_status_tells_how_the_house_is(daemon: Daemon) -> None:
    assert daemon.process is not None
    status = daemon.query("status")
    assert status["pid"] == daemon.process.pid
    assert status["running"] is True
    assert status["troubles"] == []
    text = daemon.mta("status").stdout
    assert f"mail.dev.test: running as process {daemon.process.pid}" in text


def test_mail_handed_in_by_mta_send_is_delivered(daemon: Daemon) -> None:
    before = len(daemon.mailbox("demo"))
    sent = daemon.mta("send", "--from", "cron@dev.test", "--to", USER, stdin="Subject: from the machine\n\nhello\n")
    identifier = sent.stdout.strip()
    if _queued(daemon, identifier):
        daemon.mta("queue", "release", identifier, check=False)
    wait_for("the message", lambda: len(daemon.mailbox("demo")) > before)
    message = next(each for each in daemon.mailbox("demo") if b"Subject: from the machine" in each)
    assert b"\nMessage-ID: <" in message
    assert message.endswith(b"\n\nhello\n")
    unknown = daemon.mta("send", "--from", "a@dev.test", "--to", "nobody@dev.test", stdin="x\n", check=False)
    assert unknown.returncode == 67


def test_metrics_are_those_of_prometheus(daemon: Daemon) -> None:
    _send(daemon, "counted")
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.metrics}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert re.search(r"^mta_messages_accepted_total [1-9]", text, re.MULTILINE)
    assert "# TYPE mta_messages_accepted_total counter" in text


def test_a_user_added_while_it_runs_can_log_in_within_seconds(daemon: Daemon) -> None:
    daemon.mta("user", "add", "new@dev.test", "--stdin", stdin="new-password\n")

    def logs_in() -> bool:
        try:
            Client(daemon.submission, login=("new@dev.test", "new-password")).close()
        except EOFError:
            return False
        return True

    wait_for("a login of the new user", logs_in, 10, every=0.5)
    wait_for(
        "mail for them to be taken",
        lambda: len(_send(daemon, "for them", recipient="new@dev.test")) == 13,
        10,
        every=0.5,
    )


def test_reload_changes_routes_and_a_broken_file_changes_nothing(daemon: Daemon) -> None:
    good = daemon.config.read_text()
    assert _send(daemon, "moved", recipient="x@moved.example").startswith("550 5.1.6 They have moved")

    daemon.config.write_text(good.replace('"error:5.1.6 They have moved"', '"discard"'))
    session = Client(daemon.mx)  # connected before the reload: it takes the new tables at its next MAIL
    assert daemon.mta("reload").stdout.startswith("generation 2 is in force")
    assert len(_send(daemon, "moved", recipient="x@moved.example")) == 13
    assert session.send("a@client.example", ["x@moved.example"], _letter("moved")).startswith(b"250 ")
    session.close()

    daemon.config.write_text(good.replace("hold = true", "hold = 7\nnonsense = 1"))
    broken = daemon.mta("reload", check=False)
    assert broken.returncode == 78
    assert "queue.nonsense" in broken.stderr
    assert "queue.hold" in broken.stderr
    assert daemon.query("status")["generation"] == 2
    assert len(_send(daemon, "moved", recipient="x@moved.example")) == 13, "the old settings stay in force"

    daemon.config.write_text(good)
    assert daemon.mta("reload").returncode == 0
    assert _send(daemon, "moved", recipient="x@moved.example").startswith("550 5.1.6 ")


def test_keys_that_need_a_restart_are_named(daemon: Daemon) -> None:
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace(f"tcp:{daemon.metrics}:", "tcp:9:"))
    try:
        assert "metrics.endpoint takes effect after a restart" in daemon.mta("reload").stdout
    finally:
        daemon.config.write_text(good)
        daemon.mta("reload")


def _certificate(daemon: Daemon) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", daemon.submissions), 10) as clear,
        context.wrap_socket(clear, server_hostname="mail.dev.test") as client,
    ):
        found = client.getpeercert(binary_form=True)
        assert found is not None
        return found


def test_a_new_certificate_is_shown_after_a_reload(daemon: Daemon) -> None:
    before = _certificate(daemon)
    session = Client(daemon.submission, login=(USER, PASSWORD))
    issued = trustme.CA().issue_cert("mail.dev.test")
    (daemon.directory / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    mismatched = daemon.mta("reload", check=False)
    assert mismatched.returncode == 78, "the new certificate with the old key"
    assert _certificate(daemon) == before

    (daemon.directory / "key.pem").write_bytes(issued.private_key_pem.bytes())
    daemon.mta("reload")
    assert ssl.DER_cert_to_PEM_cert(_certificate(daemon)).strip() == issued.cert_chain_pems[0].bytes().decode().strip()
    assert session.ask(b"NOOP\r\n").startswith(b"250"), "open sessions are not disturbed"
    session.close()


def test_reading_verbs_work_on_a_stopped_daemon(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, extra="\n[queue]\nhold = true\n")
    with daemon:
        identifier = _send(daemon, "left behind", recipient="bob@dev.test")
    assert [row["id"] for row in daemon.query("queue", "list")] == [identifier]
    assert "from <a@client.example>" in daemon.mta("queue", "show", identifier).stdout
    assert identifier in daemon.mta("why", identifier).stdout
    status = daemon.mta("status", check=False)
    assert status.returncode == 69
    assert "mail.dev.test: stopped" in status.stdout
    released = daemon.mta("queue", "release", identifier, check=False)
    assert released.returncode == 69
    assert "not running" in released.stderr
    with daemon:
        assert [row["id"] for row in daemon.query("queue", "list")] == [identifier]
