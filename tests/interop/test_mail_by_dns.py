"""A real daemon, a real unbound: where its mail goes, what comes back, and what waits, by what the DNS says."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.service.own_addresses import addresses_of_interfaces
from mta.testing.daemon import Daemon
from mta.testing.ledger import compose
from mta.testing.load import Client
from mta.testing.private_dns import PrivateDns, missing
from mta.testing.processes import wait_for
from mta.testing.reports import reports_in
from mta.testing.sink import Sink

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]

USER, PASSWORD = "demo@dev.test", "demo-password"
ZONE = """
@ IN MX 10 away
@ IN MX 20 mx
away IN A 127.0.0.6
mx IN A 127.0.0.5
null IN MX 0 .
onlyaddress IN A 127.0.0.5
*.many IN MX 10 mx
"""


@pytest.fixture
def dns() -> Iterator[PrivateDns]:
    with PrivateDns({"d.example": ZONE}, lame=["lame.example"]) as dns:
        yield dns


def submit(daemon: Daemon, *recipients: str) -> None:
    client = Client(daemon.submission, login=(USER, PASSWORD))
    try:
        assert client.ask(f"MAIL FROM:<{USER}>\r\n".encode()).startswith(b"250")
        for recipient in recipients:
            assert client.ask(f"RCPT TO:<{recipient}>\r\n".encode()).startswith(b"250")
        assert client.ask(b"DATA\r\n").startswith(b"354")
        assert client.ask(compose("by-dns", 500)[0] + b".\r\n").startswith(b"250")
        client.quit()
    finally:
        client.close()


def waiting(daemon: Daemon) -> list[dict[str, Any]]:
    return [row for row in daemon.query("queue", "list") if row["attempts"] >= 1 and row["last"]]


def fates(daemon: Daemon) -> dict[str, str]:
    reports = reports_in(daemon.mailbox("demo"))
    return {name: status for report in reports for name, (_, status) in report.fates.items()}


def test_mail_goes_where_the_dns_says_comes_back_where_it_says_so_and_waits_where_it_is_silent(
    dns: PrivateDns, tmp_path: Path
) -> None:
    with Sink(tmp_path / "taken", addresses=["127.0.0.5"]) as sink:
        settings = (
            '[queue]\nretry_min = "500ms"\nretry_max = "1s"\n'
            f"[test_only]\nmx_port = {sink.port}\nallow_loopback_mx = true\n"
            f'[dns]\nservers = ["127.0.0.1:{dns.resolver[1]}"]\n'
        )
        with Daemon(tmp_path / "house", users={USER: PASSWORD}, extra=settings) as daemon:
            submit(
                daemon, "a@d.example", "b@onlyaddress.d.example", "c@lame.example", "d@null.d.example", "e@no.d.example"
            )
            wait_for("what the sink takes", lambda: len(sink.copies()) == 2)
            assert {each.recipient for each in sink.copies()} == {"a@d.example", "b@onlyaddress.d.example"}
            wait_for("two reports", lambda: len(daemon.mailbox("demo")) == 2)
            assert fates(daemon) == {"d@null.d.example": "5.1.10", "e@no.d.example": "5.1.2"}
            [row] = wait_for("c, who waits", lambda: waiting(daemon))
            assert row["recipient"] == "c@lame.example"
            assert "SERVFAIL" in row["last"]
            dns.control("local_zone", "lame.example.", "typetransparent")
            dns.control("local_data", "lame.example. 60 IN MX 10 mx.d.example.")
            wait_for("c's mail in the sink", lambda: len(sink.copies()) == 3)
            assert len(daemon.mailbox("demo")) == 2


def test_an_outage_of_the_dns_stops_no_reception_and_returns_no_mail(dns: PrivateDns, tmp_path: Path) -> None:
    with Sink(tmp_path / "taken", addresses=["127.0.0.5"]) as sink:
        settings = (
            '[queue]\nretry_min = "500ms"\nretry_max = "1s"\n'
            f"[test_only]\nmx_port = {sink.port}\nallow_loopback_mx = true\n"
            f'[dns]\nservers = ["127.0.0.1:{dns.resolver[1]}"]\ntimeout = "300ms"\nattempts = 2\n'
        )
        with Daemon(tmp_path / "house", users={USER: PASSWORD}, extra=settings) as daemon:
            dns.freeze("unbound")
            away = [f"a{number}@d{number}.many.d.example" for number in range(40)]
            submit(daemon, *away)
            begin = time.monotonic()
            submit(daemon, "demo@dev.test")
            wait_for("local mail", lambda: daemon.mailbox("demo"))
            assert time.monotonic() - begin < 5
            wait_for("all to have been tried", lambda: len(waiting(daemon)) == len(away))
            assert {row["last"].partition("many.d.example: ")[2] for row in waiting(daemon)} == {
                f"no answer from 127.0.0.1:{dns.resolver[1]}"
            }
            assert sink.count() == 0
            dns.thaw("unbound")
            wait_for("all mail in the sink", lambda: {each.recipient for each in sink.copies()} == set(away))
            assert len(daemon.mailbox("demo")) == 1  # no report


def test_an_mx_that_leads_back_here_is_a_loop_and_an_explicit_route_is_not(tmp_path: Path) -> None:
    own = {address for address in addresses_of_interfaces() if "." in address and not address.startswith("127.")}
    kinds = {"byname": "mail.dev.test.", "loopback": "lo", "zero": "zero", "nat": "nat"} | {
        f"interface{number}": f"interface{number}" for number in range(len(own))
    }
    zone = "lo IN A 127.0.0.5\nzero IN A 0.0.0.0\nnat IN A 192.0.2.77\n"
    zone += "".join(f"interface{number} IN A {address}\n" for number, address in enumerate(sorted(own)))
    zone += "".join(f"{name}mx IN MX 10 {host}\n" for name, host in kinds.items())
    with (
        PrivateDns({"d.example": zone}) as dns,
        PrivateDns({}) as empty,
        Sink(tmp_path / "taken", addresses=["127.0.0.5"]) as sink,
    ):
        house = tmp_path / "house"
        routes = (
            f'[[route]]\ndomains = ["dev.test"]\nrecipients = "users"\nvia = "maildir:{house}/mail/{{domain}}/{{local}}"\n'
            f'[[route]]\ndomains = ["inside.example"]\naccept = "authorized"\nvia = "smtp:[127.0.0.5]:{sink.port}"\n'
            '[[route]]\ndomains = ["*"]\nvia = "mx"\n'
        )
        settings = (
            f'[test_only]\nmx_port = {sink.port}\n[outbound]\nown_addresses = ["192.0.2.77"]\n'
            f'[dns]\nservers = ["127.0.0.1:{empty.resolver[1]}"]\n'
        )
        with Daemon(house, users={USER: PASSWORD}, routes=routes, extra=settings) as daemon:
            submit(daemon, "a@natmx.d.example")
            wait_for("a report", lambda: fates(daemon) == {"a@natmx.d.example": "5.1.2"})
            daemon.config.write_text(daemon.config.read_text().replace(f":{empty.resolver[1]}", f":{dns.resolver[1]}"))
            daemon.mta("reload")
            domains = [f"{name}mx.d.example" for name in kinds]
            submit(daemon, *[f"b@{domain}" for domain in domains], "c@inside.example")
            wait_for("all reports", lambda: len(fates(daemon)) == 1 + len(domains))
            told = {name: status for name, status in fates(daemon).items() if name.startswith("b@")}
            assert told == {f"b@{domain}": "5.4.6" for domain in domains}
            wait_for("what the sink takes", lambda: [each.recipient for each in sink.copies()] == ["c@inside.example"])
