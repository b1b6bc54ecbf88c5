"""What TIME-WAIT costs in memory and in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds, size
from harness.instruments.connect_time import connect_seconds
from harness.instruments.memory import end, grow_repeatedly
from harness.instruments.slabs import (
    bytes_each,
    bytes_of,
    bytes_of_a_port,
    bytes_per_hash_slot,
    hash_slots,
    time_wait_cache,
)
from harness.instruments.turns import alone
from harness.laws import since
from harness.laws.ranges import at_least, at_most, between
from harness.observe import count
from harness.simulated import is_simulated
from harness.traffic import listen
from harness.traffic.closing import abort_connections, leave_time_wait

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Listener

MAX_TW_BUCKETS = "net.ipv4.tcp_max_tw_buckets"
MIB = 1 << 20


@pytest.mark.claim("time-wait.memory")
def test_memory(claim: ClaimRun, pair: Pair) -> None:
    name = time_wait_cache(pair.server)
    n = 2000
    pair.server.sysctl[MAX_TW_BUCKETS] = 200_000

    def close_in_order() -> int:
        # A listener of their own, so that the client has the same ports for them as before.
        return len(leave_time_wait(pair.client, listen(pair.server), n, closer="server", deadline=60))

    def reset() -> int:
        abort_connections(pair.client, listen(pair.server), n)
        return n

    with alone(), claim.effect("connections closed in order") as effect:
        slot = bytes_per_hash_slot(pair.server)
        effect.note("entries of the hash table", hash_slots(pair.server))
        if slot is not None:
            # The table has a slot for each entry, used or not.
            kernel = 8 if since("hash-slot-has-one-list") else 16
            effect.compare("bytes a slot of the hash table", size(slot), document=8, kernel=kernel)
        each = bytes_each(close_in_order, name)
        effect.compare("bytes a TIME-WAIT", size(each.bytes), document=8, kernel=each.account)
        effect.note("bytes more for each port that is bound, where the client closes first", bytes_of_a_port())
    with alone(), claim.control("connections ended by RST, which leave no TIME-WAIT") as control:
        # What others make or free meanwhile, at a steady rate, looks like ours: the least of some counts. A machine in
        # simulated time has no others.
        least = min(abs(bytes_each(reset, name).bytes) for _ in range(1 if is_simulated() else 3))
        control.expect("bytes a connection", size(least), at_most(60))
        control.expect("TIME-WAIT at the client", count(pair.client, "state time-wait"), 0)


@pytest.mark.claim("time-wait.memory-is-little")
def test_memory_is_little(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    server.sysctl[MAX_TW_BUCKETS] = 200_000
    with alone(), claim.control("connections that stay open, and are idle") as control:
        growth, everyone = grow_repeatedly(pair, 2000)
        idle = round(growth.slab / 2)
        control.expect("bytes of slab at each end", size(idle), at_least(1000))
        end(pair, everyone)

    def close_in_order() -> int:
        return len(leave_time_wait(client, listen(server), 2000, closer="server", deadline=60))

    with alone(), claim.effect("connections closed in order") as effect:
        each = bytes_each(close_in_order, time_wait_cache(server)).bytes
        effect.compare("bytes a TIME-WAIT, at most a fifth of that", size(each), document=at_most(idle // 5))
        effect.note("bytes for 60,000 of them", size(each * 60_000))


@pytest.mark.slow(60)  # needs the processors, so it begins while others only wait
@pytest.mark.claim("time-wait.harmless-at-a-server")
def test_harmless_at_a_server(claim: ClaimRun, pair: Pair) -> None:
    visitor, server = pair.client, pair.server
    server.sysctl[MAX_TW_BUCKETS] = 200_000

    def closed_by_the_server(n: int) -> None:
        # Not too many a listener: the visitor's ports are free again at once, and a port that it takes a second time
        # takes over the TIME-WAIT.
        for _ in range(0, n, 2500):
            leave_time_wait(visitor, listen(server), 2500, closer="server", deadline=60)

    with alone():
        with claim.control("none") as control:
            service = listen(server)
            connect_seconds(visitor, service)
            base = connect_seconds(visitor, service)
            control.note("seconds a connect()", seconds(base))
            control.expect("TIME-WAIT at the visitor", count(visitor, "state time-wait"), 0)
        with claim.effect("20,000 at a server, which has closed first; then 25,000") as effect:
            before = bytes_of(time_wait_cache(server))
            closed_by_the_server(20_000)
            after = bytes_of(time_wait_cache(server))
            if before is not None and after is not None:
                effect.compare("bytes of memory, at most 40 MiB", size(after - before), document=at_most(40 * MIB))
            effect.compare("connect(), times as long", times(visitor, service, base), document=at_most(3))
            closed_by_the_server(5_000)
            effect.note("TIME-WAIT at the server then", count(server, "state time-wait"))
            effect.note("25,000: connect(), times as long", times(visitor, service, base))


@pytest.mark.slow(60)  # needs the processors, so it begins while others only wait
@pytest.mark.claim("time-wait.harmless-below-20000")
def test_harmless_below_20000(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    client.sysctl[MAX_TW_BUCKETS] = 200_000
    with alone():
        with claim.control("none") as control:
            destination = listen(server)
            connect_seconds(client, destination)
            base = connect_seconds(client, destination)
            control.note("seconds a connect()", seconds(base))
            control.expect("TIME-WAIT at the client", count(client, "state time-wait"), 0)
        with claim.control("13,000 at a client, all of one destination") as control:
            leave_time_wait(client, destination, 13_000, deadline=60)
            control.expect("connect(), times as long", times(client, destination, base), at_most(3))
        with claim.effect("14,200 at a client, all of one destination") as effect:
            leave_time_wait(client, destination, 1_200, deadline=60)
            effect.premise("TIME-WAIT", count(client, "state time-wait"), between(14_200, 14_300))
            slower = at_least(20) if since("connect-searches-one-parity-first") else at_most(3)
            took = connect_seconds(client, destination)
            effect.note("seconds a connect()", seconds(took))
            effect.compare("connect(), times as long", round(took / base, 2), document=at_most(3), kernel=slower)
        with claim.control("the same client, another destination") as control:
            control.expect("connect(), times as long", times(client, listen(server), base), at_most(3))


def times(client: Host, listener: Listener, base: float) -> float:
    """How many times as long as `base` a connect() takes."""
    return round(connect_seconds(client, listener) / base, 2)
