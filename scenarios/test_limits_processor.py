"""The processor: what connections cost it that are open, and what those cost that are made."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.connect_time import connect_seconds
from harness.instruments.turns import alone
from harness.laws.ranges import at_least, at_most
from harness.observe import count, sockets
from harness.traffic import connect, listen
from harness.traffic.crowd import crowd
from harness.waiting import let_pass

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

CONNECTIONS = 2000


@pytest.mark.slow(20)  # needs the processors, so it begins while others only wait
@pytest.mark.claim("limits.cpu")
def test_cpu(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    listener = listen(server)
    with alone():
        with claim.control("no connection is open; forty-one are made") as control:
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
