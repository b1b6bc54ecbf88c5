"""Memory: what a connection costs, where neither ports nor descriptors end their number."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from harness.evidence import size
from harness.instruments.memory import Memory, given_back, grow_repeatedly, receive_memory, socket_cache
from harness.instruments.turns import alone
from harness.laws.ranges import at_least, at_most, between
from harness.observe import sockets
from harness.traffic import connect, listen
from harness.traffic.connection import abort
from harness.traffic.crowd import crowd
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

CONNECTIONS = 4000
# Of each of a hundred connections.
BYTES = 10_000


@pytest.mark.claim("limits.memory")
def test_memory(claim: ClaimRun, pair: Pair) -> None:
    with alone():
        measure_memory(claim, pair)


def measure_memory(claim: ClaimRun, pair: Pair) -> None:
    """The slab is the whole machine's, so others' connections are to be few meanwhile."""
    empty, own = Memory.now(pair.client), socket_cache(pair.client)
    with claim.effect(f"{CONNECTIONS} idle connections, both ends on this machine") as effect:
        growth, everyone = grow_repeatedly(pair, CONNECTIONS)
        growths = {"slab": size(round(growth.slab)), "objects": growth.objects}
        effect.note("a connection, both ends; the middle of three times", growths)
        effect.note("bytes an object", {name: size(round(now.each)) for name, now in empty.caches.items()})
        effect.compare("bytes of slab a connection", size(round(growth.slab)), document=at_least(1))
        if own in growth.objects:
            # Free ones that a processor keeps at hand count as used.
            effect.premise(f"{own} objects a connection", growth.objects[own], between(1.8, 2.2))
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


@pytest.mark.claim("limits.memory")
@pytest.mark.machine_wide("net.ipv4.tcp_mem")
def test_memory_is_used_up(claim: ClaimRun, pair: Pair) -> None:
    """A hundred connections with 10,000 unread bytes each need more than 1 MB; tcp_mem has 256 KiB for them.

    The hard limit alone does that: under pressure windows shrink, and most connections have their bytes all the same.
    """

    def complete() -> int:
        """How many of a hundred connections have all of their bytes at the server, once no more come."""
        listener = listen(pair.server)
        clients = connect(pair.client, listener, 100, wait=True)
        for each in clients.sockets:
            with suppress(BlockingIOError):  # the sender's end needs memory, too
                each.send(bytes(BYTES))
        listener.accept(100, deadline=30)
        arrived: list[int] = []

        def settled() -> bool:
            rows = sockets(pair.server, f"state established sport = :{listener.port}")
            arrived.append(sum(row.recv_q == BYTES for row in rows))
            return len(arrived) > 20 and arrived[-1] == arrived[-20]

        until(settled, deadline=60, what="the bytes to arrive")
        for end in [*clients.sockets, *listener.accepted]:
            abort(end)
        return arrived[-1]

    with claim.control("tcp_mem as it is") as control:
        control.expect("connections with all of their bytes, of a hundred", complete(), 100)
    with claim.effect("tcp_mem: 64 pages at most") as effect:
        pair.server.lab.machine_sysctl["net.ipv4.tcp_mem"] = "32 48 64"
        # No more than fit into 64 pages, without what their packets take besides.
        effect.compare(
            "connections with all of their bytes, of a hundred", complete(), document=at_most(64 * 4096 // BYTES)
        )
        effect.note("memory of sockets", pair.server.run("cat", "/proc/net/sockstat").stdout)
    with claim.control("tcp_mem 65536 pages") as control:
        pair.server.lab.machine_sysctl["net.ipv4.tcp_mem"] = "32768 49152 65536"
        control.expect("connections with all of their bytes, of a hundred", complete(), 100)
