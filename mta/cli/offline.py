"""The spool of a stopped daemon, read without its lock: for the verbs that change nothing.

The very operations of the daemon run here, on a house whose shards are read-only connections. Nothing is locked or written, so a
daemon that starts meanwhile is not disturbed; what it changes is seen or not seen, a page at a time.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import apsw
from twisted.internet.defer import Deferred, succeed

from mta.admin.archive import FileArchive
from mta.admin.errors import CONFIGURATION, NOT_ALLOWED, TEMPORARY, UNAVAILABLE, VerbError
from mta.admin.house import Caller, House
from mta.admin.operations import VERBS
from mta.cli.fault import Trouble
from mta.config.load import load_settings
from mta.config.problem import ConfigurationError
from mta.config.settings import Settings
from mta.spool.contract import SpoolError, SpoolUnusable
from mta.spool.disk import ShardPaths, shards_of
from mta.spool.history import History
from mta.spool.readonly import SpoolForbidden, SpoolReader, open_reader


class Offline:
    """Verbs as the control socket offers them. Raises Trouble."""

    def __init__(self, configuration: Path) -> None:
        try:
            settings = load_settings(configuration, 0, checks=False)
        except ConfigurationError as error:
            raise Trouble(f"the configuration has errors; see `mta config check`\n{error}", CONFIGURATION) from error
        self._readers: list[SpoolReader] = []
        self.house = self._open(settings)

    def _open(self, settings: Settings) -> House:
        root = settings.configuration.spool.path
        try:
            if not root.is_dir():
                raise Trouble(f"the daemon is not running, and there is no spool in {root}", UNAVAILABLE)
            for shard in shards_of(root):
                self._readers.append(open_reader(root, shard))
        except (PermissionError, SpoolForbidden) as error:
            raise Trouble(f"you may not read the spool in {root}: {error}", NOT_ALLOWED) from error
        except (OSError, SpoolUnusable) as error:
            raise Trouble(f"the spool in {root} can't be read: {error}", TEMPORARY) from error
        paths = ShardPaths(root, 0)
        archive = FileArchive(History(paths.history), paths.refusals, lambda work: succeed(work()))
        return House(settings=lambda: settings, readers=tuple(self._readers), archive=archive, running=False)

    def call(self, verb: str, **arguments: object) -> Any:
        """The result of a verb that reads."""
        known = VERBS[verb]
        if not known.reads:
            raise Trouble("this needs a running daemon", UNAVAILABLE)
        results: list[Any] = []
        failures: list[BaseException] = []
        caller = Caller(os.getuid(), getpass.getuser())
        done = Deferred.fromCoroutine(known.operation(self.house, caller, arguments))
        done.addCallbacks(results.append, lambda failure: failures.append(failure.value))
        for error in failures:
            if isinstance(error, VerbError):
                raise Trouble(str(error), error.code, error.details) from error
            if isinstance(error, apsw.Error | SpoolError | OSError):
                raise Trouble(f"the spool can't be read: {error}", TEMPORARY) from error
            raise error
        return results[0]

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()
