"""The password of a login at a next hop is kept like every secret, and is read from nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.credential_file import CredentialFileError, read_password
from mta.config.load import load_settings
from mta.config.model import Credential
from mta.config.problem import ConfigurationError

FILE = """\
hostname = "mail.example.org"
postmaster = "admin@example.org"
spool = {{ path = "spool" }}
control = {{ socket = "mta.sock" }}
listener = [{{ name = "mx", endpoints = ["tcp:25"], kind = "mx", tls = "none" }}]
[[route]]
domains = ["*"]
via = "{via}"
[[credential]]
host = "smart.example.org"
user = "relay"
{secret}
"""


def load(directory: Path, secret: str, via: str = "smtp:[smart.example.org]:587", mode: int = 0o600) -> list[str]:
    """Codes and keys of what is said; the file itself has `mode`."""
    path = directory / "mta.toml"
    path.write_text(FILE.format(secret=secret, via=via))
    path.chmod(mode)
    try:
        problems = list(load_settings(path).warnings)
    except ConfigurationError as error:
        problems = error.problems
    return [f"{each.code} {each.key}" for each in problems if each.key.startswith("credential")]


def test_a_password_in_a_file_that_others_can_read_is_refused_with_the_chmod_that_mends_it(tmp_path: Path) -> None:
    secret = tmp_path / "smart.password"
    secret.write_text("hush\n")
    secret.chmod(0o644)
    assert load(tmp_path, 'password_file = "smart.password"') == ["E301 credential.0.password_file"]
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "mta.toml")
    (problem,) = caught.value.problems
    assert problem.hint == f"mend it with: chmod 0640 {secret}"
    secret.chmod(0o640)
    assert load(tmp_path, 'password_file = "smart.password"') == []


def test_a_password_in_the_configuration_makes_that_file_a_secret(tmp_path: Path) -> None:
    assert load(tmp_path, 'password = "hush"', mode=0o644) == ["E301 credential.0.password"]
    assert load(tmp_path, 'password = "hush"', mode=0o640) == []


@pytest.mark.parametrize("via", ["smtp:[smart.example.org]", "smtps:[SMART.example.org]"])
def test_the_host_is_compared_as_a_host(via: str, tmp_path: Path) -> None:
    assert load(tmp_path, 'password = "hush"', via) == []


@pytest.mark.parametrize("via", ["mx", "smtp:[smart.example.org.evil.example]", "smtp:[192.0.2.1]"])
def test_no_other_host_is_meant(via: str, tmp_path: Path) -> None:
    assert load(tmp_path, 'password = "hush"', via) == ["W409 credential.0.host"]
    assert load(tmp_path, 'password = "hush"\nport = 465', "smtp:[smart.example.org]:587") == ["W409 credential.0.host"]


def test_a_password_is_never_shown() -> None:
    credential = Credential(host="smart.example.org", user="relay", password="hush")
    assert "hush" not in repr(credential)
    assert credential.require_verified_tls


@pytest.mark.parametrize(
    ("octets", "password"),
    [
        (b"hush\n", "hush"),
        (b"hush", "hush"),
        (b"hush\r\nmore\n", "hush"),
        (b" hush \n", " hush "),
        ("süß\n".encode(), "süß"),
    ],
)
def test_the_first_line_is_the_password(octets: bytes, password: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(octets)
    path.chmod(0o600)
    assert read_password(path) == password


@pytest.mark.parametrize("octets", [b"", b"\n", b"\nhush\n", b"hu\0sh\n", b"\xff\n", b"x" * 1025])
def test_what_is_no_password_is_told_and_not_quoted(octets: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(octets)
    path.chmod(0o600)
    with pytest.raises(CredentialFileError) as caught:
        read_password(path)
    assert str(path) in str(caught.value)
    assert "hush" not in str(caught.value)
