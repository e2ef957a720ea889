"""When a deferred recipient is tried again: doubling waits, capped, with a jitter that keeps a crowd from coming back at once. Pure.

RFC 5321 section 4.5.4.1 asks for at least 30 minutes in the long run; the first retries come sooner, because most deferrals
(greylisting, a restart) are over within minutes.
"""

from __future__ import annotations

from collections.abc import Callable

JITTER_SHARE = 0.1
_DOUBLINGS_MAX = 32  # beyond any cap; keeps 2**n small whatever count a row holds

RECOVERY_SECONDS = 2.0  # first wait after a crash: the figure to reach is a delivery within 5 s of the restart


def retry_delay(attempts: int, minimum: float, maximum: float, random: Callable[[], float]) -> float:
    """Seconds to wait after `attempts` deferrals (1 after the first): minimum x 2^(attempts-1), capped, +-10 %.

    `random` gives numbers in [0, 1).
    """
    wait = min(minimum * 2.0 ** min(max(attempts - 1, 0), _DOUBLINGS_MAX), maximum)
    return wait * (1 - JITTER_SHARE + 2 * JITTER_SHARE * random())


def recovery_delay(attempts: int, maximum: float, random: Callable[[], float]) -> float:
    """Seconds until a row that was in flight at a crash is tried again. Short at first, since most were innocent; growing
    fourfold, so that a message that kills the process can't keep it down."""
    wait = min(RECOVERY_SECONDS * 4.0 ** min(max(attempts - 1, 0), _DOUBLINGS_MAX), maximum)
    return wait * (0.5 + 0.5 * random())
