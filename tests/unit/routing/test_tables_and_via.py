"""Tables of who exists, and the texts that name a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.via import ViaError, Way, parse_via
from mta.mail.address import parse_address
from mta.routing.tables import TableError, load_table, parse_table


def test_a_hash_inside_a_word_belongs_to_the_local_part() -> None:
    table = parse_table("a#b\nplain # comment\n#c\n", "t")
    assert parse_address("a#b@example.org") in table
    assert parse_address("plain@example.org") in table
    assert len(table.locals) == 2


def test_a_table_may_hold_utf8_and_windows_line_ends() -> None:
    table = parse_table("Grüße@example.org\r\ninfo\r\n", "t")
    assert parse_address("GRÜßE@example.org", utf8=True) in table
    assert parse_address("info@anywhere.example") in table


@pytest.mark.parametrize("line", ["a b", "x@", "@example.org", "a..b", "x@exa mple.org", "\x00"])
def test_a_line_that_means_nothing_is_named(line: str) -> None:
    with pytest.raises(TableError, match=r"people:2: "):
        parse_table(f"info\n{line}\n", "people")


def test_an_unreadable_table_says_why(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="No such file"):
        load_table(tmp_path / "absent")
    (tmp_path / "latin").write_bytes(b"gr\xfcn\n")
    with pytest.raises(TableError, match="UTF-8"):
        load_table(tmp_path / "latin")
    with pytest.raises(TableError, match="directory"):
        load_table(tmp_path)


@pytest.mark.parametrize(
    ("text", "way", "target"),
    [
        ("maildir:/var/mail/{domain}/{local}", Way.MAILDIR, "maildir:/var/mail/{domain}/{local}"),
        ("discard", Way.DISCARD, ""),
        ("mx", Way.MX, ""),
        ("smtp:[Smart.Example.ORG]:587", Way.SMTP, "smtp:[smart.example.org]:587"),
        ("smtp:[192.0.2.1]", Way.SMTP, "smtp:[192.0.2.1]:25"),
        ("smtp:[2001:DB8::1]:26", Way.SMTP, "smtp:[2001:db8::1]:26"),
        ("smtp:[localhost]:2525", Way.SMTP, "smtp:[localhost]:2525"),
    ],
)
def test_ways_out(text: str, way: Way, target: str) -> None:
    via = parse_via(text)
    assert (via.way, via.target) == (way, target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "maildir:",
        "maildir:/x/{user}",
        "maildir:/x/{local!r}",
        "smtp:host:25",
        "smtp:[a b]:25",
        "smtp:[h.example]:0",
        "smtp:[h.example]:70000",
        "smtp:[h.example]:25\r\nx",
        "mx:host",
        "discard:now",
        "error:",
        "error:no such user",
        "error:2.0.0 fine",
        "pigeon:home",
    ],
)
def test_what_names_no_way_out(text: str) -> None:
    with pytest.raises(ViaError):
        parse_via(text)


def test_an_error_without_text_gets_one() -> None:
    assert str(parse_via("error:5.7.1").reply) == "550 5.7.1 Refused"
    assert str(parse_via("error:4.7.1").reply) == "450 4.7.1 Try again later"
