"""What a reload can't change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mta.config.load import load_settings
from mta.config.settings import restart_keys

NEW_LISTENER = '[[listener]]\nname = "second"\nendpoints = ["tcp:26"]\nkind = "mx"\n'


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("", ""), []),
        (("mail.example.org", "mx.example.org"), []),
        (('via = "mx"', 'via = "discard"\n[limits]\nconnections = 5\n[queue]\nhold = true'), []),
        (('"tcp:25"', '"tcp:26"'), ["listener.mx.endpoints"]),
        (('tls = "none"', 'tls = "implicit"'), ["listener.mx.tls"]),
        (('name = "mx"', 'name = "in"'), ["listener.mx", "listener.in"]),
        (("[[route]]", NEW_LISTENER + "[[route]]"), ["listener.second"]),
        (("[[listener]]", NEW_LISTENER + "[[listener]]"), ["listener.second"]),  # their order is nothing
        (('path = "spool"', 'path = "spool2"\nshards = 4'), ["spool.path", "spool.shards"]),
        (('"mta.sock"', '"other.sock"'), ["control.socket"]),
        (("[control]", '[log]\npath = "log"\nformat = "json"\n[control]'), ["log.path", "log.format"]),
        (("[control]", '[metrics]\nendpoint = "unix:m"\n[control]'), ["metrics.endpoint"]),
    ],
)
def test_only_what_exists_already_waits_for_a_restart(
    change: tuple[str, str], expected: list[str], write: Callable[..., Path]
) -> None:
    old = load_settings(write(), checks=False)
    new = load_settings(write(text=write().read_text().replace(*change)), 2, checks=False)
    assert expected == restart_keys(old, new)
