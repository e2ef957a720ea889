"""Final delivery: where a mailbox lies whoever names it, what stands in it, and what trouble means."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred as TwistedDeferred

from mta.delivery.agent import Attempt
from mta.delivery.mailbox_path import mailbox_path, safe_name
from mta.delivery.maildir import MaildirAgent, Results
from mta.delivery.maildir_files import Delivery, MaildirFiles
from mta.delivery.rendition import final_header, was_delivered_to
from mta.mail.address import NULL_PATH, Address, parse_address
from mta.mail.envelope import BodyFile, Message
from mta.mail.outcome import Deferred, Delivered, Failed
from mta.testing.letters import HEADER, job


class Here:
    """Threads that are none: work is done at once, or when `go` is called."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.waiting: list[Callable[[], None]] = []
        self.batches: list[int] = []
        self.stopped = False

    def run(self, work: Callable[[], Results], done: Callable[[Results | None], None]) -> None:
        def step() -> None:
            try:
                results = work()
            except Exception:  # noqa: BLE001
                done(None)
                return
            self.batches.append(len(results))
            done(results)

        if self.at_once:
            step()
        else:
            self.waiting.append(step)

    def stop(self) -> None:
        self.stopped = True


def make_agent(bodies: Path = Path(), threads: Here | None = None, concurrency: int = 4) -> MaildirAgent:
    files = MaildirFiles("mail.example.org", lambda: 1_700_000_000.25, process=77)

    def body_path(_message: Message, body: BodyFile) -> Path:
        return bodies / body.path

    return MaildirAgent(files, threads or Here(), body_path, concurrency=concurrency)


def fired(result: TwistedDeferred[Attempt]) -> Attempt:
    found: list[Attempt] = []
    result.addCallback(found.append)
    assert found, "not yet"
    return found[0]


def new_files(maildir: Path) -> list[bytes]:
    assert not list((maildir / "tmp").iterdir())
    return [each.read_bytes() for each in sorted((maildir / "new").iterdir())]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "below"),
    [
        (Address("user", "example.org"), ("example.org", "user")),
        (Address("User+Tag", "example.org"), ("example.org", "user")),
        (Address("+tag", "example.org"), ("example.org", "+tag")),
        (Address("..", "example.org"), ("example.org", "%2E.")),
        (Address(".hidden", "example.org"), ("example.org", "%2Ehidden")),
        (Address("a/../../b", "example.org"), ("example.org", "a%2F..%2F..%2Fb")),
        (Address("a%2Fb", "example.org"), ("example.org", "a%252fb")),
        (Address("jos\u00e9", "example.org"), ("example.org", "jos%C3%A9")),
        (Address("{domain}", "example.org"), ("example.org", "%7Bdomain%7D")),
        (Address("a\0b", "[127.0.0.1]"), ("%5B127.0.0.1%5D", "a%00b")),
    ],
)
def test_an_address_names_one_directory_below_the_root(address: Address, below: tuple[str, ...]) -> None:
    path = mailbox_path("/var/mail/{domain}/{local}", address)
    assert (path.root, path.below) == ("/var/mail", below)


@pytest.mark.parametrize(
    ("template", "root", "below"),
    [
        ("/var/mail/{local}", "/var/mail", ("u",)),
        ("/var/mail/{domain}/users/{local}/Maildir", "/var/mail", ("d.org", "users", "u", "Maildir")),
        ("/var/mail/all", "/var/mail/all", ()),
        ("/var/mail/x-{local}.{domain}", "/var/mail", ("x-u.d.org",)),
        ("/{local}", "/", ("u",)),
        ("{local}", ".", ("u",)),
    ],
)
def test_templates(template: str, root: str, below: tuple[str, ...]) -> None:
    path = mailbox_path(template, Address("u", "d.org"))
    assert (path.root, path.below) == (root, below)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_safe_name_is_a_name_of_its_own(one: str, other: str) -> None:
    name = safe_name(one) if one.isprintable() else safe_name(one.encode("utf-8", "replace").decode())
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isascii()
    if one.isprintable() and other.isprintable():
        assert (name == safe_name(other)) == (one == other)


# --- renditions -------------------------------------------------------------------------------------------------------


def test_return_path_is_ours_alone() -> None:
    header = b"Return-Path: <forged@x>\r\nreturn-path : <a@b>\r\n\tfolded\r\nX-Return-Path: kept\r\nSubject: x\r\n"
    assert final_header(header, parse_address("s@example.org"), parse_address("u@example.org")) == (
        b"Return-Path: <s@example.org>\r\nDelivered-To: u@example.org\r\nX-Return-Path: kept\r\nSubject: x\r\n"
    )
    assert final_header(b"", NULL_PATH, parse_address("u@example.org")).startswith(b"Return-Path: <>\r\n")


@pytest.mark.parametrize(
    ("header", "looping"),
    [
        (b"Delivered-To: u@example.org\r\n", True),
        (b"A: b\r\nDELIVERED-TO:  U@example.org \r\n", True),
        (b"Delivered-To: other@example.org\r\nDelivered-To: u@example.org\r\n", True),
        (b"Delivered-To: u@example.org.evil\r\n", False),
        (b"X-Delivered-To: u@example.org\r\n", False),
        (b"Subject: Delivered-To: u@example.org\r\n", False),
    ],
)
def test_a_loop_is_known_by_delivered_to(header: bytes, looping: bool) -> None:
    assert was_delivered_to(header, parse_address("u@example.org")) == looping


# --- delivery ---------------------------------------------------------------------------------------------------------


def test_each_recipient_gets_a_file_of_its_own(tmp_path: Path) -> None:
    destination = f"maildir:{tmp_path}/mail/{{domain}}/{{local}}"
    attempt = fired(make_agent().deliver(job(destination, "a@example.org", "b+tag@example.org", sender="")))
    for number, name, address in ((1, "a", "a@example.org"), (2, "b", "b+tag@example.org")):
        maildir = tmp_path / "mail" / "example.org" / name
        (content,) = new_files(maildir)
        expected = b"Return-Path: <>\nDelivered-To: " + address.encode() + b"\n" + HEADER.replace(b"\r\n", b"\n")
        assert content == expected + b"\nA line.\n.dots.\nThe end.\n"
        outcome = attempt.outcomes[number]
        assert isinstance(outcome, Delivered)
        place = outcome.text.removeprefix("maildir ")
        assert (tmp_path / "mail" / place).read_bytes() == content
        assert place.endswith(f",S={len(content)}")
        assert {each.name for each in maildir.iterdir()} == {"tmp", "new", "cur"}
        assert (maildir.stat().st_mode & 0o777, (maildir / "new").stat().st_mode & 0o777) == (0o700, 0o700)
        assert (tmp_path / "mail" / place).stat().st_mode & 0o777 == 0o600


def test_a_large_body_is_copied_from_its_file(tmp_path: Path) -> None:
    body = b"0123456789abcde\r\n" * 100_000  # the blocks of a copy end within CRLF sometimes
    (tmp_path / "body").write_bytes(body)
    agent = make_agent(tmp_path)
    attempt = fired(agent.deliver(job(f"maildir:{tmp_path}/{{local}}", "a@x.org", body=BodyFile("body", len(body)))))
    assert isinstance(attempt.outcomes[1], Delivered)
    (content,) = new_files(tmp_path / "a")
    assert content.endswith(b"\n\n" + body.replace(b"\r\n", b"\n"))
    short = fired(agent.deliver(job(f"maildir:{tmp_path}/{{local}}", "b@x.org", body=BodyFile("body", len(body) + 1))))
    assert isinstance(short.outcomes[1], Deferred)
    assert new_files(tmp_path / "b") == []


def test_a_loop_fails_and_the_others_are_delivered(tmp_path: Path) -> None:
    header = b"Delivered-To: a@x.org\r\n" + HEADER
    attempt = fired(make_agent().deliver(job(f"maildir:{tmp_path}/{{local}}", "a@x.org", "b@x.org", header=header)))
    looping = attempt.outcomes[1]
    assert isinstance(looping, Failed)
    assert looping.status == "5.4.6"
    assert isinstance(attempt.outcomes[2], Delivered)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("where", ["domain", "local", "tmp", "new"])
def test_no_link_is_followed_below_the_root(tmp_path: Path, where: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "mail"
    outside.mkdir()
    maildir = root / "x.org" / "a"
    (maildir / "tmp").mkdir(parents=True)
    (maildir / "new").mkdir()
    victim = {"domain": root / "x.org", "local": maildir, "tmp": maildir / "tmp", "new": maildir / "new"}[where]
    victim.rename(tmp_path / "moved")
    victim.symlink_to(outside)
    attempt = fired(make_agent().deliver(job(f"maildir:{root}/{{domain}}/{{local}}", "a@x.org")))
    assert isinstance(attempt.outcomes[1], Deferred)
    assert not list(outside.rglob("*"))


@pytest.mark.parametrize(
    ("call", "code", "status"),
    [
        ("write", errno.ENOSPC, "4.3.1"),
        ("write", errno.EDQUOT, "4.2.2"),
        ("fsync", errno.EIO, "4.3.0"),
        ("open", errno.EACCES, "4.3.0"),
        ("rename", errno.EXDEV, "4.3.0"),
    ],
)
def test_trouble_with_the_disk_defers_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, status: str
) -> None:
    agent, destination = make_agent(), f"maildir:{tmp_path}/{{local}}"
    assert isinstance(fired(agent.deliver(job(destination, "a@x.org"))).outcomes[1], Delivered)

    def broken(*_args: Any, **_kwargs: Any) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        outcome = fired(agent.deliver(job(destination, "a@x.org"))).outcomes[1]
    assert isinstance(outcome, Deferred)
    assert (outcome.status, outcome.uncertain) == (status, False)
    assert len(new_files(tmp_path / "a")) == 1


def test_a_failed_sync_of_the_directory_is_uncertain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, destination = make_agent(), f"maildir:{tmp_path}/{{local}}"
    fired(agent.deliver(job(destination, "a@x.org")))
    real, calls = os.fsync, []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "I/O error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", second_fails)
    outcome = fired(agent.deliver(job(destination, "a@x.org"))).outcomes[1]
    assert isinstance(outcome, Deferred)
    assert outcome.uncertain


def test_a_file_is_synced_before_it_is_renamed_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = MaildirFiles("h", lambda: 1.0)
    path = mailbox_path(f"{tmp_path}/{{local}}", Address("a", "x.org"))
    files.deliver([Delivery(path, b"first\r\n")])
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(descriptor: int) -> None:
        steps.append("sync " + os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)).split("/")[2])
        fsync(descriptor)

    def watched_rename(*args: Any, **kwargs: Any) -> None:
        steps.append("rename")
        rename(*args, **kwargs)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    files.deliver([Delivery(path, b"one\r\n"), Delivery(path, b"two\r\n")])
    assert steps == ["sync tmp", "sync tmp", "rename", "rename", "sync new"]


def test_what_waits_goes_together(tmp_path: Path) -> None:
    threads = Here(at_once=False)
    agent = make_agent(threads=threads, concurrency=1)
    results = [agent.deliver(job(f"maildir:{tmp_path}/{{local}}", "a@x.org")) for _ in range(10)]
    while threads.waiting:
        threads.waiting.pop(0)()
    assert threads.batches == [1, 9]
    assert all(isinstance(fired(result).outcomes[1], Delivered) for result in results)
    assert len(new_files(tmp_path / "a")) == 10


def test_stopping_waits_for_what_began(tmp_path: Path) -> None:
    threads = Here(at_once=False)
    agent = make_agent(threads=threads)
    result = agent.deliver(job(f"maildir:{tmp_path}/{{local}}", "a@x.org"))
    stopped = agent.stop()
    assert not stopped.called
    late = fired(agent.deliver(job(f"maildir:{tmp_path}/{{local}}", "a@x.org")))
    assert isinstance(late.outcomes[1], Deferred)
    threads.waiting.pop()()
    assert isinstance(fired(result).outcomes[1], Delivered)
    assert stopped.called
    assert threads.stopped


def test_a_bug_in_the_file_work_defers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MaildirFiles, "deliver", bug)
    outcome = fired(make_agent().deliver(job(f"maildir:{tmp_path}/{{local}}", "a@x.org"))).outcomes[1]
    assert outcome == Deferred(0, "4.3.0", "internal error", True)
