"""tcp_tw_reuse: what it takes to use a TIME_WAIT again - the knob, timestamps then or now, a newer timestamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import ticks
from harness.instruments.take_over import (
    LOOPBACK,
    NO_PORT,
    EachWay,
    comes_back,
    grow_old,
    succession,
    takes_over,
)
from harness.laws import since
from harness.laws.ranges import at_least, between
from harness.laws.timestamps import keeps_its_offset
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import establish
from harness.traffic.ports import give_ports
from harness.traffic.repair import set_timestamp, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Lan, Pair

REUSE = "net.ipv4.tcp_tw_reuse"
STAMPS = "net.ipv4.tcp_timestamps"
CONNECTED = "connected"
PORT = 41000
AHEAD = 2**30


@pytest.mark.claim("tw-reuse.switches-it-on")
def test_switches_it_on(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(3).hosts
    ways = [EachWay(client, server) for client in clients]
    grow_old()
    with claim.effect("tcp_tw_reuse 1, and TIME_WAITs of 2 s") as effect:
        server.lab.set_all(REUSE, 1)
        for way, taken in ways[0].taken_over().items():
            effect.compare(f"connect() takes it over: {way}", taken, document=True)
        effect.compare("TWRecycled", effect.delta(clients[0]).TcpExt.TWRecycled, document=3)
    with claim.control("tcp_tw_reuse 0") as control:
        server.lab.set_all(REUSE, 0)
        for way, taken in ways[1].taken_over().items():
            control.expect(f"connect() takes it over: {way}", taken, False)
        control.expect("TWRecycled", control.delta(clients[1]).TcpExt.TWRecycled, 0)


@pytest.mark.claim("tw-reuse.needs-the-knob")
def test_needs_the_knob(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, bound, loopback, chosen, one = lan(5).hosts
    listener, bare = listen(server), listen(server)
    ways = {client: EachWay(client, server) for client in (loopback, chosen, one)}
    for client in (bound, chosen):
        client.sysctl[REUSE] = 0
    with claim.effect("tcp_tw_reuse 0: a client that binds the port itself, at once") as effect:
        leave_time_wait(bound, listener, source=(bound.ip, PORT))
        said = comes_back(bound, listener, PORT)
        effect.compare("connect()", said, document=NO_PORT, kernel=CONNECTED)
        effect.compare("TWRecycled", effect.delta(bound).TcpExt.TWRecycled, document=0, kernel=1)
    grow_old()
    if since("tw-reuse-on-loopback"):
        with claim.effect("tcp_tw_reuse 2, as it is: a TIME_WAIT of 2 s between loopback addresses") as effect:
            taken = ways[loopback].taken_over()[LOOPBACK]
            effect.compare("connect() takes it over", taken, document=False, kernel=True)
    with claim.control("a port that connect() chooses") as control:
        control.expect("with 0, taken over", any(ways[chosen].taken_over().values()), False)
        server.lab.set_all(REUSE, 1)
        control.expect("with 1, taken over", all(ways[one].taken_over().values()), True)
    with claim.control("tcp_tw_reuse 0: a client that binds the port itself, without timestamps") as control:
        server.lab.set_all(REUSE, 0)
        bound.sysctl[STAMPS] = 0
        leave_time_wait(bound, bare, source=(bound.ip, PORT + 1))
        control.expect("connect()", comes_back(bound, bare, PORT + 1), NO_PORT)


@pytest.mark.claim("tw-reuse.needs-timestamps")
def test_needs_timestamps(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1
    was = {"off at both ends": (0, 0)}
    if since("timestamps-per-namespace"):  # before, both ends have the same
        was |= {"off at the client": (0, 1), "off at the server": (1, 0)}
    was |= {"on": (1, 1)}
    ports = dict(zip(was, range(PORT, PORT + len(was)), strict=True))

    def taken_over(what: str) -> bool:
        give_ports(client, first=ports[what])
        return takes_over(client, listener)

    for what, (of_client, of_server) in was.items():
        client.sysctl[STAMPS], server.sysctl[STAMPS] = of_client, of_server
        give_ports(client, first=ports[what])
        leave_time_wait(client, listener)
    grow_old()
    with claim.effect("a TIME_WAIT of 2 s whose connection had no timestamps; they are on now") as effect:
        for what in was:
            if what != "on":
                effect.compare(f"taken over; timestamps were {what}", taken_over(what), document=False)
        effect.compare("TWRecycled", effect.delta(client).TcpExt.TWRecycled, document=0)
    with claim.control("one whose connection had them") as control:
        control.expect("taken over", taken_over("on"), True)
        control.expect("TWRecycled", control.delta(client).TcpExt.TWRecycled, 1)


@pytest.mark.claim("tw-reuse.needs-timestamps-now")
def test_needs_timestamps_now(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1

    def set_stamps(value: int) -> None:
        for host in (client, server):
            host.sysctl[STAMPS] = value

    def taken_over(port: int, *, now: int) -> bool:
        """Whether a port is taken over, with the timestamps set so."""
        set_stamps(now)
        give_ports(client, first=port)
        return takes_over(client, listener)

    for port, then in ((PORT, 1), (PORT + 1, 1), (PORT + 2, 0)):
        set_stamps(then)
        give_ports(client, first=port)
        leave_time_wait(client, listener)
    grow_old()
    with claim.effect("timestamps were on for the old connection, and are off for the new one") as effect:
        effect.compare("taken over", taken_over(PORT, now=0), document=False, kernel=True)
    with claim.control("on then, and on now") as control:
        control.expect("taken over", taken_over(PORT + 1, now=1), True)
    with claim.control("off then, and on now") as control:
        control.expect("taken over", taken_over(PORT + 2, now=1), False)


@pytest.mark.claim("tw-reuse.needs-newer-timestamp")
def test_needs_newer_timestamp(claim: ClaimRun, pair: Pair) -> None:
    client, listener, other = pair.client, listen(pair.server), listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(client)
    ahead, usual, refused = PORT, PORT + 1, PORT + 2
    for port in (ahead, usual):
        give_ports(client, first=port)
        old = establish(client, listener)
        if port == ahead:
            set_timestamp(old.client, timestamp(old.client) + AHEAD)
        old.talk().close()
    grow_old()
    with claim.effect("the old connection's clock was 2^30 ticks ahead of that of the new one") as effect:
        effect.note("TCP_REPAIR", "TCP_TIMESTAMP set the old connection's clock ahead")
        give_ports(client, first=ahead)
        said = connect(client, listener, wait=True)[0].result
        effect.compare("connect() from its port", said, document=NO_PORT, kernel=CONNECTED)
        if keeps_its_offset():
            newer_by = ticks(succession(packets, ahead).ticks)
            effect.premise("the new timestamp is newer by, in ticks", newer_by, between(-AHEAD, -AHEAD // 2))
    with claim.control("the clock as it is: the new timestamp is newer") as control:
        give_ports(client, first=usual)
        control.expect("connect() from its port", connect(client, listener, wait=True)[0].result, CONNECTED)
        if keeps_its_offset():
            control.expect("newer by, in ticks", ticks(succession(packets, usual).ticks), at_least(1))
    with claim.control("tcp_tw_reuse 0: what a refusal looks like") as control:
        client.sysctl[REUSE] = 0
        give_ports(client, first=refused)
        leave_time_wait(client, other)
        control.expect("connect() from its port", connect(client, other, wait=True)[0].result, NO_PORT)
