"""tcp_tw_recycle and TIME-WAIT: how long it lasts then, what that needs, and that its address is remembered longer.

On kernels that have the knob, it is one of the whole machine up to 4.10, so that the scenarios need a kernel of their
own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.shared_address import answered_syns
from harness.laws.ranges import at_most, between
from harness.laws.timers import LATE
from harness.observe import count, info_of, sockets
from harness.traffic import RawPeer, establish, listen
from harness.traffic.clocks import come_and_go
from harness.traffic.closing import leave_time_wait
from harness.waiting import let_clock_reach, let_pass, until
from scenarios.recycle import RECYCLE, THERE, lacks_recycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Listener

TIMESTAMPS = "net.ipv4.tcp_timestamps"
# What a client's clock reads, and how far that of another is behind, in ticks.
CLOCK = 3_000_000_000
BEHIND = 1_000_000
# TCP_TIMEWAIT_LEN and TCP_PAWS_MSL (include/net/tcp.h), in seconds.
MINUTE = 60
# 3.5 times the least RTO, less a tick or so.
LEAST = 0.69


def lasted(host: Host, since: float) -> float:
    """Wait until no TIME-WAIT is left; the seconds since a moment before there was one."""
    until(lambda: not count(host, "state time-wait"), deadline=2 * MINUTE, what="TIME-WAIT to end")
    return seconds(time.monotonic() - since)


def recycled_after(pair: Pair, listener: Listener) -> float:
    """3.5 times the RTO that the server's kernel has computed for a connection of the client's, in seconds."""
    return seconds(3.5 * info_of(pair.server, establish(pair.client, listener).server).rto)


@pytest.mark.claim("tw-recycle.lifetime")
@pytest.mark.slow(70 if THERE else 1)
def test_lifetime(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    listener = listen(pair.server)
    with claim.effect("tcp_tw_recycle 1: the server closes first") as effect:
        pair.server.sysctl[RECYCLE] = 1
        wanted = recycled_after(pair, listener)
        effect.compare("3.5 RTO, in seconds", wanted, document=between(LEAST, 0.85))
        began = time.monotonic()
        leave_time_wait(pair.client, listener, closer="server")
        # A timer so long is up to an eighth late since long-timers-are-coarse; before time-wait-has-its-own-timer
        # TIME-WAITs were reaped in slots of an eighth of a second or so.
        latest = wanted * 1.25 + LATE
        effect.compare("TIME-WAIT lasts, in seconds", lasted(pair.server, began), document=between(LEAST, latest))
    with claim.control("tcp_tw_recycle 0: the server closes first") as control:
        pair.server.sysctl[RECYCLE] = 0
        began = time.monotonic()
        leave_time_wait(pair.client, listener, closer="server")
        usual = between(MINUTE - 1, MINUTE * 1.25)
        control.expect("TIME-WAIT lasts, in seconds", lasted(pair.server, began), usual)


@pytest.mark.claim("tw-recycle.needs-timestamps")
def test_needs_timestamps(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    listener = listen(pair.server)

    def leave() -> Callable[[], float]:
        """A TIME-WAIT of the server's; the function says how long it is still to last, in seconds, and 0 at its end."""
        ((local, remote),) = leave_time_wait(pair.client, listener, closer="server")

        def left() -> float:
            ends = [
                end for end in sockets(pair.server, "state time-wait") if (end.local, end.remote) == (local, remote)
            ]
            return seconds(ends[0].timer.expires if ends and ends[0].timer else 0.0)

        return left

    pair.server.sysctl[RECYCLE] = 1
    # The other way round, the SYN without timestamps would be dropped: 60 s long one is remembered, and it has none.
    with claim.control("tcp_tw_recycle 1, tcp_timestamps 0: the server closes first") as control:
        pair.server.sysctl[TIMESTAMPS] = 0
        left = leave()
        control.expect("TIME-WAIT is to last, in seconds", left(), between(MINUTE - LATE, MINUTE * 1.25))
        let_pass(2, what="more than twice as long as with timestamps")
        control.expect("2 s later, in seconds", left(), between(MINUTE - 2 - 2 * LATE, MINUTE * 1.25))
    with claim.effect("tcp_tw_recycle 1, tcp_timestamps 1: the server closes first") as effect:
        pair.server.sysctl[TIMESTAMPS] = 1
        wanted = recycled_after(pair, listener)
        left = leave()
        effect.compare("TIME-WAIT is to last, in seconds", left(), document=at_most(wanted + 0.05))
        began = time.monotonic()
        until(lambda: not left(), what="TIME-WAIT to end", deadline=2 * MINUTE)
        ended = seconds(time.monotonic() - began)
        effect.compare("it lasts, in seconds", ended, document=at_most(wanted * 1.25 + LATE))


@pytest.mark.claim("tw-recycle.check-ends-with-time-wait")
@pytest.mark.slow(65 if THERE else 1)
def test_check_ends_with_time_wait(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    server, listener = pair.server, listen(pair.server)
    peer, stranger = RawPeer(server, pair.client), RawPeer(server, pair.client)

    def let_in(who: RawPeer = peer) -> bool:
        return answered_syns(who, listener, [CLOCK - BEHIND]) == 1

    server.sysctl[RECYCLE] = 1
    with claim.effect("a client comes and goes; SYNs of its address with a lower timestamp follow") as effect:
        came = time.monotonic()
        come_and_go(peer.connection(listener), listener, CLOCK)
        effect.compare("answered while there is TIME-WAIT", let_in(), document=False)
        effect.premise("TIME-WAIT lasts, in seconds", lasted(server, came), at_most(1 + LATE))
        for later in (2, 10, 30, 55):
            let_clock_reach(came + later, what="the next SYN's time")
            effect.compare(f"answered {later} s after the client", let_in(), document=True, kernel=False)
        effect.premise("SYNs of another address, answered", let_in(stranger), True)
        until(let_in, deadline=MINUTE, what="a SYN to be answered")
        after = seconds(time.monotonic() - came)
        # Whole seconds of the clock are compared, hence the one below.
        kernel = between(MINUTE - 1, MINUTE + 1 + LATE)
        effect.compare("answered for the first time after, in seconds", after, document=at_most(3), kernel=kernel)
    with claim.control("tcp_tw_recycle 0: the same") as control:
        server.sysctl[RECYCLE] = 0
        come_and_go(peer.connection(listener), listener, CLOCK + BEHIND)
        control.expect("TIME-WAITs", count(server, "state time-wait"), 1)
        control.expect("answered", let_in(), True)


@pytest.mark.claim("tw-recycle.hard-to-observe")
@pytest.mark.slow(70 if THERE else 1)
def test_hard_to_observe(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    listener = listen(pair.server)

    def share(every: float, looks: int) -> float:
        """How often is one seen? Four looks a second, and a connection that comes and goes `every` so many seconds."""
        began, connections, seen = time.monotonic(), 0, 0
        for look in range(looks):
            let_clock_reach(began + look / 4, what="the next look's time")
            while connections * every <= look / 4:
                leave_time_wait(pair.client, listener, closer="server")
                connections += 1
            seen += bool(count(pair.server, "state time-wait"))
        return seen / looks

    with claim.effect("tcp_tw_recycle 1: a connection every 10 s") as effect:
        pair.server.sysctl[RECYCLE] = 1
        effect.compare("share of the looks that show a TIME-WAIT", share(10, 120), document=at_most(0.2))
        # It is the rate that decides: 0.7 s of each connection are seen.
        effect.premise("share with a connection every 0.5 s", share(0.5, 20), 1.0)
    with claim.control("tcp_tw_recycle 0: a connection every 10 s") as control:
        pair.server.sysctl[RECYCLE] = 0
        control.expect("share of the looks that show a TIME-WAIT", share(10, 60), 1.0)
