"""Certificates and keys: what `mta config check` says of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mta.config import files
from mta.config.check import check
from mta.config.load import load_settings
from mta.config.problem import ConfigurationError

NAMED = '[tls]\ncertificate = "tls/server.pem"\nprivate_key = "tls/server.key"\n'
Pair = Callable[..., tuple[Path, Path]]


@pytest.fixture
def codes(write: Callable[..., Path], now: datetime, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    monkeypatch.setattr(files, "DAEMON_USER", "not-on-this-machine")  # who could not look into pytest's directory

    def told(more: str = NAMED) -> list[str]:
        settings = load_settings(write(more), checks=False)
        return [f"{each.code} {each.key}" for each in check(settings.configuration, settings.positions, now=now)]

    return told


def test_a_good_pair_is_good(pair: Pair, codes: Callable[..., list[str]]) -> None:
    pair()
    assert codes() == []


def test_the_chain_may_stand_behind_the_certificate(pair: Pair, codes: Callable[..., list[str]]) -> None:
    certificate, _ = pair()
    other, _ = pair(stem="ca", names=())
    certificate.write_bytes(certificate.read_bytes() + other.read_bytes())
    assert codes() == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ends": timedelta(hours=-1)}, ["E206 tls.certificate"]),
        ({"ends": timedelta(days=13)}, ["W207 tls.certificate"]),
        ({"begins": timedelta(hours=1)}, ["E209 tls.certificate"]),
        ({"names": ("other.example.org",)}, ["W208 tls.certificate"]),
        ({"names": ("*.example.org",)}, []),
        ({"names": ("*.org",)}, ["W208 tls.certificate"]),
        ({"names": ()}, ["W208 tls.certificate"]),
        ({"passphrase": b"geheim"}, ["E204 tls.private_key"]),
    ],
)
def test_time_names_and_passphrase(
    change: dict[str, object], expected: list[str], pair: Pair, codes: Callable[..., list[str]]
) -> None:
    pair(**change)
    assert codes() == expected


def test_a_key_of_another_certificate_is_told(pair: Pair, codes: Callable[..., list[str]]) -> None:
    _, key = pair()
    _, other = pair(stem="other")
    os.replace(other, key)
    assert codes() == ["E205 tls.private_key"]


def test_files_that_hold_something_else_are_told(pair: Pair, codes: Callable[..., list[str]]) -> None:
    certificate, key = pair()
    certificate.write_text("-----BEGIN NONSENSE-----\n")
    key.write_text("nonsense")
    assert codes() == ["E202 tls.certificate", "E204 tls.private_key"]
    certificate.write_text("")
    key.write_text("\n")
    assert codes() == ["E201 tls.certificate", "E203 tls.private_key"]


def test_a_key_that_others_can_read_is_refused_with_the_chmod_that_mends_it(
    pair: Pair, write: Callable[..., Path]
) -> None:
    _, key = pair()
    key.chmod(0o644)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(NAMED))
    [problem] = [each for each in caught.value.problems if each.code == "E301"]
    assert (problem.line, problem.key) == (17, "tls.private_key")
    assert problem.hint == f"mend it with: chmod 0640 {key}"


def test_a_certificate_by_name_is_for_its_own_names(pair: Pair, codes: Callable[..., list[str]]) -> None:
    pair()
    pair(stem="net", names=("smtp.example.net",))
    more = '[[tls.name]]\nnames = {names}\ncertificate = "tls/net.pem"\nprivate_key = "tls/net.key"\n'
    assert codes(NAMED + more.format(names='["smtp.example.net"]')) == []
    assert codes(NAMED + more.format(names='["mx.example.net"]')) == ["W208 tls.name.0.certificate"]
    twice = NAMED + 2 * more.format(names='["smtp.example.net"]')
    assert codes(twice) == ["E210 tls.name.1.names.0"]
