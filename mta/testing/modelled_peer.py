"""A neighbour on a fake network: a RemoteHost with its script, that can go down, come back, be full, and know strangers from friends.

peer = house.peer("mx.example.net", {"RCPT TO:<bad@": "550 5.1.1 nobody"})
peer.down(); house.advance(hours=3); peer.up()
peer.script["RCPT"] = greylist(house.clock, seconds=300)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mta.testing.network import Machine
from mta.testing.peer import Peer
from mta.testing.remote_host import Answer

SMTP_PORT = 25


class ModelledPeer(Peer):
    """`messages` are what it took. `address` is its machine's. It is up when it is made."""

    def __init__(
        self, machine: Machine, script: Mapping[str, Answer] | None = None, *, port: int = SMTP_PORT, **fields: Any
    ) -> None:
        super().__init__(None, dict(script or {}), name=machine.name, **fields)
        self.machine = machine
        self.port = port
        self.up()

    @property
    def address(self) -> str:
        return self.machine.address

    def up(self) -> None:
        """Its server runs."""
        self.machine.up = True
        if self.reactor is None:
            self.reactor = self.machine.boot()
            self.start(port=self.port)

    def down(self) -> None:
        """Its server is stopped: connections are reset, new ones refused."""
        if self.reactor is not None:
            self.machine.end(self.reactor, told=True)
            self.reactor = None

    def vanish(self) -> None:
        """The machine is off: nobody answers, not even with a refusal."""
        self.machine.up = False
        if self.reactor is not None:
            self.machine.end(self.reactor, told=False)
            self.reactor = None
