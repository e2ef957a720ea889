"""MemorySpool: the spool's contract in memory, for tests of what uses a spool and for simulated houses.

spool = MemorySpool(clock=lambda: now)                     # Deferreds have fired when they are returned
spool = MemorySpool(clock=clock.seconds, reactor=clock)    # commits take a turn of the reactor
spool = spool.crash()                                      # what was not committed is lost
spool.room = False                                         # the disk is nearly full
spool.history[message]                                     # what came to its end, after `move_finished`
"""

from __future__ import annotations

from mta.spool.memory import MemorySpool

__all__ = ["MemorySpool"]
