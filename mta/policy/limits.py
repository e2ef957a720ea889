"""How many sessions at once, from whom; and when connections run short (stress). Counts of one process."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache

from mta.mail import reply
from mta.policy.decision import Decision

STRESS_BEGINS = 0.85  # share of the slots in use
STRESS_ENDS = 0.70

_ALLOWED = Decision("within the connection limits")
_TOO_MANY = Decision("limits.connections", reply.TOO_MANY_CONNECTIONS)
_TOO_MANY_FROM_CLIENT = Decision("limits.connections_per_client", reply.TOO_MANY_CONNECTIONS)


@lru_cache(maxsize=4096)
def client_key(client_ip: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    if ":" not in client_ip:
        return client_ip
    return str(ipaddress.ip_network(f"{client_ip}/64", strict=False).network_address) + "/64"


@dataclass(slots=True)
class ConnectionCounts:
    """Open sessions. `decide` looks, `enter` and `leave` count."""

    total: int = 0
    by_client: dict[str, int] = field(default_factory=dict)
    stress: bool = False

    def decide(
        self, client_ip: str, *, submission: bool, most: int, most_per_client: int, reserved_share: float
    ) -> Decision:
        if self.total >= (most if submission else most - int(most * reserved_share)):
            return _TOO_MANY
        if self.by_client.get(client_key(client_ip), 0) >= most_per_client:
            return _TOO_MANY_FROM_CLIENT
        return _ALLOWED

    def enter(self, client_ip: str, most: int) -> None:
        key = client_key(client_ip)
        self.total += 1
        self.by_client[key] = self.by_client.get(key, 0) + 1
        if self.total > most * STRESS_BEGINS:
            self.stress = True

    def leave(self, client_ip: str, most: int) -> None:
        key = client_key(client_ip)
        self.total -= 1
        left = self.by_client.get(key, 0) - 1
        if left > 0:
            self.by_client[key] = left
        else:
            self.by_client.pop(key, None)
        if self.stress and self.total < most * STRESS_ENDS:
            self.stress = False
