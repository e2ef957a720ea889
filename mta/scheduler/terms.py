"""What settling depends on beside the attempt: one value for each snapshot of the settings. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mta.mail.address import Address
from mta.routing.router import Router


@dataclass(frozen=True, slots=True)
class SettlementPolicy:
    retry_min: float
    retry_max: float
    report_lifetime: float
    hold_reports: bool
    concurrency: int  # jobs at once to one destination
    hostname: str
    postmaster: Address
    generation: int  # of the settings
    router: Router  # leads a report to the sender
    new_id: Callable[[], int]
    random: Callable[[], float]
    owner: int  # reports are born claimed by it
    lease_seconds: float
    delay_report_after: float = 4 * 3600.0  # seconds since acceptance; 0: no report of a delay
