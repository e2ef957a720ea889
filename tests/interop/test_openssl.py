"""TLS as OpenSSL's own client sees it: versions, the certificate of each name, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from mta.testing.daemon import Daemon
from mta.testing.open_house import OpenHouse
from mta.testing.processes import absent

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(absent("openssl")), reason=f"needs the Debian package {absent('openssl')}"),
]


@pytest.fixture(scope="module")
def two_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenHouse]:
    """A daemon with a certificate of its own for mail.dev.test and another for *.other.example."""
    directory = tmp_path_factory.mktemp("names")
    authority = trustme.CA()
    for stem, names in (("", ["mail.dev.test"]), ("other-", ["*.other.example"])):
        issued = authority.issue_cert(*names)
        (directory / f"{stem}cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key = directory / f"{stem}key.pem"
        key.touch(0o600)
        key.write_bytes(issued.private_key_pem.bytes())
    extra = (
        f'\n[[tls.name]]\nnames = ["*.other.example"]\ncertificate = "{directory}/other-cert.pem"\n'
        f'private_key = "{directory}/other-key.pem"\n'
    )
    with Daemon(directory, users={"demo@dev.test": "demo-password"}, extra=extra) as daemon:
        house = OpenHouse(daemon)
        house.authority = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(house.authority))
        yield house


def client(house: OpenHouse, *options: str, implicit: bool = False, check: bool = True) -> str:
    """What s_client says of the connection; it verifies the certificate."""
    port = house.daemon.submissions if implicit else house.daemon.mx
    start = [] if implicit else ["-starttls", "smtp"]
    command: list[str | Path] = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *start]
    command += ["-CAfile", house.authority, "-verify_return_error", *options]
    done = house.run(command, stdin=b"QUIT\r\n", check=check)
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
@pytest.mark.parametrize(("option", "version"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_two_versions_are_spoken(two_names: OpenHouse, implicit: bool, option: str, version: str) -> None:
    said = client(two_names, option, "-verify_hostname", "mail.dev.test", implicit=implicit)
    assert re.search(rf"(Protocol *: |New, ){re.escape(version)}", said)
    assert "Verify return code: 0 (ok)" in said or "Verification: OK" in said


@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(two_names: OpenHouse, option: str) -> None:
    said = client(two_names, option, "-cipher", "ALL:@SECLEVEL=0", implicit=True, check=False)
    assert "Cipher is (NONE)" in said
    assert "alert protocol version" in said


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
def test_a_name_gets_its_certificate(two_names: OpenHouse, implicit: bool) -> None:
    said = client(two_names, "-servername", "a.other.example", "-verify_hostname", "a.other.example", implicit=implicit)
    assert "Verification: OK" in said
    said = client(two_names, "-servername", "unknown.example", "-verify_hostname", "mail.dev.test", implicit=implicit)
    assert "Verification: OK" in said


def test_alpn_is_smtp_or_nothing(two_names: OpenHouse) -> None:
    """RFC 7301; a browser led to this port asks for another protocol (ALPACA)."""
    assert "ALPN protocol: smtp" in client(two_names, "-alpn", "smtp", implicit=True)
    said = client(two_names, "-alpn", "http/1.1", implicit=True, check=False)
    assert "ALPN protocol: http" not in said


def test_renegotiation_is_off(two_names: OpenHouse) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{two_names.daemon.submissions}", "-tls1_2"]
    done = two_names.run([*command, "-CAfile", two_names.authority], stdin=b"R\n", check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said or "handshake failure" in said
