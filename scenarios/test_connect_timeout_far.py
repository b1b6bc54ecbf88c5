"""A real network of 300 ms: the round trip is in the RTO, in what connect() takes, and in what a lost SYN costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.evidence import seconds
from harness.instruments.retransmissions import first_retransmissions, gaps
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
# How much later than the kernel a process knows that it is connected: it begins to count before the SYN is stamped, and
# a busy machine lets it wait. A millisecond is that of two clocks, each read on its own.
LATE = between(-0.001, 10)
FINDS_OUT = "seconds more that connect() takes by the clock of its process"


class Knocked(NamedTuple):
    """A connect() whose first SYN was lost: when the next one was sent, how long it took from then on, and `late`."""

    again: float
    answered: float
    late: float


def syn_ack(seen: Capture, attempt: Attempt) -> float:
    """When the SYN-ACK came, which is when connect() is over, in seconds since the epoch.

    `seen` is a capture of the client's that sees this connection alone: a later one may have the same local port.
    """
    until(lambda: seen.segments(flags="SA", dport=attempt.port), what="the SYN-ACK in the capture")
    return seen.segments(flags="SA", dport=attempt.port)[0].time


def syns(seen: Capture, attempt: Attempt) -> list[float]:
    """When its SYNs were sent, in seconds since the epoch."""
    return [segment.time for segment in seen.segments(flags="S", sport=attempt.port)]


def taken(seen: Capture, attempt: Attempt) -> float:
    """From the first SYN to the SYN-ACK, in seconds: by the packets, as a process finds out later on a busy machine."""
    return syn_ack(seen, attempt) - syns(seen, attempt)[0]


def late(seen: Capture, attempt: Attempt) -> float:
    """How much longer than that connect() took by the clock of the process that called it, in seconds."""
    assert attempt.seconds is not None
    return attempt.seconds - taken(seen, attempt)


def knock_twice(claim: ClaimRun, client: Host, server: Host) -> Knocked:
    """Lose the first SYN of a connection."""
    listener = listen(server)
    seen = claim.capture(client, port=listener.port)
    with drop(server, "S", dport=listener.port, count=1):
        (attempt,) = connect(client, listener, wait=True)
    answer, sent = syn_ack(seen, attempt), syns(seen, attempt)
    (again,) = gaps(sent)
    return Knocked(again, round(answer - sent[-1], 3), late(seen, attempt))


@pytest.mark.claim("connect-timeout.rto-follows-rtt")
@pytest.mark.slow(5)
def test_rto_and_syns_of_a_far_network(claim: ClaimRun, lab: Lab) -> None:
    far, near, server, beside = lab.hosts("far", "near", "server", "beside")
    lab.link(far, server, delay=DELAY)
    lab.link(near, beside)
    lab.ready()
    listener, its = listen(server, answer=echo), listen(beside, answer=echo)
    at_far, at_near = claim.capture(far, port=listener.port), claim.capture(near, port=its.port)
    with claim.effect("a network in which each way takes 150 ms") as effect:
        (attempt,) = connect(far, listener, wait=True)
        effect.compare("seconds that connect() takes", seconds(taken(at_far, attempt)), document=TRIP)
        effect.premise("SYNs", len(syns(at_far, attempt)), 1)
        effect.premise(FINDS_OUT, seconds(late(at_far, attempt)), LATE)
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
        knocked = knock_twice(claim, far, server)
        effect.compare("seconds until the SYN is sent again", seconds(knocked.again), document=about(1.0))
        effect.compare("seconds from then until connect() returns", seconds(knocked.answered), document=TRIP)
        effect.premise(FINDS_OUT, seconds(knocked.late), LATE)
    with claim.control("a network of no delay") as control:
        (attempt,) = connect(near, its, wait=True)
        control.expect("seconds that connect() takes", seconds(taken(at_near, attempt)), NO_TRIP)
        control.expect("SYNs", len(syns(at_near, attempt)), 1)
        control.expect(FINDS_OUT, seconds(late(at_near, attempt)), LATE)
        control.expect("RTO", seconds(info_of(near, attempt.socket).rto), between(0.2, 0.3))
        knocked = knock_twice(claim, near, beside)
        control.expect("seconds until the SYN is sent again", seconds(knocked.again), at_least(0.9))
        control.expect("seconds from then until connect() returns", seconds(knocked.answered), NO_TRIP)
        control.expect(FINDS_OUT, seconds(knocked.late), LATE)
