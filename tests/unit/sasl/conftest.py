"""A user database made once (key derivation is slow on purpose) and copied for each test; an authenticator on a clock."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from mta.config.model import Configuration
from mta.sasl.authenticator import Authenticator, build_authenticator
from mta.sasl.user_database import UserDatabase

DEMO = "demo@dev.test"
PASSWORD = "demo-password"
MADE_AT = 1_700_000_000.0
WALL = 1_800_000_000.0  # long after every file's last change


class AtOnce:
    """Threads that run at once, in place; `refuse` makes the next ones fail."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        self.runs += 1
        return maybeDeferred(function, *args, **kwargs)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users.db"
    database = UserDatabase(path)
    database.create(os.urandom)
    database.add(DEMO, PASSWORD, now=MADE_AT, random=os.urandom)
    database.add("zo\u00eb@dev.test", "pa\u00dfwort", now=MADE_AT, random=os.urandom)
    return path


@pytest.fixture
def database(template: Path, tmp_path: Path) -> UserDatabase:
    path = tmp_path / "users.db"
    shutil.copy2(template, path)
    os.utime(path, (MADE_AT, MADE_AT))
    return UserDatabase(path, busy_seconds=0.05)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def threads() -> AtOnce:
    return AtOnce()


@pytest.fixture
def configured(database: UserDatabase) -> Callable[..., Configuration]:
    def make(*paths: Path, **auth: Any) -> Configuration:
        backends = [{"kind": "users", "path": str(path)} for path in (paths or (database.path,))]
        return Configuration.model_validate(
            {
                "hostname": "mail.dev.test",
                "postmaster": "admin@dev.test",
                "listener": [{"name": "mx", "endpoints": ["tcp:0"], "kind": "submission"}],
                "route": [{"domains": ["*"], "via": "discard"}],
                "auth": {"realm": "dev.test", "backend": backends, **auth},
            }
        )

    return make


@pytest.fixture
def authenticator(configured: Any, clock: Clock, threads: AtOnce) -> Authenticator:
    return build_authenticator(configured(), reactor=clock, threads=threads, wall=lambda: WALL)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every key derivation: its hash and number of rounds."""
    seen: list[tuple[str, int]] = []
    derive = hashlib.pbkdf2_hmac

    def counting(hash_name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        seen.append((hash_name, iterations))
        return derive(hash_name, password, salt, iterations)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", counting)
    return seen
