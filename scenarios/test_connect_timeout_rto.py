"""The RTO, after which a segment is sent again when nobody has acknowledged it: its bounds, and what it is on a LAN."""

from __future__ import annotations

import time
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
from harness.laws.ranges import at_least, at_most, between
from harness.laws.timers import AT_ONCE, HZ, JIFFY, LATE, RTO_MIN, about, granularity
from harness.observe import info_of, socket_of
from harness.traffic import answered, connect, drop, echo, hold, listen
from harness.traffic.connection import endpoint
from harness.waiting import let_clock_reach, until

if TYPE_CHECKING:
    from harness.claims.phases import Effect
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.laws.ranges import Between
    from harness.observe import Capture
    from harness.traffic import Attempt, Attempts, Listener

RTO_MIN_US = "net.ipv4.tcp_rto_min_us"
RTO_MAX_MS = "net.ipv4.tcp_rto_max_ms"
# Documents 002 and 004, in seconds.
LEAST, MOST = 0.2, 120.0
BOUNDS = between(LEAST, MOST)
# The upper bound that a kernel with tcp_rto_max_ms is given where nobody waits for 120 s.
NEARER_MOST = 15.0
# A timer of 120 s by the wheel of any kernel, on a busy machine.
LONGEST = MOST + max(granularity(MOST, hz) for hz in HZ) + LATE


def from_afar(client: Host, listener: Listener, away: float) -> Attempts:
    """A connection of a network in which a round trip takes so many seconds: so long the SYN-ACK is on its way."""
    delayed = hold(client, "SA", sport=listener.port)
    clients = connect(client, listener)
    # Counted from when the SYN has left: a busy machine may take a while from the beginning of connect() to that.
    let_clock_reach(time.monotonic() + away)
    delayed.release()
    return clients.wait()


def trip(seen: Capture, attempt: Attempt) -> Between:
    """What the round trip of from_afar() may be, in seconds: no longer than from the SYN to the ACK of its SYN-ACK.

    `seen` is a capture of the client's that sees its listener's connections. The kernel has the time of a SYN before
    the capture has.
    """
    (syn, *_), (ack, *_) = (seen.segments(direction="out", sport=attempt.port, flags=flags) for flags in ("S", "A"))
    return between(0, round(ack.time - syn.time + AT_ONCE, 3))


@pytest.mark.claim("connect-timeout.rto-bounds")
@pytest.mark.slow(18)
def test_rto_bounds(claim: ClaimRun, pair: Pair, long_form: bool) -> None:
    """The upper bound."""
    client, server = pair.client, pair.server
    listener = listen(server)
    seen = claim.capture(server, port=listener.port)
    far = FarAway(listener, client, 200)
    with claim.effect("a round trip that seems to take 200 s: the upper bound") as effect:
        effect.note("how", "the peer echoes a time stamp of 200 s ago in its acknowledgement of a retransmission")
        effect.compare("RTO in TCP_INFO", seconds(info_of(server, far.server).rto), document=MOST)
        effect.compare("RTO by ss --info", seconds(ss_rto(server, far.server)), document=MOST)
        far.server.send(b"y")
        far.next_transmission(deadline=20)
        timer = socket_of(server, far.server).timer
        assert timer is not None
        effect.compare("the retransmission timer", seconds(timer.expires), document=between(100, LONGEST))
    with claim.control("a round trip that seems to take 20 s") as control:
        nearer = FarAway(listener, client, 20)
        control.expect("RTO in TCP_INFO", seconds(info_of(server, nearer.server).rto), between(20, 119))
    most, when = MOST, "the upper bound, when its timer has fired"
    if not long_form and RTO_MAX_MS in server.sysctl:
        most, when = NEARER_MOST, f"an upper bound of {NEARER_MOST:g} s by tcp_rto_max_ms, when its timer has fired"
    with claim.effect(when) as effect:
        if most < MOST:
            server.sysctl[RTO_MAX_MS] = round(1000 * most)
            listener = listen(server)
            seen, far = claim.capture(server, port=listener.port), FarAway(listener, client, 200)
            effect.premise("RTO in TCP_INFO, before", seconds(info_of(server, far.server).rto), most)
            far.server.send(b"y")
            far.next_transmission(deadline=20)
        far.next_transmission(deadline=300)
        original, again = transmissions(seen, endpoint(far.server), b"y")[:2]
        apart = seconds(round(again - original, 2))
        effect.compare("seconds between two transmissions", apart, document=about(most))
        until(
            lambda: (timer := socket_of(server, far.server).timer) and timer.retransmits,
            what="the timer to be set again",
        )
        effect.compare("RTO in TCP_INFO, not doubled", seconds(info_of(server, far.server).rto), document=most)


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
    with claim.control("a network of 300 ms, where the lower bound plays no part") as control:
        seen = claim.capture(client, port=listener.port)
        (attempt,) = from_afar(client, listener, 0.3)
        info = info_of(client, attempt.socket)
        control.expect("round trip in TCP_INFO", seconds(info.rtt), trip(seen, attempt))
        # Three times the round trip; a busy machine makes that longer.
        control.expect("RTO in TCP_INFO", seconds(info.rto), between(0.8, max(2, round(4 * info.rtt + 0.3, 3))))


@pytest.mark.claim("connect-timeout.rto-hard-wired")
def test_rto_hard_wired(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    listener, short, usual = listen(server, answer=echo), between(0.04, 0.19), at_least(LEAST)

    def compare_a_shorter_rto(effect: Effect) -> None:
        near = answered(client, listener)
        measured = seconds(info_of(client, near).rto)
        effect.compare("RTO in TCP_INFO", measured, document=usual, kernel=between(0.05, 0.15))
        (gap,) = first_retransmissions(claim.capture(server, port=endpoint(near)[1]), near)
        effect.compare("seconds between two transmissions", seconds(gap), document=usual, kernel=short)

    with claim.control("nobody has set other bounds") as control:
        near, far = answered(client, listener), FarAway(listen(server), client, 200)
        control.expect("RTO of a near peer", seconds(info_of(client, near).rto), between(LEAST, 0.5))
        control.expect("RTO of a peer that seems to be 200 s away", seconds(info_of(server, far.server).rto), MOST)
    with claim.effect("rto_min 50ms on the route") as effect, short_rto(client, server, 0.05):
        compare_a_shorter_rto(effect)
    if RTO_MIN_US in client.sysctl:
        with claim.effect("tcp_rto_min_us 50000") as effect:
            client.sysctl[RTO_MIN_US] = 50_000
            compare_a_shorter_rto(effect)
    if RTO_MAX_MS in server.sysctl:
        with claim.effect("tcp_rto_max_ms 10000") as effect:
            server.sysctl[RTO_MAX_MS] = 10_000
            far = FarAway(listen(server), client, 200)
            measured = seconds(info_of(server, far.server).rto)
            effect.compare("RTO of a peer that seems to be 200 s away", measured, document=MOST, kernel=10.0)


@pytest.mark.claim("connect-timeout.rto-follows-rtt")
@pytest.mark.slow(5)
def test_rto_follows_rtt(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    listener = listen(server, answer=echo)
    for away in (0.1, 0.3, 0.6):
        with claim.effect(f"a network in which a round trip takes {away} s") as effect:
            near_by = claim.capture(client, port=listener.port)
            clients = from_afar(client, listener, away)
            info = info_of(client, clients[0].socket)
            effect.premise("round trip in TCP_INFO", seconds(info.rtt), trip(near_by, clients[0]))
            # Three times the round trip, or 200 ms more than it: no document says how much more.
            near_it = between(away, round(4 * info.rtt + 0.3, 3))
            effect.compare("RTO", seconds(info.rto), document=near_it)
            seen = claim.capture(server, port=clients[0].port)
            (gap,) = first_retransmissions(seen, clients[0].socket)
            effect.compare("seconds until a lost byte is sent again", seconds(gap), document=near_it)
    with claim.effect("a network of 0.6 s becomes quick: a hundred answers come at once") as effect:
        clients = from_afar(client, listener, 0.6)
        for _ in range(100):
            assert clients.ask() == 1
        effect.compare("RTO", seconds(info_of(client, clients[0].socket).rto), document=at_most(0.6))
    with claim.control("a quick network all the time") as control:
        clients = connect(client, listener, wait=True)
        first = info_of(client, clients[0].socket).rto
        for _ in range(100):
            assert clients.ask() == 1
        control.expect("RTO", seconds(first), between(0.15, 0.5))
        control.expect(
            "RTO after a hundred answers", seconds(info_of(client, clients[0].socket).rto), between(0.15, 0.3)
        )
    lost = drop(server, "S", dport=listener.port)
    with claim.control("no round trip was measured: the SYN vanishes") as control, lost:
        control.expect("RTO", seconds(info_of(client, connect(client, listener)[0].socket).rto), at_least(1))


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
            effect.compare("seconds between two transmissions", seconds(gap), document=about(MOST))
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
    with claim.control("a network of 300 ms") as control:
        far = from_afar(client, listener, 0.3)[0].socket
        control.expect("RTO in TCP_INFO", seconds(info_of(client, far).rto), at_least(0.9))
    with claim.control("rto_min 50ms on the route") as control:
        prefer_short_rto(client, server, 0.05)
        rto = seconds(info_of(client, answered(client, listener)).rto)
        control.expect("RTO in TCP_INFO", rto, between(0.05, 0.15))
