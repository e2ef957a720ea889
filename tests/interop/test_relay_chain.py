"""Postfix hands its mail to us over TLS, and we hand it on to another Postfix over TLS: everything arrives, once, as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mta.testing.daemon import HOSTNAME, Daemon
from mta.testing.ledger import Copy, copy_of, judge_copies
from mta.testing.load import Load
from mta.testing.postfix import PrivatePostfix, missing
from mta.testing.processes import wait_for

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]

MESSAGES = 200
LARGE_OCTETS = 200 << 10  # beyond 128 KiB a body has a file of its own
_DELIVERED_TO = re.compile(rb"^Delivered-To: (\S+)$", re.MULTILINE)
_RECEIVED = re.compile(rb"^Received: .*(?:\n[ \t].*)*", re.MULTILINE)
_BY = re.compile(rb"\bby (\S+)")


def recipients_of(number: int) -> Sequence[str]:
    """One to four at the far end."""
    return [f"u{number % 7}-{each}@d.example" for each in range(1 + number % 4)]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[PrivatePostfix]:
    with PrivatePostfix(tmp_path / "far", tls=True) as running:
        yield running


@pytest.fixture
def ours(tmp_path: Path, far: PrivatePostfix) -> Iterator[Daemon]:
    routes = f'[[route]]\ndomains = ["*"]\nvia = "smtp:[127.0.0.1]:{far.port}"\n'
    with Daemon(tmp_path / "ours", routes=routes, relay_networks=["127.0.0.0/8"]) as running:
        yield running


@pytest.fixture
def near(tmp_path: Path, ours: Daemon) -> Iterator[PrivatePostfix]:
    hop = f"[127.0.0.1]:{ours.mx}"
    settings = {
        "relayhost": hop,
        "virtual_mailbox_domains": "",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "smtpd_recipient_restrictions": "permit",
        "smtp_tls_CAfile": str(ours.directory / "cert.pem"),
        "smtp_tls_loglevel": "1",
        "smtp_tls_policy_maps": f"inline:{{ {{ {hop} = verify match={HOSTNAME} }} }}",
    }
    with PrivatePostfix(tmp_path / "near", host="near.example", settings=settings) as running:
        yield running


def _arrived(far: PrivatePostfix) -> list[Copy]:
    found = []
    for message in far.messages():
        to = _DELIVERED_TO.search(message)
        found.append(copy_of(message, to[1].decode() if to else ""))
    return found


def test_postfix_through_us_to_postfix_all_arrives_once_as_it_was(
    near: PrivatePostfix, ours: Daemon, far: PrivatePostfix
) -> None:
    load = Load(
        near.port,
        recipients_of,
        name="chain",
        messages=MESSAGES,
        octets=lambda number: LARGE_OCTETS if number % 20 == 0 else 300 + number % 5 * 2500,
    )
    ledger = load.start().join()
    assert len(ledger.acknowledged) == MESSAGES
    owed = sum(len(sent.recipients) for sent in ledger.sent.values())
    wait_for(f"{owed} copies", lambda: far.arrived() >= owed, 60)
    wait_for("an empty queue of ours", lambda: not ours.query("queue", "list", "--limit", "1"))
    wait_for("an empty queue of the first Postfix", lambda: not near.queue())

    verdict = judge_copies(ledger, _arrived(far))
    assert (verdict.lost, verdict.duplicates, verdict.ghosts, verdict.corrupt) == ((), 0, (), ())
    for message in far.messages():
        trail = [line.replace(b"\n\t", b" ").replace(b"\n ", b" ") for line in _RECEIVED.findall(message)]
        assert [host for line in trail for host in _BY.findall(line)] == [
            b"pf.example",
            HOSTNAME.encode(),
            b"near.example",
        ]
        assert [b" with ESMTPS id " in line for line in trail] == [True, True, False]
    near.wait_for_log(r"Verified TLS connection established to 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: TLSv1\.3")
    far.wait_for_log(r"TLS connection established from \S+: TLSv1\.3")
