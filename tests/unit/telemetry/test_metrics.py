"""Counters are plain numbers; Prometheus reads them in its own format."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.testing import StringTransport

from mta.telemetry import metrics
from mta.telemetry.exposition import REQUEST_LIMIT_OCTETS, MetricsFactory, MetricsProtocol

ACCEPTED = metrics.counters("mta_test_accepted_total", "for this test", "listener")
QUEUED = metrics.gauge("mta_test_queued", "for this test")
SECONDS = metrics.histogram("mta_test_seconds", "for this test", bounds=(0.1, 1.0))


def samples(name: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name.startswith(name):
                found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_a_counter_is_read_with_its_labels() -> None:
    ACCEPTED.bound('m"x\n').value += 2
    ACCEPTED.bound('m"x\n').value += 1
    assert samples("mta_test_accepted") == {("mta_test_accepted_total", (("listener", 'm"x\n'),)): 3.0}
    ACCEPTED.drop('m"x\n')
    assert samples("mta_test_accepted") == {}


def test_labels_must_be_those_declared() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        ACCEPTED.bound("mx", "more")


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.gauge("mta_test_queued", "again")


def test_a_gauge_is_set_or_asked() -> None:
    QUEUED.value = 5
    assert samples("mta_test_queued") == {("mta_test_queued", ()): 5.0}
    QUEUED.read = lambda: 7
    assert samples("mta_test_queued") == {("mta_test_queued", ()): 7.0}
    QUEUED.read = lambda: 1 // 0
    assert str(samples("mta_test_queued")) == "{('mta_test_queued', ()): nan}"


def test_a_histogram_cumulates() -> None:
    for value in (0.05, 0.1, 0.5, 7):
        SECONDS.observe(value)
    assert samples("mta_test_seconds") == {
        ("mta_test_seconds_bucket", (("le", "0.1"),)): 2.0,
        ("mta_test_seconds_bucket", (("le", "1.0"),)): 3.0,
        ("mta_test_seconds_bucket", (("le", "+Inf"),)): 4.0,
        ("mta_test_seconds_count", ()): 4.0,
        ("mta_test_seconds_sum", ()): 7.65,
    }


def connect(factory: MetricsFactory) -> tuple[MetricsProtocol, StringTransport]:
    protocol, transport = factory.buildProtocol(None), StringTransport()
    protocol.callLater = lambda *a: None  # type: ignore[method-assign,assignment]
    protocol.makeConnection(transport)
    return protocol, transport


@pytest.mark.parametrize(
    ("request_octets", "status", "body"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b"page\n"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200 OK", b"page\n"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"200 OK", b""),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found", b"see /metrics\n"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed", b"GET only\n"),
        (b"EHLO there\r\n\r\n", b"400 Bad Request", b"this is an HTTP port for metrics\n"),
        (b"x" * (REQUEST_LIMIT_OCTETS + 1), b"431 Request Header Fields Too Large", b"too much\n"),
    ],
)
def test_requests_are_answered_and_the_connection_closed(request_octets: bytes, status: bytes, body: bytes) -> None:
    protocol, transport = connect(MetricsFactory(lambda: b"page\n"))
    for octet in request_octets:
        protocol.dataReceived(bytes([octet]))
    head, _, received = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert received == body
    assert transport.disconnecting


def test_too_many_connections_are_sent_away() -> None:
    factory = MetricsFactory(lambda: b"page\n")
    factory.connections = 20
    protocol, transport = connect(factory)
    assert transport.value().startswith(b"HTTP/1.1 503 ")
    protocol.connectionLost()
    assert factory.connections == 20
