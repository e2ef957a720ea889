"""Endpoint strings: read as Twisted reads them, without Twisted."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet import endpoints as twisted
from twisted.internet.testing import MemoryReactor
from twisted.python.systemd import ListenFDs

from mta.config.endpoints import Endpoint, EndpointError, parse_endpoint, with_absolute_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp:25", Endpoint("tcp", "", 25)),
        ("tcp:port=25:interface=127.0.0.1:backlog=5", Endpoint("tcp", "127.0.0.1", 25)),
        ("tcp:25:interface=0.0.0.0", Endpoint("tcp", "", 25)),
        ("tcp6:25", Endpoint("tcp6", "", 25)),
        (r"tcp6:25:interface=2001\:db8\:\:0\:1", Endpoint("tcp6", "2001:db8::1", 25)),
        (r"tcp6:25:interface=fe80\:\:1%eth0", Endpoint("tcp6", "fe80::1%eth0", 25)),
        (r"unix:/run/a\:b\=c:mode=660", Endpoint("unix", target="/run/a:b=c")),
        ("systemd:domain=INET6:name=mx", Endpoint("systemd", target="name mx")),
        ("systemd:domain=INET:index=00", Endpoint("systemd", target="index 0")),
    ],
)
def test_an_endpoint_is_understood(text: str, expected: Endpoint) -> None:
    assert expected == parse_endpoint(text)


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("tcp:25", "tcp:25", True),
        ("tcp:25", "tcp:25:interface=127.0.0.1", True),
        ("tcp:25:interface=127.0.0.2", "tcp:25:interface=127.0.0.1", False),
        ("tcp:25", "tcp6:25", False),
        ("tcp:0", "tcp:0", False),
        ("unix:/a", "unix:/a:mode=600", True),
        ("systemd:domain=INET:index=0", "systemd:domain=INET6:index=0", True),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=1", False),
    ],
)
def test_two_that_want_the_same_collide(one: str, other: str, collide: bool) -> None:
    assert collide == parse_endpoint(one).collides(parse_endpoint(other))
    assert collide == parse_endpoint(other).collides(parse_endpoint(one))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:a/b:mode=600", "unix:/etc/x/a/b:mode=600"),
        ("unix:/a", "unix:/a"),
        ("unix:", "unix:"),
        ("tcp:25", "tcp:25"),
    ],
)
def test_the_path_of_a_socket_is_taken_from_the_directory_of_the_file(text: str, expected: str) -> None:
    assert expected == with_absolute_path(text, "/etc/x")


PARTS = r"""tcp tcp6 unix systemd 25 0 70000 x /run/x interface=127.0.0.1 interface=\:\:1 interface=::1 interface= backlog=5 backlog=x
    mode=660 mode=9 domain=INET domain=INET6 name=mx index=0 port=25 a=b=c address=/x lockfile=1 x\ a\=b"""


@given(st.lists(st.sampled_from(["", *PARTS.split()]), min_size=1, max_size=5).map(":".join) | st.text(max_size=20))
@example("tcp:25:")
@example("tcp:²")
def test_twisted_takes_whatever_is_taken_here(text: str) -> None:
    try:
        parsed = parse_endpoint(text)
    except EndpointError:
        return
    if parsed.kind == "systemd":  # Twisted looks for the descriptor at once, in this process
        arguments, named = twisted._parse(text)
        parser = twisted._SystemdParser()
        parser._sddaemon = ListenFDs([3], ["mx"])
        assert isinstance(
            parser.parseStreamServer(MemoryReactor(), *arguments[1:], **named), twisted.AdoptedStreamServerEndpoint
        )
        return
    made = twisted.serverFromString(MemoryReactor(), text)
    if parsed.kind == "unix":
        assert parsed.target == made._address
    else:
        assert (parsed.port, parsed.host) == (
            made._port,
            {"0.0.0.0": "", "::": ""}.get(made._interface, made._interface),
        )
