"""Receptions in memory for these tests."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mta.testing.reception import Connection, MemoryReception

HELLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<demo@dev.test>\r\n"
LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0demo@dev.test\0demo-password") + b"\r\n"
MESSAGE = b"Subject: hello\r\n\r\nbody\r\n.\r\n"


@pytest.fixture
def reception() -> Iterator[MemoryReception]:
    house = MemoryReception()
    yield house
    house.end()


@pytest.fixture
def make() -> Iterator[Callable[..., MemoryReception]]:
    """Receptions with settings of one's own."""
    houses: list[MemoryReception] = []

    def made(settings: dict[str, Any]) -> MemoryReception:
        houses.append(MemoryReception(settings))
        return houses[-1]

    yield made
    for house in houses:
        house.end()


class Client:
    """A client that waits for each answer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.greeting = connection.read()

    def say(self, *packets: bytes) -> bytes:
        said = b""
        for packet in packets:
            self.connection.send(packet)
            said += self.connection.read()
        return said


@pytest.fixture
def client(reception: MemoryReception) -> Client:
    return Client(reception.connect())


@pytest.fixture
def clients() -> type[Client]:
    return Client
