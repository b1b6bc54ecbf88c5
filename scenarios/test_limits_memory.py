"""Memory: what a connection costs, where neither ports nor descriptors end their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import size
from harness.instruments.memory import Memory, given_back, grow_repeatedly, receive_memory, socket_cache
from harness.laws.ranges import at_least, between
from harness.traffic.crowd import crowd
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

CONNECTIONS = 4000


@pytest.mark.claim("limits.memory")
def test_memory(claim: ClaimRun, pair: Pair) -> None:
    empty, own = Memory.now(pair.client), socket_cache(pair.client)
    with claim.effect(f"{CONNECTIONS} idle connections, both ends on this machine") as effect:
        growth, everyone = grow_repeatedly(pair, CONNECTIONS)
        growths = {"slab": size(round(growth.slab)), "objects": growth.objects}
        effect.note("a connection, both ends; the middle of three times", growths)
        effect.note("bytes an object", {name: size(round(now.each)) for name, now in empty.caches.items()})
        effect.compare("bytes of slab a connection", size(round(growth.slab)), document=between(4096, 16384))
        if own in growth.objects:
            # Free ones that a processor keeps at hand count as used.
            effect.compare(f"{own} objects a connection", growth.objects[own], document=between(1.8, 2.2))
    with claim.control("they are idle: no data waits") as control:
        control.expect("bytes held in receive buffers", size(receive_memory(pair.server)), 0)
    with claim.control("they are closed") as control:
        half = CONNECTIONS * growth.slab / 2
        released = given_back(pair, everyone, half)
        control.expect("bytes of slab that came back", size(released), at_least(half))
    with claim.effect(f"{CONNECTIONS} connections with 1000 bytes on each that nobody reads") as effect:
        crowd(pair.client, pair.server, CONNECTIONS, unread=1000)
        until(lambda: receive_memory(pair.server) >= 1000 * CONNECTIONS, deadline=30, what="the bytes to arrive")
        held = receive_memory(pair.server) / CONNECTIONS
        effect.compare("bytes held in receive buffers, a connection", size(round(held)), document=at_least(1000))
