"""The development certificate."""

from __future__ import annotations

import datetime
import stat

from mta.config.model import Tls
from mta.tls.certificate import load_identity
from mta.tls.client import names_of
from mta.tls.selfsigned import ensure_certificate, main
from mta.tls.server import ServerContexts

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def test_the_pair_works_has_the_names_and_keeps_its_key_to_itself(tmp_path):
    certificate, key = tmp_path / "tls" / "c.pem", tmp_path / "tls" / "k.pem"
    assert ensure_certificate(certificate, key, ["mail.dev.test"], NOW)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    identity = load_identity(certificate, key)
    for name in ("mail.dev.test", "localhost", "127.0.0.1", "::1"):
        assert names_of(identity.certificate, (name,))
    assert not names_of(identity.certificate, ("other.test",))
    ServerContexts(Tls(certificate=certificate, private_key=key))


def test_a_second_run_changes_nothing(tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    ensure_certificate(certificate, key, ["mail.dev.test"], NOW)
    before = certificate.read_bytes(), key.read_bytes()
    assert not ensure_certificate(certificate, key, ["mail.dev.test"], NOW + datetime.timedelta(days=300))
    assert before == (certificate.read_bytes(), key.read_bytes())


def test_it_is_made_anew_when_it_expires_or_lacks_a_name_or_its_key_is_exposed(tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    ensure_certificate(certificate, key, ["mail.dev.test"], NOW)
    assert ensure_certificate(certificate, key, ["mail.dev.test"], NOW + datetime.timedelta(days=360))
    assert ensure_certificate(certificate, key, ["mail.dev.test", "mx.dev.test"], NOW + datetime.timedelta(days=360))
    key.chmod(0o644)
    assert ensure_certificate(certificate, key, ["mail.dev.test"], NOW + datetime.timedelta(days=360))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_the_command(tmp_path, capsys):
    arguments = ["--certificate", str(tmp_path / "c.pem"), "--key", str(tmp_path / "k.pem"), "mail.dev.test"]
    assert main(arguments) == 0
    assert "mail.dev.test" in capsys.readouterr().out
    assert main(arguments) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "file").touch()
    assert main(["--certificate", str(tmp_path / "file" / "c"), "--key", str(tmp_path / "file" / "k"), "a.test"]) == 73
