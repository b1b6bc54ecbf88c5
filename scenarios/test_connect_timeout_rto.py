"""The RTO, after which a segment is sent again when nobody has acknowledged it: its bounds, and what it is on a LAN."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.retransmissions import (
    FarAway,
    first_retransmissions,
    gaps,
    prefer_short_rto,
    short_rto,
    ss_rto,
    transmissions,
)
from harness.laws.ranges import at_least, between
from harness.laws.timers import HZ, JIFFY, LATE, RTO_MAX, RTO_MIN, about, granularity
from harness.observe import info_of, socket_of
from harness.traffic import answered, connect, echo, hold, listen
from harness.traffic.connection import endpoint
from harness.waiting import let_clock_reach, until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

RTO_MIN_US = "net.ipv4.tcp_rto_min_us"
RTO_MAX_MS = "net.ipv4.tcp_rto_max_ms"
BOUNDS = between(RTO_MIN, RTO_MAX)
# A timer of 120 s by the wheel of any kernel, on a busy machine.
LONGEST = RTO_MAX + max(granularity(RTO_MAX, hz) for hz in HZ) + LATE


@pytest.mark.claim("connect-timeout.rto-bounds")
@pytest.mark.slow(125)
def test_rto_bounds(claim: ClaimRun, pair: Pair) -> None:
    """The upper bound."""
    client, server = pair.client, pair.server
    listener = listen(server)
    seen = claim.capture(server, port=listener.port)
    far = FarAway(listener, client, 200)
    with claim.effect("a round trip that seems to take 200 s: the upper bound") as effect:
        effect.note("how", "the peer echoes a time stamp of 200 s ago in its acknowledgement of a retransmission")
        effect.compare("RTO in TCP_INFO", seconds(info_of(server, far.server).rto), document=BOUNDS)
        effect.compare("RTO by ss --info", seconds(ss_rto(server, far.server)), document=BOUNDS)
        effect.premise("RTO", seconds(info_of(server, far.server).rto), RTO_MAX)
        far.server.send(b"y")
        far.next_transmission(deadline=20)
        timer = socket_of(server, far.server).timer
        assert timer is not None
        effect.compare("the retransmission timer", seconds(timer.expires), document=between(100, LONGEST))
    with claim.control("a round trip that seems to take 20 s") as control:
        nearer = FarAway(listener, client, 20)
        control.expect("RTO in TCP_INFO", seconds(info_of(server, nearer.server).rto), between(20, 119))
    if RTO_MAX_MS in server.sysctl:
        with claim.control("an upper bound of 10 s: tcp_rto_max_ms 10000") as control:
            server.sysctl[RTO_MAX_MS] = 10_000
            bounded = FarAway(listen(server), client, 200)
            control.expect("RTO in TCP_INFO", seconds(info_of(server, bounded.server).rto), 10.0)
            server.sysctl[RTO_MAX_MS] = 120_000
    with claim.effect("the upper bound, when its timer has fired") as effect:
        far.next_transmission(deadline=300)
        original, again = transmissions(seen, endpoint(far.server), b"y")[:2]
        apart = seconds(round(again - original, 2))
        effect.compare("seconds between two transmissions", apart, document=about(RTO_MAX))
        until(
            lambda: (timer := socket_of(server, far.server).timer) and timer.retransmits,
            what="the timer to be set again",
        )
        effect.compare("RTO in TCP_INFO, not doubled", seconds(info_of(server, far.server).rto), document=BOUNDS)


@pytest.mark.claim("connect-timeout.rto-bounds")
def test_rto_lower_bound(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    listener = listen(server, answer=echo)
    with claim.effect("a real connection of one cable: the lower bound") as effect:
        near = answered(client, listener)
        effect.compare("RTO in TCP_INFO", seconds(info_of(client, near).rto), document=BOUNDS)
        effect.compare("RTO by ss --info", seconds(ss_rto(client, near)), document=BOUNDS)
        for gap in first_retransmissions(claim.capture(server, port=endpoint(near)[1]), near, 3):
            effect.compare("seconds between two transmissions", seconds(gap), document=BOUNDS)
    with (
        claim.control("no lower bound of 200 ms: rto_min 50ms on the route") as control,
        short_rto(client, server, 0.05),
    ):
        near = answered(client, listener)
        control.expect("RTO in TCP_INFO", seconds(info_of(client, near).rto), between(0.05, 0.15))
        control.expect("RTO by ss --info", seconds(ss_rto(client, near)), between(0.05, 0.15))
        (gap,) = first_retransmissions(claim.capture(server, port=endpoint(near)[1]), near)
        control.expect("seconds", seconds(gap), between(0.04, 0.19))
    if RTO_MIN_US in client.sysctl:
        with claim.control("no lower bound of 200 ms: tcp_rto_min_us 50000") as control:
            client.sysctl[RTO_MIN_US] = 50_000
            near = answered(client, listener)
            control.expect("RTO in TCP_INFO", seconds(info_of(client, near).rto), between(0.05, 0.15))
            (gap,) = first_retransmissions(claim.capture(server, port=endpoint(near)[1]), near)
            control.expect("seconds", seconds(gap), between(0.04, 0.19))


@pytest.mark.claim("connect-timeout.rto-bounds")
@pytest.mark.full_size("a retransmission after 120 s, and two more")
@pytest.mark.slow(400)
def test_rto_stays_at_its_upper_bound(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server)
    seen = claim.capture(pair.server, port=listener.port)
    far, nearer = FarAway(listener, pair.client, 200), FarAway(listener, pair.client, 20)

    def transmitted(to: FarAway) -> list[float]:
        """The seconds between one transmission of the byte and the next."""
        return gaps([s.time for s in seen.segments() if s.payload == b"y" and s.dst == to.address])

    with claim.effect("a round trip that seems to take 200 s") as effect:
        far.server.send(b"y")
        nearer.server.send(b"y")
        for _ in range(4):
            far.next_transmission(deadline=300)
        for gap in transmitted(far):
            effect.compare("seconds between two transmissions", seconds(gap), document=about(RTO_MAX))
    with claim.control("tried at the same time: 20 s") as control:
        first, second, *_ = transmitted(nearer)
        control.expect("seconds between two transmissions", seconds(first), between(20, 119))
        control.expect("doubled", seconds(second), between(1.7 * first, LONGEST))


@pytest.mark.claim("connect-timeout.lan-rto")
def test_lan_rto(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    listener = listen(server, answer=echo)
    # The median of ten: what a busy machine does to a round trip is not what a LAN does.
    near_200_ms = between(0.2, 0.22)
    with claim.effect("ten real connections of one cable, each with a request answered") as effect:
        connections = [answered(client, listener) for _ in range(10)]
        infos = [info_of(client, connection) for connection in connections]
        measured = seconds(median(info.rto for info in infos))
        effect.compare("RTO in TCP_INFO, the median", measured, document=near_200_ms)
        printed = seconds(median(ss_rto(client, connection) for connection in connections))
        effect.compare("RTO by ss --info, the median", printed, document=near_200_ms)
        for info in infos:
            # srtt + rttvar, the latter at least 200 ms (tcp_rtt_estimator()), in whole jiffies.
            by_law = between(RTO_MIN, RTO_MIN + info.rtt + 4 * info.rttvar + JIFFY)
            effect.premise("RTO", seconds(info.rto), by_law)
        effect.note("RTOs, round trips", [seconds((info.rto, info.rtt)) for info in infos])
        waits = [
            first_retransmissions(claim.capture(server, port=endpoint(connection)[1]), connection)[0]
            for connection in connections[:3]
        ]
        least = seconds(min(waits))
        effect.compare("seconds until a lost byte is sent again, the least", least, document=between(0.2, 0.25))
    with claim.control("a network of 300 ms: the SYN-ACK is on its way for so long") as control:
        delayed = hold(client, "SA", sport=listener.port)
        clients = connect(client, listener)
        let_clock_reach(clients[0].started + 0.3)
        delayed.release()
        clients.wait()
        control.expect("RTO in TCP_INFO", seconds(info_of(client, clients[0].socket).rto), at_least(0.9))
    with claim.control("rto_min 50ms on the route") as control:
        prefer_short_rto(client, server, 0.05)
        rto = seconds(info_of(client, answered(client, listener)).rto)
        control.expect("RTO in TCP_INFO", rto, between(0.05, 0.15))
