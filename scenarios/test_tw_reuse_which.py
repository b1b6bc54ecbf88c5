"""tcp_tw_reuse: which TIME_WAITs connect() takes over, and what they and the connect() must be."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from harness.evidence import port as as_port
from harness.evidence import seconds
from harness.instruments.take_over import NO_PORT, grow_old, takes_over
from harness.laws import since
from harness.laws.ranges import at_least, at_most
from harness.observe import count
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import wait_for_end
from harness.traffic.ports import give_ports
from harness.waiting import let_pass

if TYPE_CHECKING:
    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

REUSE = "net.ipv4.tcp_tw_reuse"
STAMPS = "net.ipv4.tcp_timestamps"
PORT = 41000


@pytest.mark.claim("tw-reuse.needs-timestamps")
def test_needs_timestamps(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server)
    client, server = pair.client, pair.server
    client.sysctl[REUSE] = 1
    was = {"both ends": (1, 1), "on, later off": (1, 1), "off, later on": (0, 0)}
    if since("timestamps-per-namespace"):  # before, both ends have the same
        was |= {"off at the client": (0, 1), "off at the server": (1, 0)}
    ports = dict(zip(was, range(PORT, PORT + len(was)), strict=True))

    def set_stamps(of_client: int, of_server: int) -> None:
        client.sysctl[STAMPS], server.sysctl[STAMPS] = of_client, of_server

    def taken_over(what: str) -> bool:
        give_ports(client, first=ports[what])
        return takes_over(client, listener)

    for what, knobs in was.items():
        set_stamps(*knobs)
        give_ports(client, first=ports[what])
        leave_time_wait(client, listener)
    grow_old()
    with claim.effect("a TIME_WAIT of 2 s whose connection had timestamps") as effect:
        set_stamps(1, 1)
        effect.compare("taken over", taken_over("both ends"), document=True)
        effect.compare("TWRecycled", effect.delta(client).TcpExt.TWRecycled, document=1)
    with claim.control("the same, but the connection had none") as control:
        for what in was:
            if what.startswith("off"):
                control.expect(f"taken over; {what}", taken_over(what), False)
    with claim.control("what counts is the old connection's timestamps, not the new one's") as control:
        set_stamps(0, 0)
        control.expect("taken over; on then, off since", taken_over("on, later off"), True)


@pytest.mark.claim("tw-reuse.outbound-only")
def test_outbound_only(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    values = (0, 1, 2) if since("tw-reuse-on-loopback") else (0, 1)
    listener, own = listen(server), listen(client, port=8000)

    def come_back(port: int, phase: Phase) -> dict[str, object]:
        """A client comes back over a port whose last connection the server has in TIME_WAIT."""
        give_ports(client, first=port)
        leave_time_wait(client, listener, closer="server")
        before = phase.delta(server)
        (again,) = connect(client, listener, wait=True)
        moved = phase.delta(server)
        seen = {name: moved[name] - before[name] for name in ("TcpExt.TWRecycled", "Tcp.PassiveOpens")}
        (accepted,) = listener.accept()
        left = count(server, f"state time-wait dport = :{port}", family=server.family)
        again.socket.close()
        wait_for_end(accepted)
        accepted.close()
        return {"connect()": again.result, "TIME_WAIT left": left, **seen}

    with claim.effect("incoming: the server closed first, and the client comes back") as effect:
        let_in = {"connect()": "connected", "TIME_WAIT left": 0, "TcpExt.TWRecycled": 0, "Tcp.PassiveOpens": 1}
        for value in values:
            server.sysctl[REUSE] = value
            seen = come_back(PORT + value, effect)
            effect.compare(f"with tcp_tw_reuse {value} at the server", seen, document=let_in)
    with claim.control("outgoing: the same server as a client, whose port is in TIME_WAIT") as control:
        give_ports(server)
        leave_time_wait(server, own)
        grow_old()
        for value, wanted in ((0, False), (1, True)):
            server.sysctl[REUSE] = value
            control.expect(f"taken over with {value}", takes_over(server, own), wanted)
        control.expect("TWRecycled", control.delta(server).TcpExt.TWRecycled, 1)


@pytest.mark.claim("tw-reuse.any-old-enough")
def test_any_old_enough(claim: ClaimRun, pair: Pair) -> None:
    client, listener, elsewhere = pair.client, listen(pair.server, 100), listen(pair.server)
    born: dict[int, float] = {}
    give_ports(client, 256, first=PORT)
    while len(born) < 256:
        born |= {local[1]: time.monotonic() for local, _ in leave_time_wait(client, listener, 8)}
        let_pass(0.03, what="the next to be younger")
    give_ports(client, 128, first=PORT + 1000)
    leave_time_wait(client, listener, 32)
    grow_old()
    give_ports(client, 256, first=PORT)
    client.sysctl[REUSE] = 1
    with claim.effect("256 ports, all in TIME_WAIT, of ages from 2 to 3 s or more: 16 calls of connect()") as effect:
        now = time.monotonic()
        taken = [attempt.port for attempt in connect(client, listener, 16, wait=True)]
        effect.compare("TIME_WAITs taken over", effect.delta(client).TcpExt.TWRecycled, document=16)
        ages = [round(now - born[port], 2) for port in taken]
        effect.compare("the youngest taken over, in s", seconds(min(ages)), document=at_least(1.0))
        effect.compare("different ages among them", len(set(ages)), document=at_least(2))
        # The search begins a few ports behind where the last one ended (__inet_hash_connect()): if they were drawn,
        # one step in sixteen would be as short as that. Every 10 s the beginning is drawn anew.
        steps = [(then - port) % 256 for port, then in pairwise(taken)]
        short = sum(0 < step <= 16 for step in steps)
        effect.compare("steps of at most 16 ports, of 15", short, document=at_most(6), kernel=at_least(12))
        effect.note("ports taken over", as_port(taken))
        effect.note("their ages in s", seconds(ages))
    with claim.effect("128 ports, 32 of them in TIME_WAIT and 96 free: 30 calls of connect()") as effect:
        give_ports(client, 128, first=PORT + 1000)
        connect(client, listener, 30, wait=True)
        # A port is sought, not a TIME_WAIT; one that may be taken over is merely no obstacle.
        recycled = effect.delta(client).TcpExt.TWRecycled
        effect.compare("TIME_WAITs taken over", recycled, document=30, kernel=at_most(27))
    give_ports(client, 256, first=PORT)
    with claim.effect("ports in TIME_WAIT, and connect() to another port of the server") as effect:
        there = count(client, "state time-wait")
        connect(client, elsewhere, 8, wait=True)
        effect.compare("TIME_WAITs taken over", effect.delta(client).TcpExt.TWRecycled, document=8, kernel=0)
        effect.premise("TIME_WAITs gone", there - count(client, "state time-wait"), 0)
    with claim.control("256 ports, without tcp_tw_reuse") as control:
        client.sysctl[REUSE] = 0
        results = connect(client, listener, 16).results()
        control.expect("results", dict(results), {NO_PORT: 16})
