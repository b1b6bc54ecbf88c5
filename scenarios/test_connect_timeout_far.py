"""A real network of 300 ms: the round trip is in the RTO, in what connect() takes, and in what a lost SYN costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.evidence import seconds
from harness.instruments.retransmissions import first_retransmissions, gaps, transmissions
from harness.laws.ranges import at_least, between
from harness.laws.timers import about
from harness.observe import info_of
from harness.traffic import connect, drop, echo, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lab
    from harness.observe import Capture
    from harness.traffic import Attempt

# In seconds: each way; a round trip, and as much more as a busy machine takes.
DELAY, ROUND_TRIP = 0.15, 0.3
TRIP, NO_TRIP = between(ROUND_TRIP, ROUND_TRIP + 0.25), between(0, 0.25)


class Knocked(NamedTuple):
    """A connect() whose first SYN was lost: when the next one was sent, and how long it took from then on."""

    again: float
    answered: float


def taken(seen: Capture, client: Host, attempt: Attempt) -> float:
    """From the last SYN to its SYN-ACK, which is when connect() returns, in seconds; by the packets, at the client.

    On a busy machine a process finds out later.
    """
    until(lambda: seen.segments(flags="SA", dport=attempt.port), what="the SYN-ACK in the capture")
    answer = seen.segments(flags="SA", dport=attempt.port)[0].time
    return answer - transmissions(seen, (client.ip, attempt.port))[-1]


def knock_twice(client: Host, server: Host, seen: Capture) -> Knocked:
    """Lose the first SYN of a connection."""
    listener = listen(server)
    with drop(server, "S", dport=listener.port, count=1):
        (attempt,) = connect(client, listener, wait=True)
    until(lambda: len(transmissions(seen, (client.ip, attempt.port))) >= 2, what="both SYNs in the capture")
    (again,) = gaps(transmissions(seen, (client.ip, attempt.port)))
    return Knocked(again, round(taken(seen, client, attempt), 3))


@pytest.mark.claim("connect-timeout.rto-follows-rtt")
@pytest.mark.slow(5)
def test_rto_and_syns_of_a_far_network(claim: ClaimRun, lab: Lab) -> None:
    far, near, server, beside = lab.hosts("far", "near", "server", "beside")
    lab.link(far, server, delay=DELAY)
    lab.link(near, beside)
    lab.ready()
    listener, its = listen(server, answer=echo), listen(beside, answer=echo)
    at_far, at_near = claim.capture(far), claim.capture(near)
    with claim.effect("a network in which each way takes 150 ms") as effect:
        (attempt,) = connect(far, listener, wait=True)
        effect.compare("seconds that connect() takes", seconds(taken(at_far, far, attempt)), document=TRIP)
        info = info_of(far, attempt.socket)
        effect.compare("round trip in TCP_INFO", seconds(info.rtt), document=TRIP)
        # Three times the round trip (tcp_rtt_estimator()): no document says how many times.
        near_it = between(ROUND_TRIP, round(4 * info.rtt + 0.3, 3))
        effect.compare("RTO", seconds(info.rto), document=near_it)
        (gap,) = first_retransmissions(claim.capture(server, port=attempt.port), attempt.socket)
        effect.compare("seconds until a lost byte is sent again", seconds(gap), document=near_it)
    with claim.effect(
        "its first SYN is lost, and the next one comes after a second that knows no round trip"
    ) as effect:
        knocked = knock_twice(far, server, at_far)
        effect.compare("seconds until the SYN is sent again", seconds(knocked.again), document=about(1.0))
        effect.compare("seconds from then until connect() returns", seconds(knocked.answered), document=TRIP)
    with claim.control("a network of no delay") as control:
        (attempt,) = connect(near, its, wait=True)
        control.expect("seconds that connect() takes", seconds(taken(at_near, near, attempt)), NO_TRIP)
        control.expect("RTO", seconds(info_of(near, attempt.socket).rto), between(0.2, 0.3))
        knocked = knock_twice(near, beside, at_near)
        control.expect("seconds until the SYN is sent again", seconds(knocked.again), at_least(0.9))
        control.expect("seconds from then until connect() returns", seconds(knocked.answered), NO_TRIP)
