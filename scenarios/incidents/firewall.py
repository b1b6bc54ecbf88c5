"""The firewall of the incidents: a router that keeps track of connections, and drops what belongs to none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.lab.topologies import behind_router

if TYPE_CHECKING:
    from harness.lab import BehindNat, Lab


def build(lab: Lab, clients: int = 1) -> BehindNat:
    """client1 … --- switch --- firewall --- server; the firewall is the `gateway`, and leaves addresses as they are."""
    net = behind_router(lab, clients)
    net.gateway.firewall.drop(state="invalid")
    return net
