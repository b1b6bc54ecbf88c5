"""tcp_tw_reuse: which TIME_WAITs connect() takes over, and that incoming connections have nothing to do with it."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from harness.evidence import port as as_port
from harness.evidence import seconds
from harness.instruments.inbound import CLOCK, LET_IN, REFUSED, Door
from harness.instruments.take_over import NO_PORT, grow_old, takes_over
from harness.laws import since
from harness.laws.ranges import at_least, at_most
from harness.observe import count, states_between
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import endpoint, establish, far_endpoint, wait_for_end
from harness.traffic.ports import give_ports
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Listener

REUSE = "net.ipv4.tcp_tw_reuse"
PORT = 41000
# Where connect() begins to search is kept by addresses and port, of all namespaces together (table_perturb[],
# __inet_hash_connect()): another lab with the same addresses that connects to the same port moves it on as well
# (tests/lab/test_ports_of_other_labs.py). So this port is one that no other lab listens on.
NOBODYS = 24122


@pytest.mark.claim("tw-reuse.outbound-only")
def test_outbound_only(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    values = (0, 1, 2) if since("tw-reuse-on-loopback") else (0, 1)
    listener, own = listen(server), listen(client, port=8000)

    def come_back(port: int, phase: LivePhase) -> dict[str, object]:
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


@pytest.mark.claim("tw-reuse.incoming-never")
def test_incoming_never(claim: ClaimRun, pair: Pair) -> None:
    door = Door(pair.server, pair.client)
    with claim.effect("SYNs at a TIME_WAIT, all knobs as they are") as effect:
        for what, beyond, clock, last in (
            ("a higher number, no timestamps", 1000, None, None),
            ("a higher number, the same timestamp", 1000, CLOCK, CLOCK),
            ("a lower number, a newer timestamp", -1000, CLOCK + 10, CLOCK),
        ):
            effect.compare(what, door.knock(beyond, clock, last=last), document=REFUSED, kernel=LET_IN)
    with claim.control("SYNs that nothing tells from an old one") as control:
        control.expect("a lower number, no timestamps", door.knock(-1000, None, last=None), REFUSED)
        control.expect("a lower number, the same timestamp", door.knock(-1000, CLOCK), REFUSED)
        control.expect("a higher number, an older timestamp", door.knock(1000, CLOCK - 10), REFUSED)


@pytest.mark.claim("tw-reuse.governs-inbound")
def test_governs_inbound(claim: ClaimRun, pair: Pair) -> None:
    server, door = pair.server, Door(pair.server, pair.client)
    # How far the number of the SYN is beyond the old connection's end, its timestamp, and the old one's last.
    ways = {"a higher number": (1000, None, None), "a newer timestamp": (-1000, CLOCK + 10, CLOCK)}
    for value in (0, 1):
        server.sysctl[REUSE] = value
        with claim.effect(f"tcp_tw_reuse {value} at the server: SYNs that fulfil a condition") as effect:
            for way, (beyond, clock, last) in ways.items():
                document = LET_IN if value else REFUSED
                effect.compare(way, door.knock(beyond, clock, last=last), document=document, kernel=LET_IN)
        with claim.control(f"tcp_tw_reuse {value} at the server: SYNs that fulfil neither") as control:
            control.expect("a lower number", door.knock(-1000, None, last=None), REFUSED)
            control.expect("a lower number, and an equal timestamp", door.knock(-1000, CLOCK), REFUSED)


@pytest.mark.claim("tw-reuse.any-old-enough")
def test_any_old_enough(claim: ClaimRun, pair: Pair) -> None:
    client, elsewhere = pair.client, listen(pair.server)
    listener = listen(pair.server, 100, port=NOBODYS)
    born = age_ports(client, listener, 256)
    grow_old()
    client.sysctl[REUSE] = 1
    with claim.effect("256 ports, all in TIME_WAIT, of ages from 2 to 3 s or more: 16 calls of connect()") as effect:
        now = time.monotonic()
        taken = [attempt.port for attempt in connect(client, listener, 16, wait=True)]
        effect.compare("TIME_WAITs taken over", effect.delta(client).TcpExt.TWRecycled, document=16)
        ages = [round(now - born[port], 2) for port in taken]
        effect.compare("the youngest taken over, in s", seconds(min(ages)), document=at_least(1.0))
        effect.compare("different ages among them", len(set(ages)), document=at_least(2))
        # The search begins up to 16 ports behind where the last one ended (__inet_hash_connect()): if they were drawn,
        # one step in sixteen would be as short. Every 10 s the beginning is drawn anew, so one may be longer.
        steps = [(then - port) % 256 for port, then in pairwise(taken)]
        allowed = range(2, 17, 2) if since("connect-searches-one-parity-first") else range(1, 17)
        walked = sum(step in allowed for step in steps)
        what = f"steps of at most 16 ports{', and even' if 1 not in allowed else ''}, of 15"
        effect.compare(what, walked, document=at_most(6), kernel=at_least(14))
        effect.note("ports taken over", as_port(taken))
        effect.note("their ages in s", seconds(ages))
    with claim.effect("ports in TIME_WAIT, and connect() to another port of the server") as effect:
        there = count(client, "state time-wait")
        connect(client, elsewhere, 8, wait=True)
        effect.compare("TIME_WAITs taken over", effect.delta(client).TcpExt.TWRecycled, document=8, kernel=0)
        effect.premise("TIME_WAITs gone", there - count(client, "state time-wait"), 0)
    with claim.control("256 ports, without tcp_tw_reuse") as control:
        client.sysctl[REUSE] = 0
        results = connect(client, listener, 16).results()
        control.expect("results", dict(results), {NO_PORT: 16})


@pytest.mark.claim("tw-reuse.any-old-enough")
def test_free_ports_are_not_passed_over(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server, 100)
    client.sysctl[REUSE] = 1
    ports = give_ports(client, 64, first=PORT)
    for port in ports[1::2]:
        give_ports(client, first=port)
        leave_time_wait(client, listener)
    grow_old()
    give_ports(client, 64, first=PORT)
    with claim.effect("64 ports, every second one in TIME_WAIT and the others free: 30 calls of connect()") as effect:
        connect(client, listener, 30, wait=True)
        # A port is sought, not a TIME_WAIT; one that may be taken over is merely no obstacle.
        kernel = 0 if since("port-range-ends-at-60999") else 15
        recycled = effect.delta(client).TcpExt.TWRecycled
        effect.compare("TIME_WAITs taken over", recycled, document=30, kernel=kernel)
    with claim.control("as many calls again, which find fewer free ports than that") as control:
        connect(client, listener, 30, wait=True)
        control.expect(
            "TIME_WAITs taken over, by all 60", recycled + control.delta(client).TcpExt.TWRecycled, at_least(28)
        )


@pytest.mark.claim("tw-reuse.fin-wait-2-is-left")
def test_fin_wait_2_is_left(claim: ClaimRun, pair: Pair) -> None:
    client, listener, other = pair.client, listen(pair.server), listen(pair.server)
    client.sysctl[REUSE] = 1
    give_ports(client, first=PORT)
    ended = establish(client, listener)
    local, remote = endpoint(ended.client), far_endpoint(ended.client)
    ended.client.close()
    until(lambda: states_between(client, local, remote) == ["FIN-WAIT-2"], what="FIN-WAIT-2")
    grow_old()
    with claim.effect("the only port is in FIN-WAIT-2 since 2 s, and no application holds it") as effect:
        kernel = since("fin-wait-2-is-not-reused")
        effect.compare("passed over by connect()", not takes_over(client, listener), document=True, kernel=kernel)
    with claim.control("the only port is in TIME_WAIT since 2 s") as control:
        give_ports(client, first=PORT + 1)
        leave_time_wait(client, other)
        grow_old()
        control.expect("passed over by connect()", not takes_over(client, other), False)


def age_ports(client: Host, listener: Listener, n: int) -> dict[int, float]:
    """Leave n ports of a client, which it has alone, in TIME_WAIT one after the other; when each was last seen open."""
    give_ports(client, n, first=PORT)
    born: dict[int, float] = {}
    while len(born) < n:
        born |= {local[1]: time.monotonic() for local, _ in leave_time_wait(client, listener, 8)}
        let_pass(0.03, what="the next to be younger")
    return born
