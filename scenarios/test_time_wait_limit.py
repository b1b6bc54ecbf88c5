"""tcp_max_tw_buckets: how many TIME-WAIT there may be, where, and what becomes of those that are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.laws import since
from harness.laws.ranges import at_least
from harness.observe import count, kernel_log
from harness.traffic import flood, listen
from harness.traffic.short_connections import ShortConnections, keep_asking
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan, Pair

MAX_TW_BUCKETS = "net.ipv4.tcp_max_tw_buckets"
OVERFLOW = "time wait bucket table overflow"


def close_eight(closer: Host, peer: Host, most: int) -> int:
    """Let a host close eight connections where so many TIME-WAIT are allowed: how many it has then."""
    closer.sysctl[MAX_TW_BUCKETS] = most
    closing = ShortConnections(closer, [listen(peer)], rate=1000)
    keep_asking([closing], 0.0075)
    assert closing.answered == 8
    until(lambda: not count(closer, "exclude time-wait"), what="the last connections to end")
    return count(closer, "state time-wait")


def overflows(phase: LivePhase, host: Host) -> int:
    """How many TIME-WAIT a host was refused in a phase."""
    return phase.delta(host).TcpExt.TCPTimeWaitOverflow


@pytest.mark.claim("time-wait.max-buckets")
def test_max_buckets(claim: ClaimRun, pair: Pair) -> None:
    peer, closer = pair.client, pair.server  # the knob of the whole machine, before 4.11, is the server's
    before = 0
    for most in (0, 1, 3):
        with claim.effect(f"8 connections closed where {most} may be in TIME-WAIT, and {before} are") as effect:
            left = close_eight(closer, peer, most)
            effect.compare("TIME-WAIT", left, document=most)
            refused = 8 - (left - before)
            effect.compare("the others, by TCPTimeWaitOverflow", overflows(effect, closer), document=refused)
            effect.note("RSTs, to FINs that met nobody", effect.delta(closer).Tcp.OutRsts)
            before = left
    with claim.control("8 closed where 100 may be") as control:
        control.expect("TIME-WAIT", close_eight(closer, peer, 100), 8 + before)
        control.expect("TCPTimeWaitOverflow", overflows(control, closer), 0)


@pytest.mark.claim("time-wait.lowering-deletes")
def test_lowering_deletes(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    peer, closer = lan(2).hosts
    with claim.control("3 may be in TIME-WAIT from the beginning, 8 connections are closed") as control:
        control.expect("TIME-WAIT", close_eight(closer, peer, 3), 3)
    with claim.effect("100 may be, 8 more are closed, and then 3 may be") as effect:
        there = close_eight(closer, peer, 100)
        effect.premise("TIME-WAIT", there, 11)
        closer.sysctl[MAX_TW_BUCKETS] = 3
        effect.compare("TIME-WAIT then", count(closer, "state time-wait"), document=3, kernel=there)
        effect.compare("and when another 8 were closed", close_eight(closer, peer, 3), document=3, kernel=there)


@pytest.mark.claim("time-wait.max-buckets-of-the-system")
def test_max_buckets_of_the_system(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    peer, first, second = lan(3).hosts
    with claim.effect("two hosts close 8 connections each, where 3 may be in TIME-WAIT") as effect:
        left = close_eight(first, peer, 3), close_eight(second, peer, 3)
        kernel = 6 if since("time-wait-counted-per-namespace") else 3
        effect.compare("TIME-WAIT, all in all", sum(left), document=3, kernel=kernel)
        effect.note("of each host", left)
    with claim.control("each of them closes 8 more, where 100 may be") as control:
        more = close_eight(first, peer, 100) - left[0], close_eight(second, peer, 100) - left[1]
        control.expect("TIME-WAIT more of each host", more, (8, 8))


@pytest.mark.claim("time-wait.max-buckets-log")
def test_max_buckets_log(claim: ClaimRun, pair: Pair) -> None:
    with kernel_log() as log:
        with claim.effect("8 connections closed where 3 may stay in TIME-WAIT") as effect:
            close_eight(pair.client, pair.server, 3)
            effect.premise("TCPTimeWaitOverflow", overflows(effect, pair.client), 5)
            lines = sum(OVERFLOW in line for line in log.lines())
            effect.compare(f'"{OVERFLOW}" in the kernel log', lines, document=at_least(1), kernel=0)
        with claim.control("does a line of TCP get there? A SYN queue overflows") as control:

            def logged() -> bool:
                # The kernel writes a few such lines in five seconds for the whole machine: another try may be needed.
                crowded = listen(pair.server, 1)
                flood(pair.server, pair.client, crowded, count=50).wait()
                return any(f"SYN flooding on port {crowded.port}" in line or flooded(line) for line in log.lines())

            def flooded(line: str) -> bool:
                return "SYN flooding on port" in line and pair.server.ip in line

            control.expect("Possible SYN flooding", until(logged, deadline=60, what="the line"), True)
            control.expect("TCPTimeWaitOverflow", overflows(control, pair.client), 0)
