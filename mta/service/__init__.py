"""Composition: builds the tree of services from the configuration; the only place that chooses backends.

`makeService` runs before twistd forks, so nothing is opened and no thread started there: that is the daemon's startService.
"""

from __future__ import annotations

import sys

from twisted.application.service import IService
from twisted.python import usage

from mta.config.load import find_configuration, load_settings
from mta.config.problem import ConfigurationError, format_problems

EX_CONFIG = 78  # sysexits.h


class Options(usage.Options):
    """Options of `twistd mta`."""

    synopsis = "[--config FILE]"
    longdesc = "The configuration is FILE, or $MTA_CONFIG, or /etc/mta/mta.toml. See `mta config check`."
    optParameters = [["config", "c", None, "The configuration file"]]  # noqa: RUF012, N815 - usage reads it so


def makeService(options: Options) -> IService:
    """The daemon for `twistd mta`. Leaves with 78 and every problem of the configuration told."""
    try:
        settings = load_settings(find_configuration(options["config"]))
    except ConfigurationError as error:
        sys.stderr.write(format_problems(error.problems) + "\n")
        raise SystemExit(EX_CONFIG) from None
    if settings.warnings:
        sys.stderr.write(format_problems(settings.warnings) + "\n")
    from twisted.internet import reactor  # noqa: PLC0415 - twistd has chosen it by now

    from mta.service.daemon import Daemon  # noqa: PLC0415
    from mta.service.process import end_at_sigterm, prepare_process  # noqa: PLC0415

    prepare_process(reactor)
    reactor.callWhenRunning(end_at_sigterm, reactor)
    return Daemon(settings, reactor)
