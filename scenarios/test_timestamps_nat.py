"""TCP timestamps behind NAT: a SYN that comes through a port of the gateway's which had another clock before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.lifetimes import seconds_left
from harness.instruments.outside_port import OutsidePort
from harness.instruments.shared_address import shift_clock
from harness.laws import since
from harness.laws.ranges import at_least, at_most, between
from harness.laws.timers import syn_waits
from harness.laws.timestamps import offsets_to_one_address
from harness.observe.paws import rejected
from harness.traffic import listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import BehindNat

RFC1337, SYN_RETRIES = "net.ipv4.tcp_rfc1337", "net.ipv4.tcp_syn_retries"
BEHIND = 1_000_000
# What passes until the SYN-ACK: at once; or the server answers from its TIME-WAIT, which the client's RST ends.
AT_ONCE, SECOND_SYN = ["S", "SA"], ["S", "A", "R", "S", "SA"]
# Where each connection has an offset of its own, half of them have an older timestamp than the one before.
TRIES, ENOUGH = 16, 2


@pytest.mark.claim("timestamps.nat-meets-an-older-clock")
def test_nat_meets_an_older_clock(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat(3)
    usual, steady, behind = net.clients
    shift_clock(steady, 0)
    shift_clock(behind, -BEHIND)
    port = OutsidePort(net, listen(net.server), claim.capture(net.server))
    several = offsets_to_one_address(2) != 1
    with claim.effect("one client comes again and again, each time from another port of its own") as effect:
        port.visit(usual)
        older = visits = 0
        while visits < TRIES and older < ENOUGH:
            visits, older = visits + 1, older + port.visit(usual).is_older
        effect.compare("times that it is older than before", older, document=ENOUGH, kernel=ENOUGH if several else 0)
        effect.note("visits", visits)
    with claim.control("a client whose timestamps have no offsets, with tcp_timestamps 2") as control:
        port.visit(steady)
        later = [port.visit(steady) for _ in range(TRIES)]
        control.expect("times that it is older than before", sum(visit.is_older for visit in later), 0)
    with claim.control("another one after it, whose clock is behind") as control:
        control.expect("it is older", port.visit(behind).is_older, True)


@pytest.mark.claim("timestamps.nat-two-clocks")
def test_nat_two_clocks(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    first, behind = net.clients
    for client, ticks in ((first, 0), (behind, -BEHIND)):
        shift_clock(client, ticks)
    server = net.server
    port = OutsidePort(net, listen(server), claim.capture(server))
    at_once = since("stray-ack-has-the-syn-resent")
    with claim.effect(
        "two clients in turn come through one port outside, and the second one's clock is behind"
    ) as effect:
        for _ in range(3):
            port.leave_time_wait(first)
            visit = port.visit(behind)
            effect.compare("connect()", visit.result, document="connected")
            effect.compare("what the server sees and sends until its SYN-ACK", visit.opening, document=SECOND_SYN)
            took = seconds(visit.until_answered)
            effect.compare("connect() takes, in seconds", took, document=at_most(0.9) if at_once else between(0.9, 3))
        effect.compare("SYNs refused for their timestamp", rejected(effect.delta(server)), document=3)
    with claim.control("the same, the other way round: the one behind comes first") as control:
        for _ in range(3):
            port.leave_time_wait(behind)
            control.expect("what the server sees and sends", port.visit(first).opening, AT_ONCE)
    with claim.control("the one behind comes through another port") as control:
        port.leave_time_wait(first)
        port.change(port.number + 1)
        control.expect("what the server sees and sends", port.visit(behind).opening, AT_ONCE)


@pytest.mark.slow(16)
@pytest.mark.claim("timestamps.nat-rfc1337-shuts-out")
def test_nat_rfc1337_shuts_out(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    first, behind = net.clients
    for client, ticks in ((first, 0), (behind, -BEHIND)):
        shift_clock(client, ticks)
    server = net.server
    server.sysctl[RFC1337] = 1
    # Where a SYN's patience is reckoned from 200 ms, two retries are one.
    behind.sysctl[SYN_RETRIES] = next(retries for retries in (2, 3, 4) if len(syn_waits(retries)) > 2)
    port = OutsidePort(net, listen(server), claim.capture(server))
    with claim.effect(
        "tcp_rfc1337 1 at the server; a client whose clock is behind comes through the same port"
    ) as effect:
        port.leave_time_wait(first)
        ends = time.monotonic() + seconds_left(server, port.number)
        visit = port.visit(behind, deadline=150)
        effect.compare("connect()", visit.result, document="ETIMEDOUT")
        effect.compare("its SYNs", len(visit.syns), document=at_least(3))
        effect.compare("answered with SYN-ACK", sum(segment.flags == "SA" for segment in visit.seen), document=0)
        later = seconds(time.monotonic() + seconds_left(server, port.number) - ends)
        effect.compare("its SYNs have put off the end of TIME-WAIT by, in seconds", later, document=at_least(2))
    with claim.control("tcp_rfc1337 0, the default") as control:
        server.sysctl[RFC1337] = 0
        visit = port.visit(behind)
        control.expect("connect()", visit.result, "connected")
        control.expect("what the server sees and sends", visit.opening, SECOND_SYN)
