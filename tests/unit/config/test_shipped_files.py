"""The files in conf/: good configurations, and units that systemd understands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mta.config.check import check
from mta.config.endpoints import parse_endpoint
from mta.config.load import load_settings
from mta.config.model import Configuration
from mta.config.settings import Settings

ROOT = Path(__file__).parents[3]
CONF = ROOT / "conf"
UNITS = CONF / "systemd"

# Every directive that a unit of ours may hold, by section: a misspelt one is ignored by systemd with no more than a line in its log.
DIRECTIVES = {
    "Unit": "Description Documentation Wants After Before Conflicts Requires",
    "Install": "WantedBy Alias Also",
    "Socket": "ListenStream BindIPv6Only Backlog Accept NoDelay FileDescriptorName ReusePort",
    "Service": "Type NotifyAccess WatchdogSec TimeoutStartSec TimeoutStopSec ExecStartPre ExecStart ExecReload User Group "
    "AmbientCapabilities CapabilityBoundingSet NoNewPrivileges UMask KillMode Restart RestartSec RestartPreventExitStatus "
    "LimitNOFILE LimitCORE RuntimeDirectory RuntimeDirectoryMode StateDirectory StateDirectoryMode ProtectSystem "
    "ReadWritePaths ProtectHome PrivateTmp PrivateDevices DevicePolicy PrivateUsers ProtectKernelTunables ProtectKernelModules "
    "ProtectKernelLogs ProtectControlGroups ProtectClock ProtectHostname ProtectProc RestrictAddressFamilies RestrictNamespaces "
    "RestrictRealtime RestrictSUIDSGID LockPersonality RemoveIPC KeyringMode MemoryDenyWriteExecute SystemCallArchitectures "
    "SystemCallFilter SystemCallErrorNumber Environment",
}


def load(name: str) -> Settings:
    return load_settings(CONF / name, checks=False)


def complaints(settings: Settings) -> list[str]:
    """What is said apart from files that are made at installation or by `make run`."""
    absent = {"E201", "E203", "W404", "E305", "W309"}
    return [str(each) for each in check(settings.configuration, settings.positions) if each.code not in absent]


def endpoints(configuration: Configuration) -> dict[str, tuple[list[str], str, str]]:
    return {each.name: (each.endpoints, each.kind, each.tls) for each in configuration.listener}


def test_the_development_configuration_is_as_everybody_relies_on() -> None:
    made = load("development.toml").configuration
    var = ROOT / "var"
    assert made.hostname == "mail.dev.test"
    assert endpoints(made) == {
        "mx": (["tcp:2525:interface=127.0.0.1"], "mx", "starttls"),
        "submission": (["tcp:2587:interface=127.0.0.1"], "submission", "starttls"),
        "submissions": (["tcp:2465:interface=127.0.0.1"], "submission", "implicit"),
    }
    assert (var / "spool", var / "run" / "mta.sock") == (made.spool.path, made.control.socket)
    assert (var / "tls" / "cert.pem", var / "tls" / "key.pem") == (made.tls.certificate, made.tls.private_key)
    assert [var / "users.db"] == [each.path for each in made.auth.backend]
    local, rest = made.route
    assert (local.domains, local.recipients) == (["dev.test"], "users")
    assert f"maildir:{var}/mail/{{domain}}/{{local}}" == local.via
    assert (rest.domains, rest.via) == (["*"], "mx")
    assert parse_endpoint(made.metrics.endpoint).host == "127.0.0.1"
    assert var in made.log.path.parents if isinstance(made.log.path, Path) else False


def test_the_measured_configuration_differs_where_it_says_so() -> None:
    made, held = load("bench.toml").configuration, load("bench-hold.toml").configuration
    assert endpoints(made) == {"mx": (["tcp:2530:interface=127.0.0.1"], "mx", "none")}
    assert [(each.domains, each.via) for each in made.route] == [(["*"], "smtp:[127.0.0.1]:2600")]
    assert (made.queue.hold, held.queue.hold) == (False, True)
    assert made == held.model_copy(update={"queue": made.queue})
    assert made.limits.model_fields_set == {"connections", "connections_per_client", "messages"}
    assert made.metrics.endpoint
    assert made.log.path != "-"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mta.toml", []), ("development.toml", []), ("bench.toml", ["W602"]), ("bench-hold.toml", ["W602"])],
)
def test_what_is_shipped_is_good(name: str, expected: list[str]) -> None:
    said = complaints(load(name))
    assert len(expected) == len(said), said
    assert all(code in line for code, line in zip(expected, said, strict=True))


def test_the_installed_configuration_writes_where_the_unit_lets_it() -> None:
    made = load("mta.toml").configuration
    unit = (UNITS / "mta.service").read_text()
    assert f"ReadWritePaths=-{made.spool.path}\n" in unit
    assert "ReadWritePaths=-/var/mail\n" in unit
    assert "RuntimeDirectory=mta\n" in unit
    assert made.control.socket.parent == Path("/run/mta")
    assert made.log.path == "-"


def unit_lines(name: str) -> list[tuple[str, str, str]]:
    """Section, directive, value."""
    found, section = [], ""
    for line in (UNITS / name).read_text().split("\n"):
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            directive, equals, value = line.partition("=")
            assert equals, line
            found.append((section, directive, value))
    return found


@pytest.mark.parametrize("name", ["mta.service", "mta.socket"])
def test_every_directive_of_a_unit_is_known(name: str) -> None:
    unknown = [line for line in unit_lines(name) if line[1] not in DIRECTIVES[line[0]].split()]
    assert unknown == []


def test_the_service_is_supervised_and_never_root() -> None:
    service = {directive: value for section, directive, value in unit_lines("mta.service") if section == "Service"}
    assert (service["Type"], service["User"], service["NoNewPrivileges"]) == ("notify", "mta", "yes")
    assert int(service["WatchdogSec"]) > 0
    assert service["ExecStart"] == "twistd -n --pidfile= mta --config /etc/mta/mta.toml"
    assert service["ExecReload"].startswith("mta ")
    assert service["ExecReload"].endswith(" reload")
    assert service["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert service["RestartPreventExitStatus"] == "78"


def test_the_socket_unit_tells_the_endpoints_of_its_sockets() -> None:
    text = (UNITS / "mta.socket").read_text()
    streams = [value for _, directive, value in unit_lines("mta.socket") if directive == "ListenStream"]
    for index, stream in enumerate(streams):
        domain = "INET6" if stream.startswith("[") else "INET"
        assert f'"systemd:domain={domain}:index={index}"' in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd; the directives are checked above")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for name in ("mta.service", "mta.socket"):
        text = (UNITS / name).read_text()
        for command in ("twistd", "mta"):  # where they are installed is not this machine's business
            text = text.replace(f"={command} ", f"={sys.executable} ")
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in ("mta.service", "mta.socket")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.split("\n") if "mta." in line]
    assert (done.returncode, ours) == (0, [])
