"""The processor: what connections cost it that are open, and what those cost that are made."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.connect_time import connect_seconds, connect_times
from harness.instruments.turns import alone
from harness.laws.ranges import at_least, at_most, between
from harness.observe import count, sockets
from harness.traffic import connect, listen
from harness.traffic.crowd import crowd
from harness.waiting import let_pass

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

CONNECTIONS = 2000
# Made one after the other, and four times as many.
FEW = 100


def idle_second() -> float:
    """The processor seconds of a second in which no connection is made."""
    before = time.thread_time()
    let_pass(1, what="a second in which no connection is made")
    return time.thread_time() - before


@pytest.mark.claim("limits.cpu-by-rate")
def test_cpu_by_rate(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)

    def spent(connections: int) -> float:
        """The processor seconds of the cheaper three quarters of so many connect() calls, each with its handshake.

        What interrupts do for others is charged to whoever runs, and makes a few calls dear.
        """
        return sum(sorted(connect_times(client, listener, connections))[: connections * 3 // 4])

    with alone():
        spent(FEW)
        with claim.effect(f"{FEW} connections are made, and then {4 * FEW}") as effect:
            few, many = spent(FEW), spent(4 * FEW)
            effect.compare("processor seconds, times as many", round(many / few, 2), document=between(2.5, 6))
            effect.note("processor seconds", seconds([few, many]))
            effect.note("connections that one processor can make in a second, at most", round(FEW * 3 / 4 / few))
        with claim.control(f"{4 * FEW} connections stay open for a second, and none is made") as control:
            pair.server.sysctl["net.core.somaxconn"] = 4 * FEW  # nobody accepts them
            everyone = connect(client, listen(pair.server, 4 * FEW), 4 * FEW, wait=True)
            # Of three such seconds the cheapest: interrupts for others make one dear as well, and none cheap.
            idle = min(idle_second() for _ in range(3))
            # As many are open as were made: held against their cost, not that of a quarter of them.
            control.expect("processor seconds", seconds(idle), at_most(many / 2))
            control.expect("connections", len(everyone.sockets), 4 * FEW)


@pytest.mark.slow(20)  # needs the processors, so it begins while others only wait
@pytest.mark.claim("limits.cpu")
def test_cpu(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    listener = listen(server)
    with alone():
        with claim.control("no connection is open; some are made") as control:
            connect_seconds(client, listener)
            base = connect_seconds(client, listener)
            control.note("connections a second that one processor can make, by what connect() takes", round(1 / base))
            made = control.delta(client).Tcp
            control.expect("segments for each that is made", made.OutSegs / made.ActiveOpens, at_least(3))
        everyone = crowd(client, server, CONNECTIONS)
        with claim.effect(
            f"{CONNECTIONS} connections are open, and nothing is said on them for five seconds"
        ) as effect:
            let_pass(5, what="five seconds in which nothing is said")
            sent = sum(effect.delta(host).Tcp.OutSegs for host in (client, server))
            effect.compare("segments sent", sent, document=at_least(1), kernel=0)
            running = sum(end.timer is not None for end in sockets(client, "state established"))
            effect.compare("connections with a timer", running, document=at_least(1), kernel=0)
            effect.premise("connections", count(client, "state established"), CONNECTIONS)
        with claim.effect("the next ones are made") as effect:
            took = connect_seconds(client, listener)
            effect.compare("connect(), times as long", round(took / base, 2), document=at_least(3), kernel=at_most(2))
            effect.note("processor seconds a connect()", seconds(took))
    with claim.control("one with SO_KEEPALIVE, on which nothing is said either") as control:
        everyone.close()
        (kept,) = connect(server, listen(client), wait=True).sockets
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        timers = [end.timer.kind for end in sockets(server, f"dport = :{kept.getpeername()[1]}") if end.timer]
        control.expect("connections with a timer", timers, ["keepalive"])
